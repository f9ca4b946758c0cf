/* bind_store.c - stores in Lua: tcmu.store.memory, zero and file.
 *
 * Who opens a store, who uses it, and when it is closed; the methods that wait
 * are in bind_store_io.c.
 */
#include "bind_store.h"

#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "bind_store_io.h"
#include "device.h"
#include "state.h"
#include "task.h"

static const char store_class[] = "tcmu.store";

struct store_ud *store_ud_check(lua_State *L, int arg)
{
  struct store_ud *ud = bind_check(L, arg, store_class);

  luaL_argcheck(L, ud->store, arg, "this store is closed");
  return ud;
}

struct store *store_check(lua_State *L, int arg)
{
  return store_ud_check(L, arg)->store;
}

static void close_ud(struct store_ud *ud)
{
  if (ud->dev)
    LIST_REMOVE(ud, link);
  store_close(ud->store);
  ud->store = NULL;
  ud->dev = NULL;
  store_io_free(ud);
}

void store_ud_unused(struct store_ud *ud)
{
  if (ud->store && ud->orphan && !ud->serving && !ud->store->in_flight)
    close_ud(ud);
}

lua_Integer store_check_bytes(lua_State *L, int arg)
{
  lua_Integer n = luaL_checkinteger(L, arg);

  luaL_argcheck(L, n >= 0, arg, "must not be negative");
  return n;
}

/* store:size(): bytes. */
static int l_size(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)store_ud_check(L, 1)->store->size);
  return 1;
}

/* store:info(): a table of what the store can say about itself. */
static int l_info(lua_State *L)
{
  struct store_info info;

  store_info(store_ud_check(L, 1)->store, &info);
  lua_createtable(L, 0, 6);
  if (info.knows_used) {
    lua_pushinteger(L, (lua_Integer)info.used);
    lua_setfield(L, -2, "used");
  }
  lua_pushinteger(L, (lua_Integer)info.size);
  lua_setfield(L, -2, "size");
  lua_pushboolean(L, info.read_only);
  lua_setfield(L, -2, "read_only");
  lua_pushboolean(L, info.discards);
  lua_setfield(L, -2, "discards");
  lua_pushboolean(L, info.volatile_cache);
  lua_setfield(L, -2, "volatile_cache");
  lua_pushinteger(L, info.block);
  lua_setfield(L, -2, "block");
  return 1;
}

/* store:status(offset): "mapped" or "deallocated", and for how many bytes from
 * there on that is so (0 at the end).  Does not wait. */
static int l_status(lua_State *L)
{
  struct store *s = store_ud_check(L, 1)->store;
  uint64_t length;
  bool mapped = store_mapped(s, (uint64_t)store_check_bytes(L, 2), &length);

  lua_pushstring(L, mapped ? "mapped" : "deallocated");
  lua_pushinteger(L, (lua_Integer)length);
  return 2;
}

/* store:resize(size): makes room for `size` bytes; raises an I/O error.  Does
 * not wait. */
static int l_resize(lua_State *L)
{
  struct store *s = store_ud_check(L, 1)->store;
  int rc = store_resize(s, (uint64_t)store_check_bytes(L, 2));

  return rc ? store_io_raise(L, STORE_WRITE, rc) : 0;
}

void store_unserve(struct device *d)
{
  lua_State *L = d->state->L;
  struct store_ud *ud;

  if (!d->store)
    return;
  for (size_t i = 0; i < sizeof(d->route); i++)
    if (d->route[i] == ROUTE_STORE)
      d->route[i] = ROUTE_LUA;
  lua_rawgeti(L, LUA_REGISTRYINDEX, d->store_ref);
  ud = lua_touserdata(L, -1);
  ud->serving--;
  store_ud_unused(ud);
  lua_pop(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, d->store_ref);
  d->store_ref = LUA_NOREF;
  d->store = NULL;
}

void store_serve(lua_State *L, int arg, struct device *d)
{
  struct store *s = store_check(L, arg);

  store_unserve(d);
  ((struct store_ud *)lua_touserdata(L, arg))->serving++;
  lua_pushvalue(L, arg);
  d->store_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  d->store = s;
}

void store_close_all(struct device *d)
{
  struct store_ud *ud;

  store_unserve(d);
  while ((ud = LIST_FIRST(&d->stores))) {
    LIST_REMOVE(ud, link);
    ud->dev = NULL;
    ud->orphan = true;
    store_ud_unused(ud);
  }
}

/* store:close().  A store that a device serves is closed by the device. */
static int l_close(lua_State *L)
{
  struct store_ud *ud = bind_check(L, 1, store_class);

  if (!ud->store)
    return 0;
  luaL_argcheck(L, !ud->store->in_flight, 1, "operations are in flight");
  luaL_argcheck(L, !ud->serving, 1, "a device serves from it, and closes it");
  close_ud(ud);
  return 0;
}

/* What a device has begun without Lua goes on after it has let go: then the
 * next collection finds the store again. */
static int l_gc(lua_State *L)
{
  struct store_ud *ud = bind_check(L, 1, store_class);

  if (ud->store && ud->store->in_flight)
    luaL_setmetatable(L, store_class);
  else
    close_ud(ud);               /* one that was never opened is listed too */
  return 0;
}

struct store **store_push(lua_State *L, uv_loop_t **loop)
{
  struct store_ud *ud = lua_newuserdatauv(L, sizeof(*ud), 0);
  struct state *st = state_of(L);
  struct task *t = task_running();

  *ud = (struct store_ud){ .is = store_class };
  SLIST_INIT(&ud->idle);
  luaL_setmetatable(L, store_class);
  *loop = st ? &st->shard->loop : uv_default_loop();
  if (t && t->dev) {
    ud->dev = t->dev;
    LIST_INSERT_HEAD(&t->dev->stores, ud, link);
  }
  return &ud->store;
}

/* store.memory(size): sparse memory. */
static int l_memory(lua_State *L)
{
  lua_Integer size = store_check_bytes(L, 1);
  uv_loop_t *loop;
  struct store **out = store_push(L, &loop);
  int rc = store_memory_open(loop, (uint64_t)size, out);

  return rc ? luaL_error(L, "memory store: %s", strerror(-rc)) : 1;
}

/* store.zero(size): reads as zeroes, forgets what is written. */
static int l_zeroes(lua_State *L)
{
  lua_Integer size = store_check_bytes(L, 1);
  uv_loop_t *loop;
  struct store **out = store_push(L, &loop);
  int rc = store_zero_open(loop, (uint64_t)size, out);

  return rc ? luaL_error(L, "zero store: %s", strerror(-rc)) : 1;
}

static int l_error_tostring(lua_State *L)
{
  lua_getfield(L, 1, "message");
  return 1;
}

static const luaL_Reg methods[] = {
  { "close", l_close },
  { "info", l_info },
  { "resize", l_resize },
  { "size", l_size },
  { "status", l_status },
  { NULL, NULL }
};

static const luaL_Reg functions[] = {
  { "file", store_file_new },
  { "memory", l_memory },
  { "zero", l_zeroes },
  { NULL, NULL }
};

void bind_store(lua_State *L)
{
  luaL_newmetatable(L, store_class);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__close");
  luaL_newlib(L, methods);
  luaL_setfuncs(L, store_io_methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "store");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);

  luaL_newmetatable(L, STORE_ERROR);
  lua_pushcfunction(L, l_error_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_setfield(L, -2, "io_error");

  luaL_newlib(L, functions);
  lua_setfield(L, -2, "store");
}
