/* bind_sandbox.c - a handler's state without what would stop its shard.
 *
 * Removed: what ends the process or changes it for all threads.  Replaced:
 * what blocks (it raises and names what to use instead), and the coroutine
 * functions, so that the watchdog always knows which coroutine runs and
 * nobody resumes a coroutine that belongs to a command.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "luv.h"
#include "state.h"
#include "task.h"
#include "watchdog.h"

static char *kept_path, *kept_cpath;

/* Handler states get the module paths of whoever starts the shards, which
 * found the product's own files. */
void bind_keep_paths(lua_State *L)
{
  const char *path, *cpath;

  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_getfield(L, -2, "cpath");
  path = lua_tostring(L, -2);
  cpath = lua_tostring(L, -1);
  free(kept_path);
  free(kept_cpath);
  kept_path = path ? strdup(path) : NULL;
  kept_cpath = cpath ? strdup(cpath) : NULL;
  lua_pop(L, 3);
}

static int l_blocks(lua_State *L)
{
  return luaL_error(L, "%s blocks every device of this shard; use %s",
                    lua_tostring(L, lua_upvalueindex(1)),
                    lua_tostring(L, lua_upvalueindex(2)));
}

/* lib[name] = a function that raises. */
static void block(lua_State *L, const char *lib, const char *name,
                  const char *instead)
{
  lua_getglobal(L, lib);
  lua_pushfstring(L, "%s.%s", lib, name);
  lua_pushstring(L, instead);
  lua_pushcclosure(L, l_blocks, 2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

static void drop(lua_State *L, const char *lib, const char *name)
{
  lua_getglobal(L, lib);
  lua_pushnil(L);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

static lua_State *check_co(lua_State *L)
{
  lua_State *co = lua_tothread(L, 1);

  luaL_argexpected(L, co, 1, "thread");
  luaL_argcheck(L, !task_owns(co) || co == L, 1,
                "this coroutine belongs to a command");
  return co;
}

/* Resumes co with the `nargs` values on top of L's stack, and moves its results
 * or its error there; -1: an error.  A coroutine that was stopped stops its
 * resumer as well, which yields in turn: -2. */
static int resume(lua_State *L, lua_State *co, int nargs)
{
  lua_State *before;
  int rc, nres;

  if (!lua_checkstack(co, nargs)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, co, nargs);
  before = watchdog_switch(co);
  rc = lua_resume(co, L, nargs, &nres);
  watchdog_switch(before);
  if (rc == LUA_YIELD && watchdog_stopping()) {
    if (!lua_isyieldable(L))
      luaL_error(L, "stopped");
    return -2;
  }
  if (rc != LUA_OK && rc != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  if (!lua_checkstack(L, nres + 1)) {
    lua_pop(co, nres);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, nres);
  return nres;
}

/* Runs the pending <close> variables of a coroutine. */
static int reset(lua_State *co)
{
  lua_State *before = watchdog_switch(co);
  int rc = lua_resetthread(co);

  watchdog_switch(before);
  return rc;
}

/* coroutine.resume */
static int l_resume(lua_State *L)
{
  lua_State *co = check_co(L);
  int n = resume(L, co, lua_gettop(L) - 1);

  if (n == -2)
    return lua_yield(L, 0);
  lua_pushboolean(L, n >= 0);
  if (n < 0)
    n = 1;
  lua_insert(L, -(n + 1));
  return n + 1;
}

/* What coroutine.wrap returns: errors are raised, with the place. */
static int l_wrapped(lua_State *L)
{
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int n = resume(L, co, lua_gettop(L)), status;

  if (n == -2)
    return lua_yield(L, 0);
  if (n >= 0)
    return n;
  status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(L, co, 1);        /* the <close> variables get to see it */
    status = reset(co);
    lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int l_wrap(lua_State *L)
{
  lua_State *co;

  luaL_checktype(L, 1, LUA_TFUNCTION);
  co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, l_wrapped, 1);
  return 1;
}

/* coroutine.close */
static int l_close(lua_State *L)
{
  lua_State *co = check_co(L);
  lua_Debug ar;

  if (co == L)
    return luaL_error(L, "cannot close a running coroutine");
  if (lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar))
    return luaL_error(L, "cannot close a normal coroutine");
  if (reset(co) == LUA_OK) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

static const luaL_Reg coroutines[] = {
  { "close", l_close },
  { "resume", l_resume },
  { "wrap", l_wrap },
  { NULL, NULL }
};

/* io.input and io.lines mean standard input if no file is named. */
static int l_named(lua_State *L)
{
  if (lua_isnoneornil(L, 1))
    return luaL_error(L, "%s without a file blocks every device of this shard; "
                      "name one", lua_tostring(L, lua_upvalueindex(2)));
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

static void need_name(lua_State *L, const char *name)
{
  lua_getglobal(L, "io");
  lua_getfield(L, -1, name);
  lua_pushfstring(L, "io.%s", name);
  lua_pushcclosure(L, l_named, 2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void bind_sandbox(lua_State *L)
{
  drop(L, "os", "exit");
  drop(L, "os", "setlocale");
  drop(L, "debug", "sethook");
  drop(L, "io", "stdin");
  block(L, "os", "execute", "luv's spawn with tcmu.await");
  block(L, "io", "popen", "luv's spawn with tcmu.await");
  block(L, "io", "read", "luv with tcmu.await");

  need_name(L, "input");
  need_name(L, "lines");

  lua_getglobal(L, "coroutine");
  luaL_setfuncs(L, coroutines, 0);
  lua_pop(L, 1);

  preload(L, "tcmu.core", luaopen_tcmu_core);
  preload(L, "luv", luv_preload);
  lua_getglobal(L, "package");
  if (kept_path) {
    lua_pushstring(L, kept_path);
    lua_setfield(L, -2, "path");
  }
  if (kept_cpath) {
    lua_pushstring(L, kept_cpath);
    lua_setfield(L, -2, "cpath");
  }
  lua_pop(L, 1);
}
