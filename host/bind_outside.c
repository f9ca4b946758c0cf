/* bind_outside.c - objects that close themselves, and failures of the outside
 * world.
 */
#include "bind_outside.h"

#include <string.h>

void **outside_new(lua_State *L, const char *name)
{
  void **object = lua_newuserdatauv(L, sizeof(*object), 0);

  *object = NULL;
  luaL_setmetatable(L, name);
  return object;
}

void *outside_check(lua_State *L, const char *name)
{
  void **object = luaL_checkudata(L, 1, name);

  luaL_argcheck(L, *object, 1, "it is closed");
  return *object;
}

void *outside_take(lua_State *L, const char *name)
{
  void **object = luaL_checkudata(L, 1, name), *taken = *object;

  *object = NULL;
  return taken;
}

int outside_fail(lua_State *L, int rc, const char *why)
{
  lua_pushnil(L);
  lua_pushstring(L, why ? why : strerror(-rc));
  lua_pushinteger(L, -rc);
  return 3;
}

int outside_outcome(lua_State *L, int rc)
{
  if (rc < 0)
    return outside_fail(L, rc, NULL);
  lua_pushboolean(L, 1);
  return 1;
}

int outside_module(lua_State *L, const char *name, const luaL_Reg *methods,
                   lua_CFunction close, lua_CFunction open)
{
  if (luaL_newmetatable(L, name)) {
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_pop(L, 1);

  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, "open");
  return 1;
}
