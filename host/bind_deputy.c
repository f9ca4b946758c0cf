/* bind_deputy.c - deputy.h for the control thread's Lua.
 *
 * core.deputy.open() gives a userdata that closes itself.  Failures are nil,
 * message, errno, in answers too.
 */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "bind.h"
#include "bind_outside.h"
#include "deputy.h"

#define DEPUTY "tcmu.deputy"

static struct deputy *check(lua_State *L)
{
  return outside_check(L, DEPUTY);
}

/* deputy.open() -> deputy, or nil, message, errno */
static int l_open(lua_State *L)
{
  void **object = outside_new(L, DEPUTY);
  struct deputy *d;
  int rc = deputy_open(&d);

  *object = d;
  return rc < 0 ? outside_fail(L, rc, NULL) : 1;
}

static int l_close(lua_State *L)
{
  deputy_close(outside_take(L, DEPUTY));
  return 0;
}

/* d:fd() -> the descriptor to poll for answers */
static int l_fd(lua_State *L)
{
  lua_pushinteger(L, deputy_fd(check(L)));
  return 1;
}

/* d:ask(id, path [, text]) -> true, or nil, message, errno; reads the file, or
 * the names in a directory, or writes text to it; the answer has the same id */
static int l_ask(lua_State *L)
{
  struct deputy *d = check(L);
  lua_Integer id = luaL_checkinteger(L, 2);
  const char *path = luaL_checkstring(L, 3);
  size_t len = 0;
  const char *text = luaL_optlstring(L, 4, NULL, &len);
  int rc = deputy_ask(d, id, path, text, len);

  return outside_outcome(L, rc);
}

static void push_answer(lua_State *L, const struct deputy_answer *a)
{
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, a->id);
  lua_setfield(L, -2, "id");
  if (a->error < 0) {
    lua_pushstring(L, strerror(-a->error));
    lua_setfield(L, -2, "message");
    lua_pushinteger(L, -a->error);
    lua_setfield(L, -2, "code");
  } else if (!a->is_write) {
    lua_pushlstring(L, a->text, a->len);
    lua_setfield(L, -2, "text");
  }
}

/* d:receive() -> array of { id =, text = what was read } or of { id =,
 * message =, code = errno } */
static int l_receive(lua_State *L)
{
  struct deputy *d = check(L);
  struct deputy_answer a;
  lua_Integer n = 0;

  lua_newtable(L);
  while (deputy_next(d, &a)) {
    push_answer(L, &a);
    free(a.text);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const luaL_Reg methods[] = {
  { "fd", l_fd },
  { "ask", l_ask },
  { "receive", l_receive },
  { "close", l_close },
  { NULL, NULL },
};

/* Pushes the table { open = fn }. */
int bind_deputy(lua_State *L)
{
  return outside_module(L, DEPUTY, methods, l_close, l_open);
}
