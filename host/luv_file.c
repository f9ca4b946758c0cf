/* luv_file.c - see luv_file.h. */
#include "luv_file.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>

#include "device.h"
#include "task.h"

#define REQUEST "tcmu.luv_request"

/* __gc.  The callback that luv gets has it as its first upvalue, so it lives as
 * long as the request. */
static int l_forget(lua_State *L)
{
  struct task *t = task_request_over(luaL_checkudata(L, 1, REQUEST));

  if (t)
    task_let_end(t);
  return 0;
}

/* Upvalues: the request, the callback, struct luv_files. */
static int l_over(lua_State *L)
{
  struct luv_files *f = lua_touserdata(L, lua_upvalueindex(3));

  f->task = task_request_over(lua_touserdata(L, lua_upvalueindex(1)));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

void luv_file_settle(struct luv_files *f)
{
  struct task *t = f->task;

  f->task = NULL;
  if (t)
    task_let_end(t);
}

static bool callable(lua_State *L, int arg)
{
  if (lua_isfunction(L, arg))
    return true;
  if (!luaL_getmetafield(L, arg, "__call"))
    return false;
  lua_pop(L, 1);
  return true;
}

/* Whose end waits for a request.  An open, an upgrade and a close have a time
 * limit, and no data that newer commands could change; what an open leaves
 * running does. */
static bool is_noted(const struct task *t)
{
  const struct device *d = t->dev;
  const struct task *root = t;

  while (root->parent)
    root = root->parent;
  if (t->cmd || t->locks)
    return true;
  return !d->held && d->phase != DEVICE_CLOSING &&
         !(d->phase == DEVICE_OPENING && root == d->busy);
}

/* uv.fs_...(..., callback).  Upvalues: luv's own, struct luv_files.  Without a
 * callback, or for nobody, there is nothing to note. */
static int l_begin(lua_State *L)
{
  struct luv_files *f = lua_touserdata(L, lua_upvalueindex(2));
  struct task *t = task_running() ? task_running() : f->task;
  struct task_request *r = NULL;
  int n = lua_gettop(L);

  if (t && is_noted(t) && n && callable(L, n)) {
    r = lua_newuserdatauv(L, sizeof(*r), 0);
    r->task = NULL;
    luaL_setmetatable(L, REQUEST);
    lua_insert(L, n);
    lua_pushlightuserdata(L, f);
    lua_pushcclosure(L, l_over, 3);
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, n, LUA_MULTRET);
  if (r && lua_isuserdata(L, 1))        /* under way, so not an error */
    task_request_begin(t, r);
  return lua_gettop(L);
}

/* Requests for files, unlike the handles that watch them. */
static bool requests(const char *name)
{
  return !strncmp(name, "fs_", 3) && strncmp(name, "fs_event", 8) &&
         strncmp(name, "fs_poll", 7);
}

void luv_file_watch(lua_State *L, struct luv_files *f)
{
  luaL_newmetatable(L, REQUEST);
  lua_pushcfunction(L, l_forget);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);

  for (lua_pushnil(L); lua_next(L, -2);) {
    if (lua_type(L, -2) != LUA_TSTRING || !requests(lua_tostring(L, -2)) ||
        !lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushlightuserdata(L, f);
    lua_pushcclosure(L, l_begin, 2);
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
}
