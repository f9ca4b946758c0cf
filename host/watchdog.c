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
  lua_State *volatile co;       /* NULL outside of Lua */
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

/* Stops the coroutine, or tells it that memory is short.  Yields where it may:
 * an error could be caught by pcall, a yield cannot. */
static void hook(lua_State *L, lua_Debug *ar)
{
  struct state *st = self->state;

  (void)ar;
  if (st->over_limit && !st->struck) {
    lua_sethook(L, NULL, 0, 0);
    st->over_limit = false;
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (st->used > st->limit)
      luaL_error(L, "memory limit: this handler uses more than %d MiB",
                 (int)(st->limit >> 20));
    return;
  }
  if (lua_isyieldable(L)) {
    lua_sethook(L, NULL, 0, 0);
    lua_yield(L, 0);
    return;
  }
  luaL_error(L, "stopped: more than %d ms of CPU time in one step",
             (int)budget_ms);
}

void watchdog_strike(struct state *st)
{
  if (self && self->co && self->state == st)
    lua_sethook(self->co, hook, LUA_MASKCOUNT, 1);
}

static void on_signal(int sig)
{
  int saved = errno;
  lua_State *co;

  (void)sig;
  if (self && (co = self->co) && self->step == self->target) {
    self->state->struck = true;
    lua_sethook(co, hook, LUA_MASKCOUNT, 1);
  }
  errno = saved;
}

/* Judges one thread; true if it has done anything since the last look. */
static bool look(struct watched *w)
{
  unsigned long step = w->step;
  long long now;
  bool moved = step != w->seen;

  if (!w->co)
    return moved;
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

struct watchdog_mark watchdog_enter(struct state *st, lua_State *co)
{
  struct watchdog_mark before = { NULL, NULL };

  if (!self && !(self = enlist()))
    return before;
  before.co = self->co;
  before.state = self->state;
  next_step();
  self->state = st;
  self->co = co;
  atomic_store_explicit(&self->patience, st->patience,
                        memory_order_relaxed);
  if (!atomic_load_explicit(&awake, memory_order_relaxed))
    rouse();
  return before;
}

void watchdog_leave(struct watchdog_mark before)
{
  struct state *st;
  lua_State *co;

  if (!self)
    return;
  co = self->co;
  st = self->state;
  self->co = before.co;
  self->state = before.state;
  next_step();
  if (st->struck || st->over_limit)
    lua_sethook(co, NULL, 0, 0);
  st->over_limit = false;
}

lua_State *watchdog_switch(lua_State *co)
{
  lua_State *before = NULL;

  if (self) {
    before = self->co;
    self->co = co;
    if (self->state && self->state->struck)
      lua_sethook(co, hook, LUA_MASKCOUNT, 1);
  }
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
