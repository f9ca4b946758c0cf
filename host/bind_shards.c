/* bind_shards.c - shards in Lua: those with threads, for control, and a single
 * one that its caller turns, for the simulator.
 */
#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "bind.h"
#include "bind_sim.h"
#include "device.h"
#include "message.h"
#include "peer.h"
#include "shard.h"
#include "shards.h"
#include "sim.h"
#include "state.h"

#define SHARDS "tcmu.shards"
#define SHARD "tcmu.shard"

static struct shards **check_shards(lua_State *L)
{
  struct shards **ud = luaL_checkudata(L, 1, SHARDS);

  luaL_argcheck(L, *ud, 1, "these shards are stopped");
  return ud;
}

static lua_Integer option(lua_State *L, const char *name,
                          lua_Integer fallback)
{
  lua_Integer n;

  lua_getfield(L, 1, name);
  n = luaL_optinteger(L, -1, fallback);
  lua_pop(L, 1);
  return n;
}

static bool flag(lua_State *L, const char *name)
{
  bool on;

  lua_getfield(L, 1, name);
  on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

static enum poll_mode poll_mode(lua_State *L)
{
  static const char *const names[] = { "off", "on", "auto", NULL };
  int mode;

  lua_getfield(L, 1, "poll");
  mode = luaL_checkoption(L, -1, "off", names);
  lua_pop(L, 1);
  return (enum poll_mode)mode;
}

static struct poll_options poll_options(lua_State *L)
{
  return (struct poll_options){
    .mode = poll_mode(L),
    .limit = (uint64_t)option(L, "poll_limit", 0) * 1000,
    .cost = (uint64_t)option(L, "poll_cost", 0) * 1000,
  };
}

/* core.shards { count =, memory_limit = bytes, no_fast_path =, poll = "off",
 * "on" or "auto", poll_limit = microseconds, third_party = devices may have
 * each other read and written }: starts the threads. */
static int l_start(lua_State *L)
{
  struct shards_options options;
  struct shards **ud;
  lua_Integer count;
  int rc;

  luaL_checktype(L, 1, LUA_TTABLE);
  count = option(L, "count", 1);
  luaL_argcheck(L, count >= 1 && count <= 256, 1, "count is 1 to 256");
  options.count = (unsigned)count;
  options.memory_limit = (size_t)option(L, "memory_limit", 0);
  options.no_fast_path = flag(L, "no_fast_path");
  options.third_party = flag(L, "third_party");
  options.poll = poll_options(L);
  bind_keep_paths(L);
  ud = lua_newuserdatauv(L, sizeof(*ud), 0);
  *ud = NULL;
  luaL_setmetatable(L, SHARDS);
  rc = shards_start(&options, ud);
  return rc ? luaL_error(L, "shards: %s", strerror(-rc)) : 1;
}

/* shards:send(index, device, verb [, fields]): index from 1. */
static int l_send(lua_State *L)
{
  struct shards *s = *check_shards(L);
  lua_Integer index = luaL_checkinteger(L, 2);
  lua_Integer device = luaL_checkinteger(L, 3);
  const char *verb = luaL_checkstring(L, 4);

  luaL_argcheck(L, index >= 1 && index <= shards_count(s), 2, "no such shard");
  shards_send(s, (unsigned)index - 1, message_from(L, device, verb, 5));
  return 0;
}

/* The fields at `arg`, with what a shard has to know to map the simulated
 * kernel at arg - 1; returns a descriptor of it for the shard. */
static int add_kernel(lua_State *L, int arg)
{
  struct sim *sim = sim_check(L, arg - 1);
  int fd;

  luaL_checktype(L, arg, LUA_TTABLE);
  lua_pushinteger(L, (lua_Integer)sim_size(sim));
  lua_setfield(L, arg, "map_size");
  lua_pushinteger(L, sim_memfd(sim));
  lua_setfield(L, arg, "map_fd");
  fd = dup(sim_fd(sim));
  return fd < 0 ? luaL_error(L, "shard: %s", strerror(errno)) : fd;
}

/* shards:add(index, device, sim, fields): a device on a simulated kernel, which
 * has to live until the device has ended. */
static int l_add(lua_State *L)
{
  struct shards *s = *check_shards(L);
  lua_Integer index = luaL_checkinteger(L, 2);
  lua_Integer device = luaL_checkinteger(L, 3);

  luaL_argcheck(L, index >= 1 && index <= shards_count(s), 2, "no such shard");
  lua_pushinteger(L, add_kernel(L, 5));
  lua_setfield(L, 5, "fd");
  shards_send(s, (unsigned)index - 1, message_from(L, device, "add", 5));
  return 0;
}

static void push_report(lua_State *L, const struct message *m)
{
  message_push(L, m);
  lua_pushinteger(L, m->device);
  lua_setfield(L, -2, "device");
  lua_pushstring(L, m->verb);
  lua_setfield(L, -2, "verb");
}

/* shards:receive(): a list of { device =, verb =, status =, why = }. */
static int l_receive(lua_State *L)
{
  struct shards *s = *check_shards(L);
  struct message *m;
  lua_Integer n = 0;

  lua_newtable(L);
  while ((m = shards_receive(s))) {
    push_report(L, m);
    free(m);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static int l_count(lua_State *L)
{
  lua_pushinteger(L, shards_count(*check_shards(L)));
  return 1;
}

static int l_fd(lua_State *L)
{
  lua_pushinteger(L, shards_fd(*check_shards(L)));
  return 1;
}

/* shards:stop(): ends the threads; false if a device is still there. */
static int l_stop(lua_State *L)
{
  struct shards **ud = check_shards(L);
  bool stopped = shards_stop(*ud);

  if (stopped)
    *ud = NULL;
  lua_pushboolean(L, stopped);
  return 1;
}

/* --- a shard without a thread ------------------------------------------- */

struct hand {
  struct shard shard;
  struct message_queue reports;
  bool open;
};

static struct hand *check_hand(lua_State *L)
{
  struct hand *h = luaL_checkudata(L, 1, SHARD);

  luaL_argcheck(L, h->open, 1, "this shard is closed");
  return h;
}

static void on_report(void *arg, int64_t id, const char *verb, int status,
                      const char *why, bool last)
{
  struct hand *h = arg;
  struct message *m = message_report(id, verb, status, why);

  (void)last;
  if (m)
    STAILQ_INSERT_TAIL(&h->reports, m, link);
}

/* core.shard { memory_limit =, no_fast_path =, real_time =, poll =, poll_limit
 * =, poll_cost = microseconds of a wake-up, stay = it may bind the calling
 * thread to its processor, third_party =, beside = another such shard of the
 * same process }: with virtual time unless real_time is set. */
static int l_hand(lua_State *L)
{
  struct hand *h, *beside = NULL;
  struct poll_options poll;
  int rc;

  luaL_checktype(L, 1, LUA_TTABLE);
  if (lua_getfield(L, 1, "beside") != LUA_TNIL) {
    beside = luaL_checkudata(L, -1, SHARD);
    luaL_argcheck(L, beside->open, 1, "the shard beside is closed");
  }
  bind_keep_paths(L);
  h = lua_newuserdatauv(L, sizeof(*h), 0);
  memset(h, 0, sizeof(*h));
  luaL_setmetatable(L, SHARD);
  STAILQ_INIT(&h->reports);
  h->shard.memory_limit = (size_t)option(L, "memory_limit", 0);
  h->shard.no_fast_path = flag(L, "no_fast_path");
  h->shard.third_party = flag(L, "third_party");
  poll = poll_options(L);
  rc = shard_init(&h->shard, !flag(L, "real_time"));
  if (!rc)
    rc = peer_join(&h->shard, beside ? &beside->shard : NULL);
  if (rc)
    return luaL_error(L, "shard: %s", strerror(-rc));
  poll_enable(&h->shard.poller, &poll);
  gather_enable(&h->shard.gather, poll.cost);
  if (flag(L, "stay"))
    place_enable(&h->shard.place, &h->shard.timers);
  h->open = true;
  return 1;
}

/* shard:add(device, sim, fields): a device on a simulated kernel. */
static int l_hand_add(lua_State *L)
{
  struct hand *h = check_hand(L);
  lua_Integer device = luaL_checkinteger(L, 2);
  int fd = add_kernel(L, 4);

  device_add(&h->shard, message_from(L, device, "add", 4), fd, on_report, h);
  return 0;
}

/* shard:change(device, verb [, fields]) */
static int l_hand_change(lua_State *L)
{
  struct hand *h = check_hand(L);
  lua_Integer device = luaL_checkinteger(L, 2);
  const char *verb = luaL_checkstring(L, 3);
  struct device *d = device_find(&h->shard, device);

  if (!d)
    return luaL_error(L, "there is no device %d", (int)device);
  device_change(d, message_from(L, device, verb, 4));
  return 0;
}

/* shard:turn(wait): one turn of the loop; true while real I/O is under way, or
 * another shard has written. */
static int l_hand_turn(lua_State *L)
{
  struct shard *s = &check_hand(L)->shard;
  bool busy = shard_turn(s, lua_toboolean(L, 2));

  lua_pushboolean(L, busy || peer_has_mail(s));
  return 1;
}

/* shard:due(): the time of the next timer, or nil. */
static int l_hand_due(lua_State *L)
{
  uint64_t due = timers_next(&check_hand(L)->shard.timers);

  if (due == UINT64_MAX)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)due);
  return 1;
}

/* shard:advance([to]): moves virtual time to a time such as due() gives, or
 * else to the next timer; false if there is none. */
static int l_hand_advance(lua_State *L)
{
  struct hand *h = check_hand(L);
  bool more = true;

  if (lua_isnoneornil(L, 2))
    more = timers_advance(&h->shard.timers);
  else
    timers_advance_to(&h->shard.timers, (uint64_t)luaL_checkinteger(L, 2));
  shard_settle(&h->shard);
  lua_pushboolean(L, more);
  return 1;
}

/* shard:now(): seconds on the shard's clock. */
static int l_hand_now(lua_State *L)
{
  lua_pushnumber(L, (lua_Number)timers_now(&check_hand(L)->shard.timers) /
                 1e9);
  return 1;
}

static int l_hand_receive(lua_State *L)
{
  struct hand *h = check_hand(L);
  struct message *m;
  lua_Integer n = 0;

  lua_newtable(L);
  while ((m = STAILQ_FIRST(&h->reports))) {
    STAILQ_REMOVE_HEAD(&h->reports, link);
    push_report(L, m);
    free(m);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* shard:writes(device): write() calls made for it; shard:memory(device): bytes
 * of its Lua state. */
static int l_hand_writes(lua_State *L)
{
  struct hand *h = check_hand(L);
  struct device *d = device_find(&h->shard, luaL_checkinteger(L, 2));

  lua_pushinteger(L, d ? (lua_Integer)d->writes : 0);
  return 1;
}

static int l_hand_memory(lua_State *L)
{
  struct hand *h = check_hand(L);
  struct device *d = device_find(&h->shard, luaL_checkinteger(L, 2));

  lua_pushinteger(L, d ? (lua_Integer)d->state->used : 0);
  return 1;
}

/* shard:states(): how many Lua states it has. */
static int l_hand_states(lua_State *L)
{
  struct hand *h = check_hand(L);
  struct state *st;
  lua_Integer n = 0;

  LIST_FOREACH(st, &h->shard.states, link)
    n++;
  lua_pushinteger(L, n);
  return 1;
}

/* shard:awake(): it waits for the next command without sleeping. */
static int l_hand_awake(lua_State *L)
{
  lua_pushboolean(L, check_hand(L)->shard.poller.awake);
  return 1;
}

/* shard:close(): false while devices or states are still there. */
static int l_hand_close(lua_State *L)
{
  struct hand *h = luaL_checkudata(L, 1, SHARD);
  struct message *m;

  if (h->open) {
    shard_turn(&h->shard, false);
    if (!LIST_EMPTY(&h->shard.devices) || !LIST_EMPTY(&h->shard.states)) {
      lua_pushboolean(L, 0);
      return 1;
    }
    h->open = false;
    peer_leave(&h->shard);
    shard_fini(&h->shard);
    while ((m = STAILQ_FIRST(&h->reports))) {
      STAILQ_REMOVE_HEAD(&h->reports, link);
      free(m);
    }
  }
  lua_pushboolean(L, 1);
  return 1;
}

static const luaL_Reg shards_methods[] = {
  { "add", l_add },
  { "count", l_count },
  { "fd", l_fd },
  { "receive", l_receive },
  { "send", l_send },
  { "stop", l_stop },
  { NULL, NULL }
};

static const luaL_Reg hand_methods[] = {
  { "add", l_hand_add },
  { "advance", l_hand_advance },
  { "awake", l_hand_awake },
  { "change", l_hand_change },
  { "close", l_hand_close },
  { "due", l_hand_due },
  { "memory", l_hand_memory },
  { "now", l_hand_now },
  { "receive", l_hand_receive },
  { "states", l_hand_states },
  { "turn", l_hand_turn },
  { "writes", l_hand_writes },
  { NULL, NULL }
};

static void class(lua_State *L, const char *name, const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

void bind_shards(lua_State *L)
{
  class(L, SHARDS, shards_methods);
  class(L, SHARD, hand_methods);
  lua_pushcfunction(L, l_start);
  lua_setfield(L, -2, "shards");
  lua_pushcfunction(L, l_hand);
  lua_setfield(L, -2, "shard");
}
