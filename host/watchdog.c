/* watchdog.c - see watchdog.h.
 *
 * The watchdog's thread compares the records of the threads with what it saw
 * before; the signal handler, on the watched thread itself, sets the hook only
 * if the step still has the number that was judged.
 *
 * A thread whose processor is not running, as a hypervisor's may be for seconds,
 * uses CPU time all the same.  So a step that has used its budget may still do
 * some instructions: what has only been held up comes to its end.
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
#include "step.h"

enum {
  TICK_MS = 10,
  IDLE_TICKS = 100,             /* without a step: the watchdog sleeps */
  GRACE = 1000 * 1000,          /* Lua's instructions: some milliseconds */
};

__thread struct watched *watchdog_self;
atomic_bool watchdog_awake;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t poke = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct watched *threads;
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

static void arm(lua_State *co, int instructions);

/* Stops the coroutine.  Yields where it may: an error could be caught by pcall,
 * a yield cannot.  An error stays armed until the step is over. */
static void hook(lua_State *L, lua_Debug *ar)
{
  struct state *st = watchdog_self->state;

  (void)ar;
  if (st->over_limit && !st->stop) {
    st->over_limit = false;
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (st->used > st->limit && !st->stop)
      st->stop = STOP_MEMORY;
  } else if (!st->stop && watchdog_self->warned == watchdog_self->step) {
    st->stop = STOP_TIME;
  }
  if (!st->stop) {              /* or left over from a step that has ended */
    lua_sethook(L, NULL, 0, 0);
  } else if (lua_isyieldable(L)) {
    lua_sethook(L, NULL, 0, 0);
    lua_yield(L, 0);
  } else {
    arm(L, 1);
    watchdog_push_reason(L, st, st->stop);
    lua_error(L);
  }
}

static void arm(lua_State *co, int instructions)
{
  lua_sethook(co, hook, LUA_MASKCOUNT, instructions);
}

void watchdog_short_of_memory(struct state *st)
{
  struct watched *w = watchdog_self;

  if (w && w->co && w->state == st) {
    st->over_limit = true;
    arm(w->co, 1);
  }
}

static void on_signal(int sig)
{
  struct watched *w = watchdog_self;
  int saved = errno;
  lua_State *co;

  (void)sig;
  if (w && (co = w->co) && w->step == w->target) {
    if (w->warned != w->target) {
      w->warned = w->target;
      arm(co, w->state->over_limit ? 1 : GRACE);
    } else {                    /* a budget later: it is elsewhere than in co */
      w->state->stop = STOP_TIME;
      arm(co, 1);
    }
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
  } else if (w->target == step && w->warned != step) {
    w->seen_ns = now;           /* it does not run: the signal waits too */
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
      watchdog_awake = true;
    } else if (++idle == IDLE_TICKS) {
      watchdog_awake = false;   /* one more tick, for an entry that missed it */
    } else if (idle > IDLE_TICKS) {
      while (!watchdog_awake)
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

void watchdog_rouse(void)
{
  pthread_once(&once, start);
  pthread_mutex_lock(&mutex);
  watchdog_awake = true;
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

struct watchdog_mark watchdog_enter(struct state *st, lua_State *co)
{
  struct watchdog_mark before = { .inside = st->inside, .stop = st->stop };

  st->inside = true;
  st->stop = STOP_NOT;
  if (!watchdog_self && !(watchdog_self = enlist()))
    return before;
  before.co = watchdog_self->co;
  before.state = watchdog_self->state;
  atomic_store_explicit(&watchdog_self->patience, st->patience,
                        memory_order_relaxed);
  step_switch(watchdog_self, st, co);
  if (!watchdog_awake)
    watchdog_rouse();
  return before;
}

enum watchdog_stop watchdog_leave(struct state *st,
                                  struct watchdog_mark before)
{
  enum watchdog_stop stop = STOP_NOT;
  lua_State *co;

  if (watchdog_self) {
    co = watchdog_self->co;
    step_switch(watchdog_self, before.state, before.co);
    stop = step_settle(st, co);
  }
  st->stop = before.stop;
  st->inside = before.inside;
  return stop;
}

bool watchdog_stopping(void)
{
  const struct watched *w = watchdog_self;

  return w && w->co && w->state->stop != STOP_NOT;
}

lua_State *watchdog_switch(lua_State *co)
{
  struct watched *w = watchdog_self;
  lua_State *before;

  if (!w || !w->co)
    return NULL;
  before = w->co;
  atomic_store_explicit(&w->co, co, memory_order_relaxed);
  if (w->state->stop || w->state->over_limit)
    arm(co, 1);
  return before;
}

void watchdog_forget(void)
{
  struct watched *w = watchdog_self, **at;

  if (!w)
    return;
  pthread_mutex_lock(&mutex);
  for (at = &threads; *at; at = &(*at)->next)
    if (*at == w) {
      *at = w->next;
      break;
    }
  pthread_mutex_unlock(&mutex);
  free(w);
  watchdog_self = NULL;
}
