/* main.c - the program tcmu-lua: an interpreter for lua/tcmu/cli.
 *
 * Finds its Lua files beside itself (a checkout) or where they were installed,
 * opens a Lua state with tcmu.core in it, and runs the command line.  That
 * state later is the control thread's.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind.h"
#include "luv.h"

#ifndef LUADIR
#define LUADIR "/usr/local/share/lua/5.4"
#endif
#ifndef HANDLERDIR
#define HANDLERDIR "/usr/local/share/tcmu-lua/handlers"
#endif

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

/* Pushes the directory of the executable. */
static void push_own_dir(lua_State *L)
{
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
  char *slash;

  path[n > 0 ? n : 0] = '\0';
  slash = strrchr(path, '/');
  lua_pushlstring(L, path, slash ? (size_t)(slash - path) : 0);
}

static bool has_tcmu(lua_State *L, const char *dir)
{
  return access(lua_pushfstring(L, "%s/tcmu/init.lua", dir), R_OK) == 0;
}

/* package.path, and tcmu.paths = { lua =, handlers = } for the command line.
 * A checkout has both beside the program; LuaRocks moves the Lua files into
 * the tree that the program's bin directory belongs to. */
static void set_paths(lua_State *L)
{
  const char *own, *lua, *handlers;

  push_own_dir(L);
  own = lua_tostring(L, -1);
  lua = lua_pushfstring(L, "%s/lua", own);
  handlers = lua_pushfstring(L, "%s/handlers", own);
  if (!has_tcmu(L, lua)) {
    lua = lua_pushfstring(L, "%s/../share/lua/5.4", own);
    if (!has_tcmu(L, lua))
      lua = LUADIR;
    handlers = HANDLERDIR;
  }
  lua_createtable(L, 0, 2);
  lua_pushstring(L, lua);
  lua_setfield(L, -2, "lua");
  lua_pushstring(L, handlers);
  lua_setfield(L, -2, "handlers");
  lua_setfield(L, LUA_REGISTRYINDEX, "tcmu.paths");

  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", lua, lua,
                  lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_settop(L, 0);
}

static int traceback(lua_State *L)
{
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

/* require("tcmu.cli").main(arg) -> exit status */
static int run(lua_State *L, int argc, char **argv)
{
  int i, status = 1;

  lua_pushcfunction(L, traceback);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "tcmu.cli");
  if (lua_pcall(L, 1, 1, 1) == LUA_OK) {
    lua_getfield(L, -1, "main");
    lua_createtable(L, argc, 1);
    for (i = 0; i < argc; i++) {
      lua_pushstring(L, argv[i]);
      lua_rawseti(L, -2, i);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, "tcmu.paths");
    if (lua_pcall(L, 2, 1, 1) == LUA_OK)
      return (int)luaL_optinteger(L, -1, 0);
  }
  fprintf(stderr, "tcmu-lua: %s\n", lua_tostring(L, -1));
  return status;
}

int main(int argc, char **argv)
{
  lua_State *L;
  int status;

  /* libuv reads this once and uses it as an array's length without a check. */
  setenv("UV_THREADPOOL_SIZE", "8", 1);
  signal(SIGPIPE, SIG_IGN);
  L = luaL_newstate();
  if (!L) {
    fprintf(stderr, "tcmu-lua: out of memory\n");
    return 1;
  }
  luaL_openlibs(L);
  preload(L, "tcmu.core", luaopen_tcmu_core);
  preload(L, "luv", luv_preload_plain);
  set_paths(L);
  status = run(L, argc, argv);
  lua_close(L);
  /* Not exit(): libuv would join its pool, where a request may be stuck. */
  fflush(NULL);
  _exit(status);
}
