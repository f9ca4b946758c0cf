/* step.h - the two ends of a step: the watchdog's brackets around each entry
 * into a handler's code.
 *
 * Inline, since every command that Lua answers goes through both.  Per thread
 * there is a record: a step number that changes at every entry into Lua and
 * every return, and the coroutine that runs.  See watchdog.c for who reads it.
 */
#ifndef STEP_H
#define STEP_H

#include <lua.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "state.h"
#include "watchdog.h"

struct watched {
  _Atomic unsigned long step;
  lua_State *_Atomic co;        /* NULL outside of Lua */
  struct state *volatile state;
  _Atomic unsigned patience;    /* budgets that this step may use */
  _Atomic unsigned long target; /* the step that is to be stopped */

  struct watched *next;
  pthread_t thread;
  clockid_t cpu;
  unsigned long seen;           /* the watchdog's: step and CPU time then */
  long long seen_ns;
};

/* What watchdog_enter() interrupts; for watchdog_leave(). */
struct watchdog_mark {
  lua_State *co;
  struct state *state;
  bool inside;
  enum watchdog_stop stop;
};

/* This thread's record; NULL before its first step. */
extern __thread struct watched *watchdog_self
  __attribute__((visibility("hidden")));

/* The watchdog's thread looks. */
extern atomic_bool watchdog_awake __attribute__((visibility("hidden")));

/* Makes this thread's record; NULL: no memory. */
struct watched *watchdog_enlist(void);

/* Makes the watchdog's thread look again. */
void watchdog_rouse(void);

/* The number first: a signal for the step before finds that it is over.  It is
 * the thread's own to write, so a plain store is enough. */
static inline void step_switch(struct watched *w, struct state *st,
                               lua_State *co)
{
  unsigned long step;

  step = atomic_load_explicit(&w->step, memory_order_relaxed);
  atomic_store_explicit(&w->step, step + 1, memory_order_relaxed);
  w->state = st;
  atomic_store_explicit(&w->co, co, memory_order_relaxed);
}

/* Brackets one entry into a handler's code on this thread, on which its limits
 * apply; nests.  `co` is the coroutine that runs. */
static inline struct watchdog_mark watchdog_enter(struct state *st,
                                                  lua_State *co)
{
  struct watchdog_mark before = { .inside = st->inside, .stop = st->stop };
  struct watched *w = watchdog_self;

  st->inside = true;
  st->stop = STOP_NOT;
  if (!w && !(w = watchdog_enlist()))
    return before;
  before.co = atomic_load_explicit(&w->co, memory_order_relaxed);
  before.state = w->state;
  atomic_store_explicit(&w->patience, st->patience, memory_order_relaxed);
  step_switch(w, st, co);
  if (!atomic_load_explicit(&watchdog_awake, memory_order_relaxed))
    watchdog_rouse();
  return before;
}

/* Takes what watchdog_enter() had returned; why the step was stopped. */
static inline enum watchdog_stop watchdog_leave(struct state *st,
                                                struct watchdog_mark before)
{
  struct watched *w = watchdog_self;
  enum watchdog_stop stop;
  lua_State *co;

  if (w) {
    co = atomic_load_explicit(&w->co, memory_order_relaxed);
    step_switch(w, before.state, before.co);
    if (st->stop || st->over_limit)
      lua_sethook(co, NULL, 0, 0);
  }
  stop = st->stop;
  st->stop = before.stop;
  st->inside = before.inside;
  st->over_limit = false;
  return stop;
}

#endif
