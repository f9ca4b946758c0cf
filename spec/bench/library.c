/* library.c - the table `bench` of the benchmark's scripts: kernels, loads, and
 * what the other files add; see consumer.h.
 */
#include "consumer.h"

#include <lauxlib.h>
#include <string.h>

#define KERNEL "bench.kernel"

lua_Integer bench_field(lua_State *L, int arg, const char *name,
                        lua_Integer fallback)
{
  lua_Integer n;

  lua_getfield(L, arg, name);
  n = luaL_optinteger(L, -1, fallback);
  lua_pop(L, 1);
  return n;
}

bool bench_flag(lua_State *L, int arg, const char *name)
{
  bool on;

  lua_getfield(L, arg, name);
  on = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

/* --- kernels ------------------------------------------------------------ */

struct kernel *bench_kernel(lua_State *L, int arg)
{
  struct kernel **k = luaL_checkudata(L, arg, KERNEL);

  luaL_argcheck(L, *k, arg, "it is closed");
  return *k;
}

/* bench.kernel { ring_size =, io_max =, depth =, idle = } */
static int l_kernel(lua_State *L)
{
  struct kernel_options o;
  struct kernel **k;
  int rc;

  luaL_checktype(L, 1, LUA_TTABLE);
  o.ring_size = (size_t)bench_field(L, 1, "ring_size", 1 << 20);
  o.io_max = (size_t)bench_field(L, 1, "io_max", 4096);
  o.depth = (uint32_t)bench_field(L, 1, "depth", 128);
  k = lua_newuserdatauv(L, sizeof(*k), 0);
  *k = NULL;
  luaL_setmetatable(L, KERNEL);
  rc = kernel_new(&o, k);
  if (rc)
    return luaL_error(L, "kernel: %s", strerror(-rc));
  if (bench_flag(L, 1, "idle"))
    kernel_forget(*k);
  return 1;
}

static int l_kernel_close(lua_State *L)
{
  struct kernel **k = luaL_checkudata(L, 1, KERNEL);

  kernel_free(*k);
  *k = NULL;
  return 0;
}

struct load bench_load(lua_State *L, int arg)
{
  static const char *const ops[] = {
    "tur", "read", "rw", "fill", NULL
  };
  struct load l = { .silent = false };

  luaL_checktype(L, arg, LUA_TTABLE);
  lua_getfield(L, arg, "op");
  l.op = (enum load_op)luaL_checkoption(L, -1, "tur", ops);
  lua_pop(L, 1);
  l.depth = (uint32_t)bench_field(L, arg, "depth", 1);
  l.count = (uint64_t)bench_field(L, arg, "count", 1000);
  l.length = (uint32_t)bench_field(L, arg, "length", 4096);
  l.span = (uint64_t)bench_field(L, arg, "span", 1 << 20);
  l.seed = (uint64_t)bench_field(L, arg, "seed", 88172645463325252);
  l.spin = bench_flag(L, arg, "spin");
  return l;
}

int bench_push(lua_State *L, const struct load_result *r,
               uint64_t allocations)
{
  lua_createtable(L, 0, 6);
  lua_pushinteger(L, (lua_Integer)r->ns);
  lua_setfield(L, -2, "ns");
  lua_pushinteger(L, (lua_Integer)r->cpu_ns);
  lua_setfield(L, -2, "cpu_ns");
  lua_pushinteger(L, (lua_Integer)r->commands);
  lua_setfield(L, -2, "commands");
  lua_pushinteger(L, (lua_Integer)r->turns);
  lua_setfield(L, -2, "turns");
  lua_pushinteger(L, (lua_Integer)r->writes);
  lua_setfield(L, -2, "writes");
  lua_pushinteger(L, (lua_Integer)allocations);
  lua_setfield(L, -2, "allocations");
  return 1;
}

static const luaL_Reg kernel_methods[] = {
  { "close", l_kernel_close },
  { NULL, NULL }
};

static const luaL_Reg functions[] = {
  { "bare", bench_bare },
  { "idle", bench_idle },
  { "kernel", l_kernel },
  { "libtcmu", bench_libtcmu },
  { "pair", bench_pair },
  { "quiet", bench_quiet },
  { "ring", bench_ring },
  { "shard", bench_new_shard },
  { NULL, NULL }
};

void bench_class(lua_State *L, const char *name, const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

int luaopen_bench(lua_State *L)
{
  bench_class(L, KERNEL, kernel_methods);
  bench_shard_class(L);
  luaL_newlib(L, functions);
  return 1;
}
