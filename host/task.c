/* task.c - see task.h.
 *
 * Tasks are pooled together with their coroutines.  A coroutine that ended
 * well is entered again as it is; one that was cancelled is reset first; one
 * that failed is reset and dropped, since Lua may have left it with its hooks
 * switched off.
 */
#include "task.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "bind_wait.h"
#include "device.h"
#include "state.h"
#include "watchdog.h"

enum {
  POOL_MAX = 256,               /* idle coroutines kept by one state */
  OPENING = 40,                 /* watchdog budgets for a step of open */
};

static __thread struct task *running;

struct task *task_running(void)
{
  return running;
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
  return t;
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
  if (!t->co) {
    t->co = lua_newthread(st->L);
    t->co_ref = luaL_ref(st->L, LUA_REGISTRYINDEX);
  }
  t->dev = dev;
  t->cmd = cmd;
  t->done = done;
  t->arg = arg;
  t->parent = NULL;
  t->started = t->waiting = t->listed = t->locks = false;
  t->disarm = NULL;
  t->wait = NULL;
  return t;
}

static void drop_coroutine(struct task *t)
{
  luaL_unref(t->state->L, LUA_REGISTRYINDEX, t->co_ref);
  t->co = NULL;
}

static void put_back(struct task *t)
{
  struct state *st = t->state;

  if (st->idle_count >= POOL_MAX) {
    if (t->co)
      drop_coroutine(t);
    free(t);
    return;
  }
  t->next_idle = st->idle;
  st->idle = t;
  st->idle_count++;
}

void task_pool_free(struct state *st)
{
  struct task *t;

  while ((t = st->idle)) {
    st->idle = t->next_idle;
    if (t->co)
      drop_coroutine(t);
    free(t);
  }
  st->idle_count = 0;
}

/* Runs the pending <close> variables of a coroutine that did not end well. */
static bool reset(struct task *t)
{
  struct task *before = running;
  struct watchdog_mark mark;
  int rc;

  running = t;
  t->state->inside = true;
  mark = watchdog_enter(t->state, t->co);
  rc = lua_resetthread(t->co);
  watchdog_leave(mark);
  t->state->inside = t->state->struck = false;
  running = before;
  return rc == LUA_OK;
}

static void end(struct task *t, enum task_end how, lua_State *results)
{
  struct task *child;

  while ((child = LIST_FIRST(&t->children)))
    task_cancel(child);
  if (t->listed)
    LIST_REMOVE(t, sibling);
  if (t->locks)
    wait_release_locks(t->dev, t);
  t->done(t, how, results);
  if (t->co)
    lua_settop(t->co, 0);
  state_stir(t->state);
  put_back(t);
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

/* `message` is the host's own reason; NULL: the error object is on co. */
static void fail(struct task *t, const char *message)
{
  lua_State *L = t->state->L;
  int top = lua_gettop(L);

  lua_checkstack(L, 8);
  if (message)
    lua_pushstring(L, message);
  else
    lua_xmove(t->co, L, 1);
  lua_pushcfunction(L, explain);
  lua_pushlightuserdata(L, t->co);
  lua_pushvalue(L, -3);
  if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  reset(t);
  drop_coroutine(t);
  end(t, TASK_FAILED, L);
  lua_settop(L, top);
}

static void step(struct task *t)
{
  struct state *st = t->state;
  struct task *before = running;
  struct watchdog_mark mark;
  int nargs = t->nargs, nres = 0, rc;
  bool struck;

  running = t;
  t->started = true;
  t->waiting = false;
  t->disarm = NULL;
  st->inside = true;
  st->patience = t->dev && t->dev->phase == DEVICE_OPENING ? OPENING : 1;
  mark = watchdog_enter(st, t->co);
  rc = lua_resume(t->co, NULL, nargs, &nres);
  watchdog_leave(mark);
  struck = st->struck;
  st->inside = st->struck = false;
  running = before;

  switch (rc) {
  case LUA_OK:
    end(t, TASK_OK, t->co);
    return;
  case LUA_YIELD:
    lua_pop(t->co, nres);
    if (t->waiting)
      state_stir(st);
    else if (struck)
      fail(t, "stopped: more CPU time in one step than the watchdog allows");
    else
      fail(t, "a yield with no wait armed: use tcmu.sleep or tcmu.await");
    return;
  default:
    fail(t, NULL);
  }
}

static void resume_job(struct job *j)
{
  step((struct task *)((char *)j - offsetof(struct task, job)));
}

void task_run(struct task *t, int nargs)
{
  t->nargs = nargs;
  step(t);
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
    luaL_error(L, "%s: may not wait inside a sort comparator, a gsub "
               "callback or a <close> handler of a failed command", what);
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

void task_cancel(struct task *t)
{
  struct task *child;

  if (!t || t == running)
    return;
  shard_forget(t->state->shard, &t->job);
  if (t->disarm)
    t->disarm(t);
  t->disarm = NULL;
  t->waiting = false;
  while ((child = LIST_FIRST(&t->children)))
    task_cancel(child);
  if (t->started ? !reset(t) : false)
    drop_coroutine(t);
  end(t, TASK_CANCELLED, t->co);
}
