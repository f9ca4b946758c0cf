/* step.h - the two ends of a step: the watchdog's brackets around an entry into
 * a handler's code from the loop.
 *
 * Inline, since every command that Lua answers goes through both.  Per thread
 * there is a record: a step number that changes at every entry into Lua and
 * every return into other Lua code, and the coroutine that runs.  See watchdog.c
 * for who reads it.
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
  _Atomic unsigned long warned; /* the step that has heard of it */

  struct watched *next;
  pthread_t thread;
  clockid_t cpu;
  unsigned long seen;           /* the watchdog's: step and CPU time then */
  long long seen_ns;
};

/* This thread's record; NULL before its first step. */
extern __thread struct watched *watchdog_self
  __attribute__((visibility("hidden")));

/* The watchdog's thread looks. */
extern atomic_bool watchdog_awake __attribute__((visibility("hidden")));

/* Makes the watchdog's thread look again. */
void watchdog_rouse(void);

/* The number first: a signal for the step before finds that it is over.  It is
 * the thread's own to write, so plain stores are enough, in an order that the
 * signal's handler, on this thread, may rely on. */
static inline void step_switch(struct watched *w, struct state *st,
                               lua_State *co)
{
  unsigned long step;

  step = atomic_load_explicit(&w->step, memory_order_relaxed);
  atomic_store_explicit(&w->step, step + 1, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
  w->state = st;
  atomic_signal_fence(memory_order_seq_cst);
  atomic_store_explicit(&w->co, co, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
}

/* Begins a step on this thread, in which the handler's limits apply; `co` is the
 * coroutine that runs.  False: other Lua code is running, or this is the
 * thread's first step; see watchdog_enter(). */
static inline bool step_begin(struct state *st, lua_State *co)
{
  struct watched *w = watchdog_self;

  if (!w || atomic_load_explicit(&w->co, memory_order_relaxed))
    return false;
  st->inside = true;
  atomic_store_explicit(&w->patience, st->patience, memory_order_relaxed);
  step_switch(w, st, co);
  if (!atomic_load_explicit(&watchdog_awake, memory_order_relaxed))
    watchdog_rouse();
  return true;
}

/* Takes the stop, if there was one, out of the coroutine and returns why. */
static inline enum watchdog_stop step_settle(struct state *st, lua_State *co)
{
  enum watchdog_stop stop = st->stop;

  if (stop || st->over_limit) {
    lua_sethook(co, NULL, 0, 0);
    st->stop = STOP_NOT;
    st->over_limit = false;
  }
  return stop;
}

/* Ends it; returns why it was stopped. */
static inline enum watchdog_stop step_end(struct state *st)
{
  struct watched *w = watchdog_self;
  lua_State *co = atomic_load_explicit(&w->co, memory_order_relaxed);

  atomic_store_explicit(&w->co, NULL, memory_order_relaxed);
  atomic_signal_fence(memory_order_seq_cst);
  st->inside = false;
  return step_settle(st, co);
}

#endif
