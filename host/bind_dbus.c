/* bind_dbus.c - dbus.h for the control thread's Lua.
 *
 * core.dbus.open() gives a userdata that closes itself.  Failures are nil,
 * message, errno.
 */
#include <poll.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "bind.h"
#include "bind_outside.h"
#include "dbus.h"

#define DBUS "tcmu.dbus"

static const char *const name_states[] = {
  [DBUS_NOT_ASKED] = "not asked",
  [DBUS_QUEUED] = "queued",
  [DBUS_OURS] = "ours",
  [DBUS_REFUSED] = "refused",
};

static struct dbus *check(lua_State *L)
{
  return outside_check(L, DBUS);
}

/* dbus.open() -> bus, or nil, message, errno; EOPNOTSUPP if built without */
static int l_open(lua_State *L)
{
  void **object = outside_new(L, DBUS);
  struct dbus *d;
  int rc = dbus_open(&d);

  *object = d;
  return rc < 0 ? outside_fail(L, rc, NULL) : 1;
}

static int l_close(lua_State *L)
{
  dbus_close(outside_take(L, DBUS));
  return 0;
}

/* bus:add(subtype, description) */
static int l_add(lua_State *L)
{
  return outside_outcome(L, dbus_add(check(L), luaL_checkstring(L, 2),
                                     luaL_checkstring(L, 3)));
}

/* bus:ask_name(): then see bus:name(). */
static int l_ask_name(lua_State *L)
{
  return outside_outcome(L, dbus_ask_name(check(L)));
}

/* bus:name() -> "not asked", "queued", "ours" or "refused" */
static int l_name(lua_State *L)
{
  lua_pushstring(L, name_states[dbus_name(check(L))]);
  return 1;
}

/* bus:fd() -> the descriptor, the same for its life */
static int l_fd(lua_State *L)
{
  int rc = dbus_fd(check(L));

  if (rc < 0)
    return outside_fail(L, rc, NULL);
  lua_pushinteger(L, rc);
  return 1;
}

/* bus:wants() -> what luv's poll is to wait for, "r" or "rw", and the
 * milliseconds until bus:process() is due anyway, or nil; to be asked again
 * after every other call.  Or nil, nil, message when the bus is gone. */
static int l_wants(lua_State *L)
{
  struct dbus *d = check(L);
  int events = dbus_events(d);
  int64_t ms = dbus_timeout(d);

  if (events < 0) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushstring(L, strerror(-events));
    return 3;
  }
  lua_pushstring(L, events & POLLOUT ? "rw" : "r");
  if (ms < 0)
    lua_pushnil(L);
  else
    lua_pushinteger(L, ms);
  return 2;
}

static void set_string(lua_State *L, const char *key, const char *text)
{
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

/* bus:process() -> array of calls of CheckConfig, { id, subtype, config } */
static int l_process(lua_State *L)
{
  struct dbus *d = check(L);
  struct dbus_call call;
  lua_Integer n = 0;
  int rc = dbus_process(d);

  if (rc < 0)
    return outside_fail(L, rc, NULL);
  lua_newtable(L);
  while (dbus_next(d, &call)) {
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, call.id);
    lua_setfield(L, -2, "id");
    set_string(L, "subtype", call.subtype);
    set_string(L, "config", call.config);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* bus:answer(id, valid, text) */
static int l_answer(lua_State *L)
{
  return outside_outcome(L, dbus_answer(check(L), luaL_checkinteger(L, 2),
                                        lua_toboolean(L, 3),
                                        luaL_checkstring(L, 4)));
}

static const luaL_Reg methods[] = {
  { "add", l_add },
  { "answer", l_answer },
  { "ask_name", l_ask_name },
  { "close", l_close },
  { "fd", l_fd },
  { "name", l_name },
  { "process", l_process },
  { "wants", l_wants },
  { NULL, NULL }
};

/* Pushes the table { open = fn }. */
int bind_dbus(lua_State *L)
{
  return outside_module(L, DBUS, methods, l_close, l_open);
}
