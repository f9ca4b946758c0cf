/* message.c - see message.h.
 *
 * A field is its key with the terminating NUL, one byte of type, and the
 * value: eight bytes of a number, or a length of eight bytes and a string that
 * is terminated as well.
 */
#include "message.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { T_INTEGER = 'i', T_BOOLEAN = 'b', T_STRING = 's' };

struct field {
  const char *key;
  int type;
  int64_t number;
  const char *string;
  size_t len;
};

/* Reads the field at *at and moves on; false at the end. */
static bool next(const struct message *m, size_t *at, struct field *f)
{
  const unsigned char *p = m->fields + *at;

  if (*at >= m->len)
    return false;
  f->key = (const char *)p;
  p += strlen(f->key) + 1;
  f->type = *p++;
  memcpy(&f->number, p, sizeof(f->number));
  p += sizeof(f->number);
  if (f->type == T_STRING) {
    f->len = (size_t)f->number;
    f->string = (const char *)p;
    p += f->len + 1;
  }
  *at = (size_t)(p - m->fields);
  return true;
}

static void put(luaL_Buffer *b, const char *key, int type, int64_t number)
{
  luaL_addlstring(b, key, strlen(key) + 1);
  luaL_addchar(b, (char)type);
  luaL_addlstring(b, (const char *)&number, sizeof(number));
}

static struct message *make(int64_t device, const char *verb, size_t len)
{
  struct message *m = calloc(1, sizeof(*m) + len);

  if (!m)
    return NULL;
  m->device = device;
  strncpy(m->verb, verb, sizeof(m->verb) - 1);
  m->len = len;
  return m;
}

/* Appends the pair at -2, -1 to a string that is collected below. */
static void add_pair(lua_State *L, luaL_Buffer *b, int key, int value)
{
  const char *name, *s;
  size_t n;

  if (lua_type(L, key) != LUA_TSTRING)
    luaL_error(L, "message: keys are strings");
  name = lua_tostring(L, key);
  switch (lua_type(L, value)) {
  case LUA_TBOOLEAN:
    put(b, name, T_BOOLEAN, lua_toboolean(L, value));
    return;
  case LUA_TSTRING:
    s = lua_tolstring(L, value, &n);
    put(b, name, T_STRING, (int64_t)n);
    luaL_addlstring(b, s, n + 1);
    return;
  case LUA_TNUMBER:
    if (lua_isinteger(L, value)) {
      put(b, name, T_INTEGER, lua_tointeger(L, value));
      return;
    }
    break;
  }
  luaL_error(L, "message: '%s' is a %s, not a string, integer or boolean",
             name, luaL_typename(L, value));
}

struct message *message_from(lua_State *L, int64_t device, const char *verb,
                             int arg)
{
  struct message *m;
  luaL_Buffer b;
  const char *s;
  size_t n;
  int pair;

  lua_pushliteral(L, "");
  if (lua_istable(L, arg)) {
    lua_pushnil(L);
    while (lua_next(L, arg)) {
      pair = lua_gettop(L);     /* text, key, value */
      luaL_buffinit(L, &b);
      add_pair(L, &b, pair - 1, pair);
      luaL_pushresult(&b);
      lua_pushvalue(L, pair - 2);
      lua_insert(L, -2);
      lua_concat(L, 2);
      lua_replace(L, pair - 2);
      lua_settop(L, pair - 1);
    }
  }
  s = lua_tolstring(L, -1, &n);
  m = make(device, verb, n);
  if (!m)
    luaL_error(L, "out of memory");
  memcpy(m->fields, s, n);
  lua_pop(L, 1);
  return m;
}

struct message *message_report(int64_t device, const char *verb, int status,
                               const char *why)
{
  static const char status_key[] = "status", why_key[] = "why";
  size_t n = why ? strlen(why) : 0;
  int64_t number = status;
  struct message *m;
  unsigned char *p;

  m = make(device, verb, sizeof(status_key) + 1 + 8 +
           (why ? sizeof(why_key) + 1 + 8 + n + 1 : 0));
  if (!m)
    return NULL;
  p = m->fields;
  memcpy(p, status_key, sizeof(status_key));
  p += sizeof(status_key);
  *p++ = T_INTEGER;
  memcpy(p, &number, 8);
  p += 8;
  if (why) {
    memcpy(p, why_key, sizeof(why_key));
    p += sizeof(why_key);
    *p++ = T_STRING;
    number = (int64_t)n;
    memcpy(p, &number, 8);
    memcpy(p + 8, why, n + 1);
  }
  return m;
}

void message_push(lua_State *L, const struct message *m)
{
  struct field f;
  size_t at = 0;

  lua_newtable(L);
  while (next(m, &at, &f)) {
    if (f.type == T_STRING)
      lua_pushlstring(L, f.string, f.len);
    else if (f.type == T_BOOLEAN)
      lua_pushboolean(L, f.number != 0);
    else
      lua_pushinteger(L, f.number);
    lua_setfield(L, -2, f.key);
  }
}

static bool find(const struct message *m, const char *key, struct field *f)
{
  size_t at = 0;

  while (next(m, &at, f))
    if (strcmp(f->key, key) == 0)
      return true;
  return false;
}

const char *message_string(const struct message *m, const char *key,
                           const char *fallback)
{
  struct field f;

  return find(m, key, &f) && f.type == T_STRING ? f.string : fallback;
}

int64_t message_integer(const struct message *m, const char *key,
                        int64_t fallback)
{
  struct field f;

  return find(m, key, &f) && f.type != T_STRING ? f.number : fallback;
}
