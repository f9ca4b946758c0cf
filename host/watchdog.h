/* watchdog.h - stops Lua code that computes for too long.
 *
 * A thread looks at every watched thread now and then.  If the same step is
 * running and the thread has used more CPU time than the budget, it gets a
 * signal, whose handler sets a hook on the coroutine that runs; the hook
 * yields, so that the step ends with its stack intact even under pcall.
 * Between commands, and while all shards are idle, it costs nothing.  Who
 * enters a handler's code does it between the two calls of step.h.
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <lua.h>
#include <stdbool.h>

struct state;

enum { WATCHDOG_BUDGET_MS = 50 };

/* CPU time that one step may use; 0 switches the watchdog off. */
void watchdog_set_budget(unsigned ms);

/* Why a step was stopped. */
enum watchdog_stop { STOP_NOT, STOP_TIME, STOP_MEMORY };

/* Pushes a sentence about it. */
void watchdog_push_reason(lua_State *L, const struct state *st,
                          enum watchdog_stop stop);

/* A coroutine of the handler's own takes over, or gives back. */
lua_State *watchdog_switch(lua_State *co);

/* True if the running step is to end: what a coroutine of the handler's own
 * has yielded was the stop. */
bool watchdog_stopping(void);

/* Makes the running code stop at its next instruction, unless a collection of
 * garbage brings the state below its memory limit. */
void watchdog_short_of_memory(struct state *st);

/* The calling thread leaves for good. */
void watchdog_forget(void);

#endif
