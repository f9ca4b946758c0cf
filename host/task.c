/* task.c - see task.h.
 *
 * Tasks are pooled together with their coroutines.  A coroutine that ended
 * well is entered again as it is; one that was cancelled is reset first; one
 * that failed is reset and dropped, since Lua may have left it with its hooks
 * switched off.
 *
 * Most commands end in the step in which they begin, so that task_again(),
 * task_try() and task_over() decide what a command costs.
 */
#include "task.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "bind_wait.h"
#include "cmd.h"
#include "device.h"
#include "log.h"
#include "state.h"
#include "step.h"

enum {
  POOL_MAX = 256,               /* idle coroutines kept by one state */
  PATIENCE = 40,                /* watchdog budgets for a step of an open or an
                                   upgrade */
};

static __thread struct task *running;

struct task *task_running(void)
{
  return running;
}

/* The task of a coroutine: in its extra space, which is NULL for all others. */
static struct task **slot(lua_State *co)
{
  return lua_getextraspace(co);
}

bool task_owns(lua_State *co)
{
  return *slot(co) != NULL;
}

static void resume_job(struct job *j);

static struct task *make(struct state *st)
{
  struct task *t = calloc(1, sizeof(*t));

  if (!t)
    return NULL;
  t->state = st;
  t->job.run = resume_job;
  LIST_INIT(&t->children);
  LIST_INIT(&t->requests);
  return t;
}

/* Often called from inside a handler, but st->L has no protected call that
 * could catch a refusal of the memory limit: the limit does not apply. */
static void make_coroutine(struct task *t)
{
  struct state *st = t->state;
  bool inside = st->inside;

  st->inside = false;
  t->co = lua_newthread(st->L);
  *slot(t->co) = t;
  t->co_ref = luaL_ref(st->L, LUA_REGISTRYINDEX);
  st->inside = inside;
}

static void keep_nothing(struct task *t)
{
  if (t->co)
    lua_settop(t->co, 0);
  t->kept = 0;
  t->kept_for = NULL;
}

void task_keep(struct task *t, const void *kept_for, uint64_t kept_when)
{
  t->kept = lua_gettop(t->co);
  t->kept_for = kept_for;
  t->kept_when = kept_when;
}

struct task *task_new(struct state *st, struct device *dev, struct cmd *cmd,
                      task_done *done, void *arg)
{
  struct task *t = st->idle;

  if (t) {
    st->idle = t->next_idle;
    st->idle_count--;
  } else if (!(t = make(st))) {
    return NULL;
  }
  if (!t->co)
    make_coroutine(t);
  if (t->kept_for)
    keep_nothing(t);
  t->dev = dev;
  t->cmd = cmd;
  t->done = done;
  t->arg = arg;
  t->parent = NULL;
  t->started = t->waiting = t->listed = t->locks = t->cancelled = false;
  t->awaited = false;
  t->disarm = t->hurry = NULL;
  return t;
}

static void drop_coroutine(struct task *t)
{
  luaL_unref(t->state->L, LUA_REGISTRYINDEX, t->co_ref);
  t->co = NULL;
  t->kept = 0;
  t->kept_for = NULL;
}

__attribute__((noinline))
static void discard(struct task *t)
{
  if (t->co)
    drop_coroutine(t);
  free(t);
}

static void put_back(struct task *t)
{
  struct state *st = t->state;

  if (st->idle_count >= POOL_MAX) {
    discard(t);
    return;
  }
  t->next_idle = st->idle;
  st->idle = t;
  st->idle_count++;
}

void task_pool_empty(struct state *st)
{
  struct task *t;

  for (t = st->idle; t; t = t->next_idle)
    if (t->kept_for)
      keep_nothing(t);
}

void task_pool_free(struct state *st)
{
  struct task *t;

  while ((t = st->idle)) {
    st->idle = t->next_idle;
    discard(t);
  }
  st->idle_count = 0;
}

static unsigned patience(const struct task *t)
{
  const struct device *d = t->dev;

  return !t->cmd && (d->phase == DEVICE_OPENING || d->held) ? PATIENCE : 1;
}

/* Resumes the coroutine, or runs its pending <close> variables, whatever else
 * is running. */
__attribute__((noinline))
static int enter(struct task *t, bool resume, enum watchdog_stop *stopped)
{
  struct task *before = running;
  struct watchdog_mark mark;
  int rc;

  running = t;
  mark = watchdog_enter(t->state, t->co);
  rc = resume ? lua_resume(t->co, NULL, t->nargs, &t->nres)
              : lua_resetthread(t->co);
  *stopped = watchdog_leave(t->state, mark);
  running = before;
  return rc;
}

static int reset(struct task *t, enum watchdog_stop *stopped)
{
  t->state->patience = patience(t);
  return enter(t, false, stopped);
}


static void end(struct task *t, enum task_end how, lua_State *results)
{
  if (t->listed)
    LIST_REMOVE(t, sibling);
  if (t->locks)
    wait_release_locks(t->dev, t);
  t->done(t, how, results);
  if (how != TASK_OK)
    t->nres = 0;                /* they are gone with the coroutine's stack */
  task_over(t);
}

/* Runs protected on the main coroutine, with the failed one as a light
 * userdata and the error object: leaves the object and a traceback. */
static int explain(lua_State *L)
{
  lua_State *co = lua_touserdata(L, 1);
  const char *text = NULL;

  if (lua_type(L, 2) == LUA_TSTRING || lua_type(L, 2) == LUA_TNUMBER)
    text = lua_tostring(L, 2);
  luaL_traceback(L, co, text, 0);
  return 1;
}

/* Pushes the error object, which its <close> variables need as well. */
static void push_error(struct task *t, lua_State *L)
{
  lua_checkstack(t->co, 1);
  lua_pushvalue(t->co, -1);
  lua_xmove(t->co, L, 1);
}

/* `stopped`: the reason is the host's own, or else the error object lies on
 * t->co.  Lua leaves a coroutine without hooks if one of them has raised: its
 * <close> variables could not be stopped and do not run. */
__attribute__((cold))
static void fail(struct task *t, enum watchdog_stop stopped, const char *why)
{
  lua_State *L = t->state->L;
  int top = lua_gettop(L);
  enum watchdog_stop again;

  lua_checkstack(L, 8);
  if (why)
    lua_pushstring(L, why);
  else if (lua_status(t->co) == LUA_YIELD)
    watchdog_push_reason(L, t->state, stopped);
  else
    push_error(t, L);
  lua_pushcfunction(L, explain);
  lua_pushlightuserdata(L, t->co);
  lua_pushvalue(L, -3);
  if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  if (!stopped || lua_status(t->co) == LUA_YIELD)
    reset(t, &again);
  drop_coroutine(t);
  end(t, TASK_FAILED, L);
  lua_settop(L, top);
}

/* A step has not ended the task well: it waits, or has failed. */
__attribute__((noinline))
static void unfinished(struct task *t, int rc, enum watchdog_stop stopped)
{
  if (rc != LUA_YIELD) {
    fail(t, stopped, NULL);
    return;
  }
  lua_pop(t->co, t->nres);
  if (t->waiting)
    state_stir(t->state);
  else
    fail(t, stopped, stopped ? NULL : "a yield with no wait armed: use "
         "tcmu.sleep or tcmu.await");
}

bool task_try(struct task *t, int nargs)
{
  struct state *st = t->state;
  enum watchdog_stop stopped;
  int rc;

  t->started = true;
  t->nargs = nargs;
  st->patience = patience(t);
  if (step_begin(st, t->co)) {  /* from the loop, as nearly always */
    running = t;
    rc = lua_resume(t->co, NULL, nargs, &t->nres);
    running = NULL;
    stopped = step_end(st);
  } else {
    rc = enter(t, true, &stopped);
  }
  if (rc != LUA_OK) {
    unfinished(t, rc, stopped);
    return false;
  }
  t->nres -= t->kept;           /* Lua counts what lay there before */
  return true;
}

void task_over(struct task *t)
{
  while (!LIST_EMPTY(&t->requests))
    task_request_over(LIST_FIRST(&t->requests));
  if (t->nres)
    lua_settop(t->co, t->kept);
  state_stir(t->state);
  put_back(t);
}

/* The end of a cancelled task. */
static void break_off(struct task *t)
{
  enum watchdog_stop stopped;
  const char *text;

  if (t->started && reset(t, &stopped) != LUA_OK) {
    text = lua_type(t->co, -1) == LUA_TSTRING ? lua_tostring(t->co, -1)
                                              : luaL_typename(t->co, -1);
    log_error(t->dev->name, "in a <close> variable of something that was "
              "cancelled: %s", text);
    drop_coroutine(t);
  }
  keep_nothing(t);         /* the arguments, if it has not begun */
  end(t, TASK_CANCELLED, t->co);
}

static void resume_job(struct job *j)
{
  struct task *t = (struct task *)((char *)j - offsetof(struct task, job));

  t->waiting = false;
  t->disarm = t->hurry = NULL;
  if (t->cmd && cmd_is_void(t->cmd))    /* its data are not its own any more */
    t->cancelled = true;
  if (!t->cancelled)
    task_run(t, t->nargs);
  else if (LIST_EMPTY(&t->requests))
    break_off(t);               /* or else task_let_end() will come */
}

void task_run(struct task *t, int nargs)
{
  if (task_try(t, nargs))
    end(t, TASK_OK, t->co);
}

void task_run_later(struct task *t, int nargs)
{
  t->nargs = nargs;
  shard_later(t->state->shard, &t->job);
}

struct task *task_waiter(lua_State *L, const char *what)
{
  struct task *t = running;

  if (!t || t->co != L)
    luaL_error(L, "%s: may wait only inside a command, open, close or "
               "tcmu.spawn, and not in a coroutine of your own", what);
  if (!lua_isyieldable(L))
    luaL_error(L, "%s: may not wait where C calls Lua: a sort comparator, a "
               "gsub callback, the function given to tcmu.await, or a <close> "
               "variable of a command that failed or was cancelled", what);
  return t;
}

int task_wait(lua_State *L, struct task *t, void (*disarm)(struct task *),
              lua_KFunction k)
{
  t->waiting = true;
  t->disarm = disarm;
  return lua_yieldk(L, 0, (lua_KContext)t, k);
}

void task_wake(struct task *t, int nargs)
{
  t->disarm = NULL;
  task_run_later(t, nargs);
}

void task_cancel_all(struct task_list *list)
{
  struct task *t, *next;

  for (t = LIST_FIRST(list); t; t = next) {
    next = LIST_NEXT(t, sibling);
    task_cancel(t);
  }
}

void task_cancel(struct task *t)
{
  if (!t || t->cancelled)
    return;
  t->cancelled = true;
  task_cancel_all(&t->children);
  if (t->waiting && !t->job.queued && !t->disarm) {
    if (t->hurry)
      t->hurry(t);
    return;                     /* task_wake() will come */
  }
  if (!LIST_EMPTY(&t->requests))
    return;                     /* task_let_end() will come */
  if (t->job.queued)
    shard_forget(t->state->shard, &t->job);
  else if (t->disarm)
    t->disarm(t);
  break_off(t);
}

void task_request_begin(struct task *t, struct task_request *r)
{
  r->task = t;
  LIST_INSERT_HEAD(&t->requests, r, link);
}

struct task *task_request_over(struct task_request *r)
{
  struct task *t = r->task;

  if (t)
    LIST_REMOVE(r, link);
  r->task = NULL;
  return t;
}

void task_let_end(struct task *t)
{
  if (!t->cancelled || !LIST_EMPTY(&t->requests))
    return;
  if (t->waiting && !t->job.queued && !t->disarm)
    return;                     /* task_wake() will come */
  if (t->disarm)
    t->disarm(t);
  t->disarm = NULL;
  shard_later(t->state->shard, &t->job);
}
