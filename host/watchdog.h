/* watchdog.h - stops Lua code that computes for too long.
 *
 * A thread looks at every watched thread now and then.  If the same step is
 * running and the thread has used more CPU time than the budget, it gets a
 * signal, whose handler sets a hook on the coroutine that runs; the hook
 * yields, so that the step ends with its stack intact even under pcall.
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

/* Brackets one entry into Lua on this thread; nests.  `co` is the coroutine
 * that runs.  watchdog_leave() returns what watchdog_enter() had returned. */
struct watchdog_mark {
  lua_State *co;
  struct state *state;
};
struct watchdog_mark watchdog_enter(struct state *st, lua_State *co);
void watchdog_leave(struct watchdog_mark before);

/* A coroutine of the handler's own takes over, or gives back. */
lua_State *watchdog_switch(lua_State *co);

/* Makes the running code stop at its next instruction, for the reason set in
 * the state (over_limit or struck). */
void watchdog_strike(struct state *st);

/* The calling thread leaves for good. */
void watchdog_forget(void);

#endif
