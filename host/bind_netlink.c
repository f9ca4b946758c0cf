/* bind_netlink.c - netlink.h for the control thread's Lua.
 *
 * core.netlink.open() gives a userdata that closes itself; events become flat
 * tables.  Failures are nil, message, code (an errno), as everywhere in Lua
 * that asks the outside world.
 */
#include <errno.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "bind.h"
#include "bind_outside.h"
#include "netlink.h"

#define NETLINK "tcmu.netlink"

static const char *const command_names[] = {
  [NETLINK_ADDED] = "added",
  [NETLINK_REMOVED] = "removed",
  [NETLINK_RECONFIG] = "reconfig",
};

static struct netlink *check(lua_State *L)
{
  return outside_check(L, NETLINK);
}

/* netlink.open() -> netlink, or nil, message, errno */
static int l_open(lua_State *L)
{
  void **object = outside_new(L, NETLINK);
  struct netlink *nl;
  const char *why;
  int rc = netlink_open(&nl, &why);

  *object = nl;
  return rc < 0 ? outside_fail(L, rc, why) : 1;
}

static int l_close(lua_State *L)
{
  netlink_close(outside_take(L, NETLINK));
  return 0;
}

/* nl:fd() -> the descriptor to poll for events */
static int l_fd(lua_State *L)
{
  lua_pushinteger(L, netlink_fd(check(L)));
  return 1;
}

/* nl:group() -> the number of the multicast group */
static int l_group(lua_State *L)
{
  lua_pushinteger(L, netlink_group(check(L)));
  return 1;
}

static void set_integer(lua_State *L, const char *key, lua_Integer v)
{
  lua_pushinteger(L, v);
  lua_setfield(L, -2, key);
}

static void push_event(lua_State *L, const struct netlink_event *e)
{
  lua_createtable(L, 0, 5);
  lua_pushstring(L, command_names[e->command]);
  lua_setfield(L, -2, "command");
  lua_pushstring(L, e->device);
  lua_setfield(L, -2, "device");
  set_integer(L, "minor", e->minor);
  set_integer(L, "device_id", e->device_id);

  switch (e->change) {
  case NETLINK_NOTHING:
    break;
  case NETLINK_CONFIG:
    lua_pushstring(L, e->config);
    lua_setfield(L, -2, "config");
    break;
  case NETLINK_SIZE:
    set_integer(L, "size", (lua_Integer)e->size);
    break;
  case NETLINK_WRITE_CACHE:
    lua_pushboolean(L, e->write_cache);
    lua_setfield(L, -2, "write_cache");
    break;
  }
}

/* nl:receive() -> array of events, lost (true if the kernel dropped some) */
static int l_receive(lua_State *L)
{
  struct netlink *nl = check(L);
  struct netlink_event e;
  lua_Integer n = 0;
  int lost = 0, rc;

  lua_newtable(L);
  while ((rc = netlink_next(nl, &e)) != 0) {
    if (rc == -ENOBUFS) {
      lost = 1;
      continue;
    }
    if (rc < 0)
      return outside_fail(L, rc, NULL);
    push_event(L, &e);
    lua_rawseti(L, -2, ++n);
  }
  lua_pushboolean(L, lost);
  return 2;
}

/* nl:done(event, status) -> true, or nil, message, errno.  `event` is one of
 * receive(), or any table with its command and device_id. */
static int l_done(lua_State *L)
{
  struct netlink *nl = check(L);
  lua_Integer id, status = luaL_checkinteger(L, 3);
  const char *name;
  int command, rc;

  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_argcheck(L, status <= 0 && status > -4096, 3,
                "must be 0 or a negative errno");
  lua_getfield(L, 2, "command");
  lua_getfield(L, 2, "device_id");
  name = luaL_checkstring(L, -2);
  id = luaL_checkinteger(L, -1);

  for (command = NETLINK_ADDED; command <= NETLINK_RECONFIG; command++)
    if (strcmp(name, command_names[command]) == 0)
      break;
  luaL_argcheck(L, command <= NETLINK_RECONFIG, 2, "no such command");

  rc = netlink_done(nl, (enum netlink_command)command, (uint32_t)id,
                    (int)status);
  return outside_outcome(L, rc);
}

/* nl:set_features(replies) -> true, or nil, message, errno; replies: 0 or 1 */
static int l_set_features(lua_State *L)
{
  struct netlink *nl = check(L);
  int rc = netlink_set_features(nl, luaL_checkinteger(L, 2) != 0);

  if (rc == -EPERM)
    return outside_fail(L, rc, "the kernel refused SET_FEATURES: run as root, "
                        "or with CAP_NET_ADMIN");
  return outside_outcome(L, rc);
}

static const luaL_Reg methods[] = {
  { "fd", l_fd },
  { "group", l_group },
  { "receive", l_receive },
  { "done", l_done },
  { "set_features", l_set_features },
  { "close", l_close },
  { NULL, NULL },
};

/* Pushes the table { open = fn }. */
int bind_netlink(lua_State *L)
{
  return outside_module(L, NETLINK, methods, l_close, l_open);
}
