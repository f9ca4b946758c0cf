/* bind_wait.c - what a coroutine of the host can wait for: time, callbacks,
 * other coroutines, and a range of its device.  (Stores: bind_store.c.)
 *
 * Every wait disarms itself when the task is cancelled.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "bind.h"
#include "bind_wait.h"
#include "cmd.h"
#include "device.h"
#include "hold.h"
#include "lock.h"
#include "log.h"
#include "state.h"
#include "task.h"

#define WAITER "tcmu.waiter"
#define LOCK "tcmu.lock"
#define WATCH "tcmu.watch"

static void sleep_over(struct timer *timer)
{
  struct task *t = timer->arg;

  task_wake(t, 0);
}

static void sleep_disarm(struct task *t)
{
  timer_stop(&t->state->shard->timers, &t->timer);
}

/* tcmu.sleep(ms): parks this task; the others go on.  Waits. */
static int l_sleep(lua_State *L)
{
  lua_Number ms = luaL_checknumber(L, 1);
  struct task *t;

  luaL_argcheck(L, ms >= 0 && ms <= 1e12, 1, "not a sensible time in ms");
  t = task_waiter(L, "sleep");
  t->timer.fired = sleep_over;
  t->timer.arg = t;
  if (timer_start(&t->state->shard->timers, &t->timer, (uint64_t)(ms * 1e6)))
    return luaL_error(L, "sleep: out of memory");
  return task_wait(L, t, sleep_disarm, NULL);
}

/* core.now(): milliseconds, by the clock of sleep.  Does not wait. */
static int l_now(lua_State *L)
{
  struct task *t = task_running();

  if (!t)
    return luaL_error(L, "now: only inside a command, open or close");
  lua_pushinteger(L, (lua_Integer)(timers_now(&t->state->shard->timers) /
                                   1000000));
  return 1;
}

/* The function that tcmu.await hands out.  It may be called at once, later or
 * never; only the first call counts. */
struct waiter {
  struct task *task;            /* NULL: called already, or cancelled */
  bool asleep;                  /* the task has yielded */
  int nargs;                    /* of a call that came at once */
};

static void await_disarm(struct task *t)
{
  struct waiter *w = t->wait;

  w->task = NULL;
}

static int l_waiter_call(lua_State *L)
{
  struct waiter *w = luaL_checkudata(L, 1, WAITER);
  struct task *t = w->task;
  int n = lua_gettop(L) - 1;

  if (!t)
    return 0;
  if (w->asleep && !lua_checkstack(t->co, n + 1))
    return luaL_error(L, "await: too many values");
  w->task = NULL;
  w->nargs = n;
  if (!w->asleep) {             /* still in tcmu.await: it finds them there */
    lua_createtable(L, n, 0);
    lua_insert(L, 2);
    for (; n > 0; n--)
      lua_rawseti(L, 2, n);
    lua_setiuservalue(L, 1, 1);
    return 0;
  }
  lua_xmove(L, t->co, n);
  task_wake(t, n);
  return 0;
}

static int await_done(lua_State *L, int status, lua_KContext ctx)
{
  (void)status;
  (void)ctx;
  return lua_gettop(L) - 1;     /* the waiter is below them */
}

/* tcmu.await(start): calls start(done) and waits until done(...) is called,
 * by a luv callback for instance; returns what done was given.  Waits. */
static int l_await(lua_State *L)
{
  struct task *t = task_waiter(L, "await");
  struct waiter *w;
  int n, i;

  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  w = lua_newuserdatauv(L, sizeof(*w), 1);
  *w = (struct waiter){ .task = t };
  luaL_setmetatable(L, WAITER);
  lua_insert(L, 1);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  if (!w->task) {
    n = w->nargs;
    luaL_checkstack(L, n + 1, "await");
    lua_getiuservalue(L, 1, 1);
    for (i = 1; i <= n; i++)
      lua_rawgeti(L, 2, i);
    return n;
  }
  w->asleep = true;
  t->wait = w;
  return task_wait(L, t, await_disarm, await_done);
}

/* tcmu.all: each child reports here.  The parent goes on, or ends, when the
 * last of them has ended. */
struct group {
  struct task *parent;
  int left;
  bool failed;                  /* the error lies on the parent's stack */
};

static void child_done(struct task *child, enum task_end how, lua_State *L)
{
  struct group *g = child->arg;
  struct task *t = g->parent;

  g->left--;
  if (how == TASK_FAILED && !g->failed) {
    g->failed = true;
    lua_pushvalue(L, -2);
    lua_xmove(L, t->co, 1);
    task_cancel_all(&t->children);
  }
  if (!g->left && !t->job.queued)
    task_wake(t, g->failed ? 1 : 0);
}

static int all_done(lua_State *L, int status, lua_KContext ctx)
{
  struct group *g = ((struct task *)ctx)->wait;

  (void)status;
  return g->failed ? lua_error(L) : 0;
}

/* A child of `t` for the function at `arg`. */
static struct task *add_child(lua_State *L, struct task *t, struct group *g,
                              int arg)
{
  struct task *child = task_new(t->state, t->dev, t->cmd, child_done, g);

  if (!child)
    return NULL;
  child->parent = t;
  child->listed = true;
  LIST_INSERT_HEAD(&t->children, child, sibling);
  g->left++;
  lua_pushvalue(L, arg);
  lua_xmove(L, child->co, 1);
  task_run_later(child, 0);
  return child;
}

/* tcmu.all(f, g, ...): runs the functions side by side and waits for them
 * all.  The first error ends the others and is raised here once they have
 * ended.  Waits. */
static int l_all(lua_State *L)
{
  struct task *t = task_waiter(L, "all");
  int n = lua_gettop(L), i;
  struct group *g;

  for (i = 1; i <= n; i++)
    luaL_checktype(L, i, LUA_TFUNCTION);
  if (!n)
    return 0;
  luaL_checkstack(L, 4, "all");
  g = lua_newuserdatauv(L, sizeof(*g), 0);
  *g = (struct group){ .parent = t };
  for (i = 1; i <= n; i++)
    if (!add_child(L, t, g, i))
      break;
  if (i <= n) {                 /* out of memory: as if that one had failed */
    g->failed = true;
    lua_pushliteral(L, "all: out of memory");
    if (!g->left)
      return lua_error(L);
    task_cancel_all(&t->children);
  }
  t->wait = g;
  return task_wait(L, t, NULL, all_done);
}

static void spawned_done(struct task *t, enum task_end how, lua_State *L)
{
  const char *text;

  if (how == TASK_FAILED) {
    text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                          : "no traceback";
    log_error(t->dev->name, "in tcmu.spawn: %s", text);
  }
  hold_look(t->dev);
  device_quiet(t->dev);
}

static int spawn(lua_State *L, bool awaited)
{
  struct task *now = task_running(), *t;
  int nargs = lua_gettop(L) - 1;

  luaL_checktype(L, 1, LUA_TFUNCTION);
  if (!now || !now->dev)
    return luaL_error(L, "spawn: only inside a command, open or close");
  t = task_new(now->state, now->dev, NULL, spawned_done, NULL);
  if (!t || !lua_checkstack(t->co, nargs + 1))
    return luaL_error(L, "spawn: out of memory");
  t->listed = true;
  t->awaited = awaited;
  LIST_INSERT_HEAD(&now->dev->tasks, t, sibling);
  lua_xmove(L, t->co, nargs + 1);
  task_run_later(t, nargs);
  return 0;
}

/* tcmu.spawn(f, ...): runs f(...) beside the rest of the device, until it ends
 * or the device goes.  It works for no command.  Does not wait. */
static int l_spawn(lua_State *L)
{
  return spawn(L, false);
}

/* core.background(f, ...): the same for what a command has left to be done: a
 * reload waits for its end as for the command's. */
static int l_background(lua_State *L)
{
  return spawn(L, true);
}

struct lock_ud {
  struct range_lock lock;
  LIST_ENTRY(lock_ud) link;     /* of the device, until it is given back */
  struct device *dev;           /* NULL: given back */
};

static void lock_granted(struct range_lock *l)
{
  task_wake(l->arg, 0);
}

static void give_back(struct lock_ud *ud)
{
  struct device *d = ud->dev;

  if (!d)
    return;
  ud->dev = NULL;
  LIST_REMOVE(ud, link);
  lock_release(&d->locks, &ud->lock);
}

void wait_release_locks(struct device *d, const void *owner)
{
  struct lock_ud *ud, *next;

  while (!owner && d->locks.watches) {
    d->locks.watches->broken = true;
    lock_unwatch(d->locks.watches);
  }
  for (ud = LIST_FIRST(&d->lua_locks); ud; ud = next) {
    next = LIST_NEXT(ud, link);
    if (!owner || ud->lock.owner == owner)
      give_back(ud);
  }
}

static void lock_disarm(struct task *t)
{
  give_back(t->wait);
}

static int lock_held(lua_State *L, int status, lua_KContext ctx)
{
  (void)status;
  (void)ctx;
  lua_settop(L, 4);             /* the lock lies on top of the arguments */
  return 1;
}

/* tcmu.lock(self, offset, length [, harmless = it is not for a change]): holds
 * a range of the device against every other command that changes it, until the
 * value is closed (<close>).  What the running command holds itself is no
 * obstacle.  Waits. */
static int l_lock(lua_State *L)
{
  struct task *t = task_waiter(L, "lock"), *root;
  lua_Integer offset = luaL_checkinteger(L, 2);
  lua_Integer length = luaL_checkinteger(L, 3);
  struct lock_ud *ud;
  bool harmless;

  luaL_argcheck(L, offset >= 0, 2, "must not be negative");
  luaL_argcheck(L, length >= 0, 3, "must not be negative");
  if (!t->dev)
    return luaL_error(L, "lock: there is no device yet");
  harmless = lua_toboolean(L, 4);
  lua_settop(L, 3);
  ud = lua_newuserdatauv(L, sizeof(*ud), 0);
  *ud = (struct lock_ud){ .dev = NULL };
  ud->lock.harmless = harmless;
  luaL_setmetatable(L, LOCK);
  for (root = t; root->parent; root = root->parent)
    ;
  ud->lock.offset = (uint64_t)offset;
  ud->lock.length = (uint64_t)length;
  if (t->cmd)
    t->cmd->locks = true;
  else
    root->locks = true;
  ud->lock.owner = t->cmd ? (void *)t->cmd : (void *)root;
  ud->lock.granted = lock_granted;
  ud->lock.arg = t;
  ud->dev = t->dev;
  LIST_INSERT_HEAD(&t->dev->lua_locks, ud, link);
  if (!length || lock_acquire(&t->dev->locks, &ud->lock))
    return 1;
  t->wait = ud;
  return task_wait(L, t, lock_disarm, lock_held);
}

static int l_lock_close(lua_State *L)
{
  give_back(luaL_checkudata(L, 1, LOCK));
  return 0;
}

/* core.watch(offset, length): tells of everybody else who changes the range of
 * the device from now on. */
static int l_watch(lua_State *L)
{
  struct task *t = task_waiter(L, "watch"), *root;
  lua_Integer offset = luaL_checkinteger(L, 1);
  lua_Integer length = luaL_checkinteger(L, 2);
  struct lock_watch *w = lua_newuserdatauv(L, sizeof(*w), 0);

  for (root = t; root->parent; root = root->parent)
    ;
  *w = (struct lock_watch){ .offset = (uint64_t)offset,
                            .length = (uint64_t)length,
                            .owner = t->cmd ? (void *)t->cmd : (void *)root };
  luaL_setmetatable(L, WATCH);
  lock_watch(&t->dev->locks, w);
  return 1;
}

/* watch:everybody(): from now on of whoever has set it, too. */
static int l_watch_everybody(lua_State *L)
{
  struct lock_watch *w = luaL_checkudata(L, 1, WATCH);

  w->owner = NULL;
  return 0;
}

/* watch:intact(): nobody has, and the device is still there. */
static int l_watch_intact(lua_State *L)
{
  const struct lock_watch *w = luaL_checkudata(L, 1, WATCH);

  lua_pushboolean(L, !w->broken && w->prev);
  return 1;
}

/* watch:close(): it is of no interest any more. */
static int l_watch_close(lua_State *L)
{
  lock_unwatch(luaL_checkudata(L, 1, WATCH));
  return 0;
}

static const luaL_Reg watch_methods[] = {
  { "close", l_watch_close },
  { "everybody", l_watch_everybody },
  { "intact", l_watch_intact },
  { NULL, NULL }
};

static const luaL_Reg functions[] = {
  { "all", l_all },
  { "await", l_await },
  { "background", l_background },
  { "lock", l_lock },
  { "now", l_now },
  { "sleep", l_sleep },
  { "spawn", l_spawn },
  { "watch", l_watch },
  { NULL, NULL }
};

static const luaL_Reg lock_meta[] = {
  { "__close", l_lock_close },
  { "__gc", l_lock_close },
  { NULL, NULL }
};

void bind_wait(lua_State *L)
{
  luaL_setfuncs(L, functions, 0);

  luaL_newmetatable(L, WAITER);
  lua_pushcfunction(L, l_waiter_call);
  lua_setfield(L, -2, "__call");
  lua_pushliteral(L, "waiter");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);

  luaL_newmetatable(L, LOCK);
  luaL_setfuncs(L, lock_meta, 0);
  lua_newtable(L);
  lua_pushcfunction(L, l_lock_close);
  lua_setfield(L, -2, "unlock");
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "lock");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);

  luaL_newmetatable(L, WATCH);
  lua_pushcfunction(L, l_watch_close);
  lua_setfield(L, -2, "__gc");
  luaL_newlib(L, watch_methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
