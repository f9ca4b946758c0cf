/* bind_device.c - see bind_device.h.
 *
 * The handle is the host's own: handlers see the dev table.
 */
#include "bind_device.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "bind_store.h"
#include "device.h"
#include "hold.h"
#include "state.h"
#include "task.h"

#define HANDLE "tcmu.device"

static struct device *check(lua_State *L)
{
  struct device **ud = luaL_checkudata(L, 1, HANDLE);

  luaL_argcheck(L, *ud, 1, "this device is gone");
  return *ud;
}

void device_handle_push(lua_State *L, struct device *d)
{
  struct device **ud = lua_newuserdatauv(L, sizeof(*ud), 0);

  *ud = d;
  d->handle = ud;
  luaL_setmetatable(L, HANDLE);
  lua_pushvalue(L, -1);
  d->handle_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void device_handle_revoke(struct device *d)
{
  if (!d->handle)
    return;
  *d->handle = NULL;
  d->handle = NULL;
  luaL_unref(d->state->L, LUA_REGISTRYINDEX, d->handle_ref);
}

/* Replaces a registry reference by the value on top of the stack. */
static void keep(lua_State *L, struct device *d, int *ref)
{
  luaL_unref(L, LUA_REGISTRYINDEX, *ref);
  *ref = luaL_ref(L, LUA_REGISTRYINDEX);
  d->binding = ++d->state->bindings;
  task_pool_empty(d->state);
}

static void set_size(lua_State *L, struct device *d)
{
  d->size = (uint64_t)luaL_checkinteger(L, 3);
}

static void set_block_size(lua_State *L, struct device *d)
{
  lua_Integer n = luaL_checkinteger(L, 3);

  luaL_argcheck(L, n >= 512 && (n & (n - 1)) == 0 && n <= 1 << 30, 3,
                "a block size is a power of two from 512 on");
  d->block_size = (uint32_t)n;
  d->block_shift = (unsigned)__builtin_ctzll((unsigned long long)n);
}

static void set_max_blocks(lua_State *L, struct device *d)
{
  d->max_blocks = (uint64_t)luaL_checkinteger(L, 3);
}

static void set_max_unmap(lua_State *L, struct device *d)
{
  d->max_unmap = (uint64_t)luaL_checkinteger(L, 3);
}

static void set_max_same(lua_State *L, struct device *d)
{
  d->max_same = (uint64_t)luaL_checkinteger(L, 3);
}

static void set_read_only(lua_State *L, struct device *d)
{
  d->read_only = lua_toboolean(L, 3);
}

static void set_write_cache(lua_State *L, struct device *d)
{
  d->write_cache = lua_toboolean(L, 3);
}

static void set_descriptor_sense(lua_State *L, struct device *d)
{
  d->descriptor_sense = lua_toboolean(L, 3);
}

static void set_has_flush(lua_State *L, struct device *d)
{
  d->has_flush = lua_toboolean(L, 3);
}

static void set_designators(lua_State *L, struct device *d)
{
  size_t n;
  const char *s = luaL_checklstring(L, 3, &n);
  char *kept = malloc(n + 1);

  if (!kept)
    luaL_error(L, "out of memory");
  memcpy(kept, s, n);
  free(d->designators);
  d->designators = kept;
  d->designators_len = n;
}

static void set_attention(lua_State *L, struct device *d)
{
  d->attention = lua_toboolean(L, 3);
}

static void set_time_out(lua_State *L, struct device *d)
{
  device_set_time_out(d, (unsigned)luaL_checkinteger(L, 3));
}

static void set_store(lua_State *L, struct device *d)
{
  if (lua_isnil(L, 3))
    store_unserve(d);
  else
    store_serve(L, 3, d);
}

static void set_dev(lua_State *L, struct device *d)
{
  keep(L, d, &d->dev_ref);
}

static void set_self(lua_State *L, struct device *d)
{
  keep(L, d, &d->self_ref);
}

static void set_routes(lua_State *L, struct device *d)
{
  luaL_checktype(L, 3, LUA_TTABLE);
  keep(L, d, &d->routes_ref);
}

static void set_read(lua_State *L, struct device *d)
{
  keep(L, d, &d->read_ref);
}

static void set_write(lua_State *L, struct device *d)
{
  keep(L, d, &d->write_ref);
}

/* A table of opcodes and who serves each: "ready", "store", "read" or "write";
 * Lua serves the others. */
static void set_shortcuts(lua_State *L, struct device *d)
{
  static const char *const who[] = {            /* as enum route */
    "lua", "ready", "store", "read", "write", NULL
  };
  unsigned char route[256];
  int opcode;

  luaL_checktype(L, 3, LUA_TTABLE);
  for (opcode = 0; opcode < 256; opcode++) {
    lua_rawgeti(L, 3, opcode);
    route[opcode] = (unsigned char)luaL_checkoption(L, 4, "lua", who);
    if (d->shard->no_fast_path)
      route[opcode] = ROUTE_LUA;
    lua_pop(L, 1);
  }
  memcpy(d->route, route, sizeof(route));
}

static const struct setting {
  const char *name;
  void (*set)(lua_State *L, struct device *d);
} settings[] = {
  { "attention", set_attention },
  { "block_size", set_block_size },
  { "descriptor_sense", set_descriptor_sense },
  { "designators", set_designators },
  { "dev", set_dev },
  { "has_flush", set_has_flush },
  { "max_blocks", set_max_blocks },
  { "max_same", set_max_same },
  { "max_unmap", set_max_unmap },
  { "read", set_read },
  { "read_only", set_read_only },
  { "routes", set_routes },
  { "self", set_self },
  { "shortcuts", set_shortcuts },
  { "size", set_size },
  { "store", set_store },
  { "time_out", set_time_out },
  { "write", set_write },
  { "write_cache", set_write_cache },
  { NULL, NULL }
};

/* handle:set(name, value) */
static int l_set(lua_State *L)
{
  struct device *d = check(L);
  const char *name = luaL_checkstring(L, 2);
  int i;

  lua_settop(L, 3);
  for (i = 0; settings[i].name; i++)
    if (strcmp(settings[i].name, name) == 0) {
      settings[i].set(L, d);
      return 0;
    }
  return luaL_argerror(L, 2, "not a setting of a device");
}

static void hold_disarm(struct task *t)
{
  hold_forget(t->dev, t);
}

/* handle:hold(): keeps new commands from beginning until the change that runs
 * is over, and waits for those that have begun.  Waits. */
static int l_hold(lua_State *L)
{
  struct device *d = check(L);
  struct task *t = task_waiter(L, "hold");

  luaL_argcheck(L, t->dev == d && d->busy, 1, "no change of it is running");
  if (hold_begin(d, t))
    return 0;
  return task_wait(L, t, hold_disarm, NULL);
}

/* handle:resets(): LUN RESETs so far. */
static int l_resets(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)check(L)->resets);
  return 1;
}

/* handle:tell(verb, text): something for control that it has not asked for. */
static int l_tell(lua_State *L)
{
  device_report_to(check(L), luaL_checkstring(L, 2), 0,
                   luaL_checkstring(L, 3));
  return 0;
}

static const luaL_Reg methods[] = {
  { "hold", l_hold },
  { "resets", l_resets },
  { "set", l_set },
  { "tell", l_tell },
  { NULL, NULL }
};

void bind_device(lua_State *L)
{
  luaL_newmetatable(L, HANDLE);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "device");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}
