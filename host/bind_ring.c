/* bind_ring.c - the consumer's side of a simulated kernel's ring for Lua.
 *
 * For specs that look at the ring itself: every call is one of ring.h's, on
 * a mapping of its own.  Iovecs come as { offset, length } from its start.
 */
#include "bind_raw.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bind_sim.h"
#include "ring.h"
#include "sim.h"

#define RING "tcmu.raw.ring"

struct consumer {
  struct ring *ring;            /* NULL once it is closed */
  unsigned char *map;
  size_t len;
  int fd;
};

lua_Integer raw_field(lua_State *L, int table, const char *name,
                      lua_Integer otherwise)
{
  lua_Integer n = otherwise;
  int given = 0;

  if (lua_istable(L, table) && lua_getfield(L, table, name) != LUA_TNIL) {
    n = lua_tointegerx(L, -1, &given);
    if (!given || n < 0)
      luaL_error(L, "%s: a non-negative integer is needed", name);
  }
  lua_settop(L, table);
  return n;
}

size_t raw_span(lua_State *L, int arg, size_t n, size_t size)
{
  lua_Integer at = luaL_checkinteger(L, arg);

  luaL_argcheck(L, at >= 0 && (lua_Unsigned)at <= size &&
                n <= size - (size_t)at, arg, "runs past the mapping");
  return (size_t)at;
}

void raw_type(lua_State *L, const char *name, const luaL_Reg *meta,
              const luaL_Reg *methods)
{
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

static struct consumer *check(lua_State *L, int arg)
{
  struct consumer *c = luaL_checkudata(L, arg, RING);

  luaL_argcheck(L, c->ring, arg, "the ring is closed");
  return c;
}

static int l_ring_close(lua_State *L)
{
  struct consumer *c = luaL_checkudata(L, 1, RING);

  ring_free(c->ring);
  c->ring = NULL;
  if (c->map)
    munmap(c->map, c->len);
  c->map = NULL;
  if (c->fd >= 0)
    close(c->fd);
  c->fd = -1;
  return 0;
}

int raw_ring(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  struct consumer *c;
  char why[160];
  void *map;

  c = lua_newuserdatauv(L, sizeof(*c), 0);
  *c = (struct consumer) { .fd = -1, .len = sim_size(s) };
  luaL_setmetatable(L, RING);
  c->fd = dup(sim_fd(s));
  map = mmap(NULL, c->len, PROT_READ | PROT_WRITE, MAP_SHARED, sim_memfd(s),
             0);
  if (map != MAP_FAILED)
    c->map = map;
  if (c->fd < 0 || !c->map)
    return luaL_error(L, "cannot attach to the simulated kernel: %s",
                      strerror(errno));
  if (ring_new(c->map, c->len, why, sizeof(why), &c->ring)) {
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
  }
  return 1;
}

/* Sets `name` in the table on top to { { offset, length }, ... }. */
static bool push_iovecs(lua_State *L, struct consumer *c,
                        const struct ring_cmd *cmd, uint32_t first, uint32_t n,
                        const char *name)
{
  struct iovec *iov = lua_newuserdatauv(L, (n + 1) * sizeof(*iov), 0);
  uint32_t i;

  if (ring_iovecs(c->ring, cmd, first, n, iov) < 0) {
    lua_pop(L, 1);
    return false;
  }
  lua_createtable(L, (int)n, 0);
  for (i = 0; i < n; i++) {
    lua_createtable(L, 2, 0);
    lua_pushinteger(L, (unsigned char *)iov[i].iov_base - c->map);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, (lua_Integer)iov[i].iov_len);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -3, name);
  lua_pop(L, 1);
  return true;
}

static bool push_cmd(lua_State *L, struct consumer *c,
                     const struct ring_cmd *cmd)
{
  unsigned char cdb[RING_CDB_MAX];
  int len = ring_cdb(c->ring, cmd, cdb);

  if (len < 0)
    return false;
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, cmd->token);
  lua_setfield(L, -2, "token");
  lua_pushinteger(L, cmd->id);
  lua_setfield(L, -2, "id");
  lua_pushlstring(L, (const char *)cdb, (size_t)len);
  lua_setfield(L, -2, "cdb");
  return push_iovecs(L, c, cmd, 0, cmd->iov_cnt, "iov") &&
    push_iovecs(L, c, cmd, cmd->iov_cnt, cmd->bidi_cnt, "bidi");
}

static void push_tmr(lua_State *L, const struct ring_tmr *t)
{
  uint32_t i;

  lua_createtable(L, 0, 2);
  lua_pushinteger(L, t->type);
  lua_setfield(L, -2, "type");
  lua_createtable(L, (int)t->count, 0);
  for (i = 0; i < t->count; i++) {
    lua_pushinteger(L, ring_tmr_id(t, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "ids");
}

/* r:next() -> "empty" | "reset" | "broken", why | "tmr", { type, ids }
 *           | "command", { token, id, cdb, iov, bidi } */
static int l_next(lua_State *L)
{
  struct consumer *c = check(L, 1);
  union ring_entry e;

  switch (ring_next(c->ring, &e)) {
  case RING_EMPTY:
    lua_pushliteral(L, "empty");
    return 1;
  case RING_RESET:
    lua_pushliteral(L, "reset");
    return 1;
  case RING_TMR:
    lua_pushliteral(L, "tmr");
    push_tmr(L, &e.tmr);
    return 2;
  case RING_CMD:
    lua_pushliteral(L, "command");
    if (push_cmd(L, c, &e.cmd))
      return 2;
    break;
  case RING_BROKEN:
    break;
  }
  lua_pushliteral(L, "broken");
  lua_pushstring(L, ring_why(c->ring));
  return 2;
}

/* Element `i` of the list of iovecs at `list`; false at its end. */
static bool span_at(lua_State *L, const struct consumer *c, int list,
                    lua_Integer i, size_t *at, size_t *n)
{
  if (lua_rawgeti(L, list, i) == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  *at = (size_t)lua_tointeger(L, -2);
  *n = (size_t)lua_tointeger(L, -1);
  if (*at > c->len || *n > c->len - *at)
    luaL_error(L, "iovec %I runs past the mapping", (LUAI_UACINT)i);
  lua_pop(L, 3);
  return true;
}

/* r:data(cmd) -> string, the Data-Out */
static int l_data(lua_State *L)
{
  struct consumer *c = check(L, 1);
  luaL_Buffer b;
  size_t at, n;
  lua_Integer i;

  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_getfield(L, 2, "iov");
  luaL_buffinit(L, &b);
  for (i = 1; span_at(L, c, 3, i, &at, &n); i++)
    luaL_addlstring(&b, (const char *)c->map + at, n);
  luaL_pushresult(&b);
  return 1;
}

/* Spreads the string over the Data-In of the command at 2. */
static void put_data(lua_State *L, struct consumer *c, const char *bytes,
                     size_t left)
{
  lua_Integer i;
  size_t at, n;
  int list;

  lua_getfield(L, 2, "bidi");
  if (lua_rawlen(L, -1) == 0)
    lua_getfield(L, 2, "iov");
  list = lua_gettop(L);
  for (i = 1; left && span_at(L, c, list, i, &at, &n); i++) {
    if (n > left)
      n = left;
    memcpy(c->map + at, bytes, n);
    bytes += n;
    left -= n;
  }
  if (left)
    luaL_error(L, "data_in is %I bytes too long", (LUAI_UACINT)left);
}

/* r:complete(cmd, { status, read_len, sense, data_in }), all optional */
static int l_complete(lua_State *L)
{
  struct consumer *c = check(L, 1);
  struct ring_result res = { .status = 0 };
  lua_Integer token, id;
  const char *bytes;
  size_t n;

  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  res.status = (uint8_t)raw_field(L, 3, "status", 0);
  res.read_len = (uint32_t)raw_field(L, 3, "read_len", 0);
  res.has_read_len = res.read_len > 0;
  lua_getfield(L, 2, "token");
  token = luaL_checkinteger(L, -1);
  lua_getfield(L, 2, "id");
  id = luaL_checkinteger(L, -1);
  if (lua_istable(L, 3)) {
    if (lua_getfield(L, 3, "data_in") != LUA_TNIL) {
      bytes = luaL_checklstring(L, -1, &n);
      put_data(L, c, bytes, n);
    }
    if (lua_getfield(L, 3, "sense") != LUA_TNIL)
      res.sense = (const unsigned char *)luaL_checklstring(L, -1,
                                                           &res.sense_len);
  }
  ring_complete(c->ring, (uint32_t)token, (uint16_t)id, &res);
  return 0;
}

static int l_publish(lua_State *L)
{
  lua_pushboolean(L, ring_publish(check(L, 1)->ring));
  return 1;
}

/* r:event() -> true if there was one: what a wake-up does first */
static int l_event(lua_State *L)
{
  uint32_t value;

  lua_pushboolean(L, read(check(L, 1)->fd, &value, sizeof(value)) ==
                  sizeof(value));
  return 1;
}

/* r:notify(): the write() that announces completions */
static int l_notify(lua_State *L)
{
  static const uint32_t value = 0;

  if (write(check(L, 1)->fd, &value, sizeof(value)) != sizeof(value))
    return luaL_error(L, "cannot write to the simulated kernel: %s",
                      strerror(errno));
  return 0;
}

static int l_outstanding(lua_State *L)
{
  lua_pushinteger(L, ring_outstanding(check(L, 1)->ring));
  return 1;
}

static int l_pending(lua_State *L)
{
  lua_pushboolean(L, ring_pending(check(L, 1)->ring));
  return 1;
}

static int l_caps(lua_State *L)
{
  lua_pushinteger(L, ring_caps(check(L, 1)->ring));
  return 1;
}

static const luaL_Reg ring_methods[] = {
  { "next", l_next }, { "data", l_data }, { "complete", l_complete },
  { "publish", l_publish }, { "event", l_event }, { "notify", l_notify },
  { "outstanding", l_outstanding }, { "pending", l_pending },
  { "caps", l_caps }, { "close", l_ring_close }, { NULL, NULL }
};

static const luaL_Reg ring_meta[] = {
  { "__gc", l_ring_close }, { "__close", l_ring_close }, { NULL, NULL }
};

void raw_ring_type(lua_State *L)
{
  raw_type(L, RING, ring_meta, ring_methods);
}
