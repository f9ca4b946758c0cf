/* watchdog.h - stops Lua code that computes for too long.
 *
 * A thread looks at every watched thread now and then.  If the same step is
 * running and the thread has used more CPU time than the budget, it gets a
 * signal, whose handler sets a hook on the coroutine that runs; some milliseconds
 * of computing later the hook yields, so that the step ends with its stack
 * intact even under pcall.
 * Between commands, and while all shards are idle, it costs nothing.
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

/* Brackets one entry into a handler's code on this thread, on which its limits
 * apply; nests.  `co` is the coroutine that runs.  watchdog_leave() takes what
 * watchdog_enter() had returned.  For entries from the loop step.h has the same
 * at less cost. */
struct watchdog_mark {
  lua_State *co;
  struct state *state;
  bool inside;
  enum watchdog_stop stop;
};
struct watchdog_mark watchdog_enter(struct state *st, lua_State *co);
enum watchdog_stop watchdog_leave(struct state *st,
                                  struct watchdog_mark before);

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
