/* watchdog.c - see watchdog.h.
 *
 * Per thread there is a record: a step number that changes at every entry into
 * Lua and every return, and the coroutine that runs.  The watchdog's thread
 * compares; the signal handler, on the watched thread itself, sets the hook
 * only if the step still has the number that was judged.
 *
 * What this cannot stop: a C function that does not return, a __gc method and
 * a message handler of xpcall (Lua switches hooks off in both).
 */
#include "watchdog.h"

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "state.h"

struct watched {
  struct watched *next;
  pthread_t thread;
  clockid_t cpu;
  _Atomic unsigned long step;
  _Atomic unsigned long target; /* the step that is to be stopped */
  lua_State *_Atomic co;        /* NULL outside of Lua */
  struct state *volatile state;
  _Atomic unsigned patience;    /* budgets that this step may use */

  unsigned long seen;           /* the watchdog's: step and CPU time then */
  long long seen_ns;
};

enum {
  TICK_MS = 10,
  IDLE_TICKS = 100,             /* without a step: the watchdog sleeps */
};

static __thread struct watched *self;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t poke = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct watched *threads;
static atomic_bool awake;
static _Atomic unsigned budget_ms = WATCHDOG_BUDGET_MS;

static int signal_number(void)
{
  return SIGRTMIN + 5;
}

static long long cpu_ns(clockid_t clock)
{
  struct timespec ts;

  if (clock_gettime(clock, &ts))
    return 0;
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

void watchdog_push_reason(lua_State *L, const struct state *st,
                          enum watchdog_stop stop)
{
  if (stop == STOP_MEMORY)
    lua_pushfstring(L, "stopped: memory limit, the devices of this handler use "
                    "more than %d MiB", (int)(st->limit >> 20));
  else
    lua_pushfstring(L, "stopped: more than %d ms of CPU time in one step",
                    (int)(budget_ms * st->patience));
}

/* Stops the coroutine.  Yields where it may: an error could be caught by pcall,
 * a yield cannot.  An error stays armed until the step is over. */
static void hook(lua_State *L, lua_Debug *ar)
{
  struct state *st = self->state;

  (void)ar;
  if (st->over_limit && !st->stop) {
    st->over_limit = false;
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (st->used > st->limit && !st->stop)
      st->stop = STOP_MEMORY;
  }
  if (!st->stop) {              /* or left over from a step that has ended */
    lua_sethook(L, NULL, 0, 0);
  } else if (lua_isyieldable(L)) {
    lua_sethook(L, NULL, 0, 0);
    lua_yield(L, 0);
  } else {
    watchdog_push_reason(L, st, st->stop);
    lua_error(L);
  }
}

static void arm(lua_State *co)
{
  lua_sethook(co, hook, LUA_MASKCOUNT, 1);
}

void watchdog_short_of_memory(struct state *st)
{
  if (self && self->co && self->state == st) {
    st->over_limit = true;
    arm(self->co);
  }
}

static void on_signal(int sig)
{
  int saved = errno;
  lua_State *co;

  (void)sig;
  if (self && (co = self->co) && self->step == self->target) {
    self->state->stop = STOP_TIME;
    arm(co);
  }
  errno = saved;
}

/* Judges one thread; true if it has done anything since the last look. */
static bool look(struct watched *w)
{
  unsigned long step = w->step;
  long long now;
  bool moved = step != w->seen;

  if (!w->co) {
    w->seen = step;
    return moved;
  }
  now = cpu_ns(w->cpu);
  if (moved) {
    w->seen = step;
    w->seen_ns = now;
  } else if (budget_ms &&
             now - w->seen_ns > budget_ms * 1000000LL * w->patience) {
    w->seen_ns = now;           /* strikes again if that did not help */
    w->target = step;
    pthread_kill(w->thread, signal_number());
  }
  return true;
}

static void *run(void *arg)
{
  struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
  struct watched *w;
  int idle = 0;
  bool moved;

  (void)arg;
  for (;;) {
    nanosleep(&tick, NULL);
    pthread_mutex_lock(&mutex);
    moved = false;
    for (w = threads; w; w = w->next)
      if (look(w))
        moved = true;
    if (moved) {
      idle = 0;
      awake = true;
    } else if (++idle == IDLE_TICKS) {
      awake = false;            /* one more tick, for an entry that missed it */
    } else if (idle > IDLE_TICKS) {
      while (!awake)
        pthread_cond_wait(&poke, &mutex);
      idle = 0;
    }
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void start(void)
{
  struct sigaction sa;
  pthread_t thread;
  sigset_t all, before;

  memset(&sa, 0, sizeof(sa));
  sa.sa_handler = on_signal;
  sa.sa_flags = SA_RESTART;
  sigaction(signal_number(), &sa, NULL);

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (pthread_create(&thread, NULL, run, NULL) == 0)
    pthread_detach(thread);
  else
    log_warn("watchdog", "no thread for it: runaway handlers are not stopped");
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void rouse(void)
{
  pthread_once(&once, start);
  pthread_mutex_lock(&mutex);
  awake = true;
  pthread_cond_signal(&poke);
  pthread_mutex_unlock(&mutex);
}

static struct watched *enlist(void)
{
  struct watched *w = calloc(1, sizeof(*w));

  if (!w)
    return NULL;
  w->thread = pthread_self();
  w->step = 1;                  /* `target` is 0: nothing is to be stopped */
  pthread_getcpuclockid(w->thread, &w->cpu);
  pthread_mutex_lock(&mutex);
  w->next = threads;
  threads = w;
  pthread_mutex_unlock(&mutex);
  return w;
}

void watchdog_set_budget(unsigned ms)
{
  budget_ms = ms;
}

/* The step is the thread's own to write: a plain store is enough. */
static void next_step(void)
{
  unsigned long step;

  step = atomic_load_explicit(&self->step, memory_order_relaxed);
  atomic_store_explicit(&self->step, step + 1, memory_order_relaxed);
}

/* The number first: a signal for the step before finds that it is over. */
static void set_current(struct state *st, lua_State *co)
{
  next_step();
  self->state = st;
  atomic_store_explicit(&self->co, co, memory_order_relaxed);
}

struct watchdog_mark watchdog_enter(struct state *st, lua_State *co)
{
  struct watchdog_mark before = { .inside = st->inside, .stop = st->stop };

  st->inside = true;
  st->stop = STOP_NOT;
  if (!self && !(self = enlist()))
    return before;
  before.co = self->co;
  before.state = self->state;
  atomic_store_explicit(&self->patience, st->patience, memory_order_relaxed);
  set_current(st, co);
  if (!atomic_load_explicit(&awake, memory_order_relaxed))
    rouse();
  return before;
}

enum watchdog_stop watchdog_leave(struct state *st,
                                  struct watchdog_mark before)
{
  enum watchdog_stop stop;
  lua_State *co;

  if (self) {
    co = self->co;
    set_current(before.state, before.co);
    if (st->stop || st->over_limit)
      lua_sethook(co, NULL, 0, 0);
  }
  stop = st->stop;
  st->stop = before.stop;
  st->inside = before.inside;
  st->over_limit = false;
  return stop;
}

bool watchdog_stopping(void)
{
  return self && self->state && self->state->stop != STOP_NOT;
}

lua_State *watchdog_switch(lua_State *co)
{
  lua_State *before;

  if (!self || !self->state)
    return NULL;
  before = self->co;
  atomic_store_explicit(&self->co, co, memory_order_relaxed);
  if (self->state->stop || self->state->over_limit)
    arm(co);
  return before;
}

void watchdog_forget(void)
{
  struct watched **at;

  if (!self)
    return;
  pthread_mutex_lock(&mutex);
  for (at = &threads; *at; at = &(*at)->next)
    if (*at == self) {
      *at = self->next;
      break;
    }
  pthread_mutex_unlock(&mutex);
  free(self);
  self = NULL;
}
