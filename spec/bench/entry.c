/* entry.c - ways into Lua: a task, as the host enters a handler, against a
 * plain lua_pcall(); and a wait that is over at once.
 */
#include <lauxlib.h>

#include "consumer.h"
#include "device.h"
#include "state.h"
#include "step.h"
#include "task.h"

static void ignore(struct task *t, enum task_end how, lua_State *co)
{
  (void)t;
  (void)how;
  (void)co;
}

/* The function that answers opcode 00h, self, and a number. */
static void push_call(lua_State *L, const struct device *d, uint64_t i)
{
  lua_rawgeti(L, LUA_REGISTRYINDEX, d->routes_ref);
  lua_rawgeti(L, -1, 1);
  lua_replace(L, -2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, d->self_ref);
  lua_pushinteger(L, (lua_Integer)i);
}

/* The way of a command, but for what its coroutine keeps. */
static void by_task(struct device *d, uint64_t i)
{
  struct task *t = task_again(d->state, d, 0);

  if (!t) {
    t = task_new(d->state, d, NULL, ignore, NULL);
    task_keep(t, d, 0);
  }
  push_call(t->co, d, i);
  if (task_try(t, 2))
    task_over(t);
}

static void by_pcall(struct device *d, uint64_t i)
{
  lua_State *L = d->state->L;

  push_call(L, d, i);
  if (!step_begin(d->state, L))
    return;
  if (lua_pcall(L, 2, 0, 0) != LUA_OK)
    lua_pop(L, 1);
  step_end(d->state);
}

/* shard:entries(id, by, count): enters the handler's answer to opcode 00h by
 * "task" or "pcall", both under the watchdog; -> ns of CPU time */
int bench_entries(lua_State *L)
{
  static const char *const names[] = { "task", "pcall", NULL };
  static void (*const ways[])(struct device *, uint64_t) = {
    by_task, by_pcall
  };
  struct device *d = bench_device(L, bench_shard(L, 1), 2);
  int way = luaL_checkoption(L, 3, NULL, names);
  uint64_t n = (uint64_t)luaL_checkinteger(L, 4), i, start = load_cpu();

  for (i = 0; i < n; i++)
    ways[way](d, i);
  lua_pushinteger(L, (lua_Integer)(load_cpu() - start));
  return 1;
}

/* again(): waits, and goes on in the same turn of the loop. */
static int l_again(lua_State *L)
{
  struct task *t = task_waiter(L, "again");

  task_wake(t, 0);
  return task_wait(L, t, NULL, NULL);
}

/* shard:teach(id): gives the handler a global `again`. */
int bench_teach(lua_State *L)
{
  struct device *d = bench_device(L, bench_shard(L, 1), 2);

  lua_pushcfunction(d->state->L, l_again);
  lua_setglobal(d->state->L, "again");
  return 0;
}
