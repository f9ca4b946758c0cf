/* bind_store_file.c - tcmu.store.file: what Lua says of a file and of the ways
 * to serve it.
 */
#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#include "bind_store.h"
#include "store.h"

/* The word that the table at 4, if any, has for an option: its place in the
 * list, the first if it has none. */
static int word(lua_State *L, const char *option, const char *const *words)
{
  const char *text;
  int i = 0;

  if (lua_isnoneornil(L, 4) || lua_getfield(L, 4, option) == LUA_TNIL)
    return 0;
  text = lua_tostring(L, -1);
  while (words[i] && (!text || strcmp(text, words[i]) != 0))
    i++;
  if (!words[i])
    luaL_error(L, "store.file: '%s' is no choice for '%s', whose default is "
               "'%s'", text ? text : luaL_typename(L, -1), option, words[0]);
  return i;
}

static unsigned file_options(lua_State *L)
{
  static const char *const read_ways[] = { "auto", "async", NULL };
  static const char *const write_ways[] = { "auto", "async", "inline", NULL };
  static const char *const engines[] = { "auto", "threads", NULL };
  static const unsigned writes[] = {
    0, STORE_FILE_WRITES_ASYNC, STORE_FILE_WRITES_INLINE
  };
  unsigned flags = 0;

  if (!lua_isnoneornil(L, 4)) {
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_getfield(L, 4, "direct");
    flags |= lua_toboolean(L, -1) ? STORE_FILE_DIRECT : 0;
    lua_pop(L, 1);
  }
  flags |= word(L, "reads", read_ways) ? STORE_FILE_READS_ASYNC : 0;
  flags |= writes[word(L, "writes", write_ways)];
  flags |= word(L, "aio", engines) ? STORE_FILE_THREADS : 0;
  return flags;
}

/* store.file(path [, mode [, size [, options]]]): mode "r" read only, "rw"
 * (default), "c" creates a sparse file of `size` if there is none.  `size`:
 * what the file must have at least.  Options: `direct` = true, past the page
 * cache; `reads` = "auto" or "async", `writes` = "auto", "async" or "inline",
 * where they are made; `aio` = "auto" or "threads", by what if not on the
 * loop.  Raises an I/O error with a sentence. */
int store_file_new(lua_State *L)
{
  static const char *const modes[] = { "r", "rw", "c", NULL };
  static const unsigned flags[] = {
    STORE_FILE_READ_ONLY, 0, STORE_FILE_CREATE
  };
  const char *path = luaL_checkstring(L, 1);
  unsigned mode = flags[luaL_checkoption(L, 2, "rw", modes)];
  lua_Integer size = luaL_optinteger(L, 3, 0);
  struct store **out;
  char why[512] = "";
  uv_loop_t *loop;
  int rc;

  luaL_argcheck(L, size >= 0, 3, "must not be negative");
  mode |= file_options(L);
  out = store_push(L, &loop);
  rc = store_file_open(loop, path, mode, (uint64_t)size, why, sizeof(why),
                       out);
  if (!rc)
    return 1;
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, -rc);
  lua_setfield(L, -2, "errno");
  lua_pushliteral(L, "open");
  lua_setfield(L, -2, "verb");
  lua_pushstring(L, why);
  lua_setfield(L, -2, "message");
  luaL_setmetatable(L, STORE_ERROR);
  return lua_error(L);
}
