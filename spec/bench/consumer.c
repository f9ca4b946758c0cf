/* consumer.c - shards and their devices; see consumer.h.
 *
 *   local kernel = bench.kernel { depth = 32, io_max = 4096 }
 *   local shard = bench.shard {}
 *   local device = shard:add(kernel, { handler = "handlers/ram.lua", ... })
 *   local r = shard:run(kernel, { op = "tur", depth = 32, count = 1 << 16 })
 *   r.cpu_ns, r.commands, r.turns, r.writes, r.allocations
 */
#include "consumer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "message.h"

#define SHARD "bench.shard"

struct bench_shard *bench_shard(lua_State *L, int arg)
{
  return luaL_checkudata(L, arg, SHARD);
}

static void on_report(void *arg, int64_t id, const char *verb, int status,
                      const char *why, bool last)
{
  struct bench_shard *b = arg;

  (void)verb;
  (void)last;
  b->answered = id;
  b->status = status;
  strncpy(b->why, why ? why : "", sizeof(b->why) - 1);
  uv_stop(&b->shard.loop);      /* it may be about to sleep */
}

static void await_report(struct bench_shard *b, int64_t id)
{
  while (b->answered != id)
    uv_run(&b->shard.loop, UV_RUN_ONCE);
  uv_run(&b->shard.loop, UV_RUN_NOWAIT);        /* forgets an uv_stop() */
  b->answered = 0;
}

static void on_stop(uv_async_t *h)
{
  uv_stop(h->loop);
}

static void on_check(uv_check_t *h)
{
  ((struct bench_shard *)h->data)->turns++;
}

static void set_poll(lua_State *L, struct poller *p)
{
  static const char *const modes[] = { "off", "on", "auto", NULL };
  struct poll_options o = {
    .limit = (uint64_t)bench_field(L, 1, "poll_limit", 2000000),
  };

  lua_getfield(L, 1, "poll");
  o.mode = (enum poll_mode)luaL_checkoption(L, -1, "off", modes);
  lua_pop(L, 1);
  if (o.mode != POLL_OFF)
    o.cost = poll_measure();
  poll_enable(p, &o);
}

/* bench.shard { no_fast_path =, memory_limit =, poll = mode, poll_limit = ns }
 */
int bench_new_shard(lua_State *L)
{
  struct bench_shard *b;
  int rc;

  luaL_checktype(L, 1, LUA_TTABLE);
  b = lua_newuserdatauv(L, sizeof(*b), 0);
  memset(b, 0, sizeof(*b));
  b->shard.memory_limit = (size_t)bench_field(L, 1, "memory_limit", 64 << 20);
  b->shard.no_fast_path = bench_flag(L, 1, "no_fast_path");
  rc = shard_init(&b->shard, false);
  if (rc)
    return luaL_error(L, "shard: %s", strerror(-rc));
  set_poll(L, &b->shard.poller);
  luaL_setmetatable(L, SHARD);
  uv_async_init(&b->shard.loop, &b->stop, on_stop);
  uv_check_init(&b->shard.loop, &b->check);
  uv_check_start(&b->check, on_check);
  b->check.data = b;
  return 1;
}

/* Starts to add a device; returns its number. */
static int64_t add(lua_State *L, struct bench_shard *b)
{
  struct kernel *k = bench_kernel(L, 2);
  int64_t id = ++b->next_id;
  int fd;

  luaL_checktype(L, 3, LUA_TTABLE);
  lua_pushinteger(L, (lua_Integer)k->size);
  lua_setfield(L, 3, "map_size");
  lua_pushinteger(L, k->memfd);
  lua_setfield(L, 3, "map_fd");
  fd = dup(k->fd);
  if (fd < 0)
    luaL_error(L, "shard: %s", strerror(errno));
  device_add(&b->shard, message_from(L, id, "add", 3), fd, on_report, b);
  return id;
}

/* shard:add(kernel, fields) -> number of the device, ns of CPU time and ns by
 * the clock that it took; or nil, why */
static int l_add(lua_State *L)
{
  struct bench_shard *b = bench_shard(L, 1);
  uint64_t start = load_now(), cpu = load_cpu();
  int64_t id = add(L, b);

  await_report(b, id);
  if (b->status) {
    lua_pushnil(L);
    lua_pushstring(L, b->why);
    return 2;
  }
  lua_pushinteger(L, id);
  lua_pushinteger(L, (lua_Integer)(load_cpu() - cpu));
  lua_pushinteger(L, (lua_Integer)(load_now() - start));
  return 3;
}

/* shard:add_begin(kernel, fields) -> number, before the handler has opened it;
 * shard:add_end(number) waits for that. */
static int l_add_begin(lua_State *L)
{
  lua_pushinteger(L, add(L, bench_shard(L, 1)));
  return 1;
}

static int l_add_end(lua_State *L)
{
  await_report(bench_shard(L, 1), luaL_checkinteger(L, 2));
  return 0;
}

struct device *bench_device(lua_State *L, struct bench_shard *b, int arg)
{
  struct device *d = device_find(&b->shard, luaL_checkinteger(L, arg));

  luaL_argcheck(L, d, arg, "there is no such device");
  return d;
}

/* shard:remove(id) */
static int l_remove(lua_State *L)
{
  struct bench_shard *b = bench_shard(L, 1);
  struct device *d = bench_device(L, b, 2);

  int64_t id = d->id;

  device_change(d, message_from(L, id, "remove", 3));
  await_report(b, id);
  return 0;
}

__attribute__((noinline)) void bench_turn(void *loop)
{
  uv_run(loop, UV_RUN_ONCE);
}

/* shard:run(kernel, load): kernel and consumer on this thread. */
static int l_run(lua_State *L)
{
  struct bench_shard *b = bench_shard(L, 1);
  struct kernel *k = bench_kernel(L, 2);
  struct load l = bench_load(L, 3);
  uint64_t before = bench_allocations();
  struct load_result r;

  if (load_alone(k, &l, bench_turn, &b->shard.loop, &r))
    return luaL_error(L, k->broken ? "the ring is broken"
                                   : "a command was not answered with GOOD");
  return bench_push(L, &r, bench_allocations() - before);
}

/* shard:turns(): of its loop, up to now. */
static int l_turns(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)bench_shard(L, 1)->turns);
  return 1;
}

static const luaL_Reg shard_methods[] = {
  { "add", l_add },
  { "add_begin", l_add_begin },
  { "add_end", l_add_end },
  { "beside", bench_beside },
  { "entries", bench_entries },
  { "remove", l_remove },
  { "run", l_run },
  { "teach", bench_teach },
  { "turns", l_turns },
  { NULL, NULL }
};

void bench_shard_class(lua_State *L)
{
  bench_class(L, SHARD, shard_methods);
}
