/* bind_sim.c - the simulated kernel for Lua; bind_ring.c has the other side.
 *
 *   local s = raw.sim { ring_size = 4096 }         the kernel
 *   local tag = s:submit(cdb, { data_in = 36 })
 *   local r = raw.ring(s)                          the consumer
 *   local kind, cmd = r:next()
 *   r:complete(cmd, { data_in = "..." })
 *   r:publish(); r:notify()
 *   local done = s:collect()                       the initiator's answers
 *
 * Nothing here waits.  Offsets count from 0, from the start of the mapping.
 */
#include "bind_sim.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "bind_raw.h"
#include "ring.h"
#include "sim.h"

#define SIM "tcmu.raw.sim"

struct sim *sim_check(lua_State *L, int arg)
{
  struct sim **s = luaL_checkudata(L, arg, SIM);

  luaL_argcheck(L, *s, arg, "the simulated kernel is closed");
  return *s;
}

/* raw.sim { ring_size, data_size, block_pages, caps, version }, all optional:
 * see sim_defaults.  Raises if the kernel refuses memory or sockets. */
static int l_sim(lua_State *L)
{
  struct sim_options o;
  struct sim **s;
  int rc;

  lua_settop(L, 1);
  if (!lua_isnil(L, 1))
    luaL_checktype(L, 1, LUA_TTABLE);
  o.ring_size = (size_t)raw_field(L, 1, "ring_size",
                              (lua_Integer)sim_defaults.ring_size);
  o.data_size = (size_t)raw_field(L, 1, "data_size",
                              (lua_Integer)sim_defaults.data_size);
  o.block_pages = (unsigned)raw_field(L, 1, "block_pages",
                                  sim_defaults.block_pages);
  o.caps = (unsigned)raw_field(L, 1, "caps", sim_defaults.caps);
  o.version = (unsigned)raw_field(L, 1, "version", sim_defaults.version);

  s = lua_newuserdatauv(L, sizeof(*s), 0);
  *s = NULL;
  luaL_setmetatable(L, SIM);
  rc = sim_new(&o, s);
  if (rc == -EINVAL)
    return luaL_error(L, "the ring must be whole pages of 4096 bytes and the "
                      "data area whole blocks");
  if (rc)
    return luaL_error(L, "cannot simulate a kernel: %s", strerror(-rc));
  return 1;
}

static int l_sim_close(lua_State *L)
{
  struct sim **s = luaL_checkudata(L, 1, SIM);

  sim_free(*s);
  *s = NULL;
  return 0;
}

static int l_sim_tostring(lua_State *L)
{
  struct sim **s = luaL_checkudata(L, 1, SIM);

  lua_pushfstring(L, *s ? "simulated kernel (%p)" : "simulated kernel (closed)",
                  (void *)*s);
  return 1;
}

/* s:submit(cdb, { data_out = string, data_in = length }) -> tag */
static int l_submit(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  struct sim_request q = { .cdb = NULL };
  uint64_t tag;

  q.cdb = (const unsigned char *)luaL_checklstring(L, 2, &q.cdb_len);
  luaL_argcheck(L, q.cdb_len, 2, "a CDB has at least one byte");
  lua_settop(L, 3);
  q.in_len = (size_t)raw_field(L, 3, "data_in", 0);
  if (lua_istable(L, 3) && lua_getfield(L, 3, "data_out") != LUA_TNIL)
    q.out = luaL_checklstring(L, -1, &q.out_len);
  tag = sim_submit(s, &q);
  if (!tag)
    return luaL_error(L, "there is no memory for %I bytes of data",
                      (LUAI_UACINT)(q.in_len + q.out_len));
  sim_kick(s);
  lua_pushinteger(L, (lua_Integer)tag);
  return 1;
}

/* s:collect() -> { { tag, status, sense, data }, ... } in the order of their
 * ends; sense is nil unless there is some. */
static int l_collect(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  struct sim_result res;
  lua_Integer n = 0;

  sim_collect(s);
  lua_newtable(L);
  while (sim_done(s, &res)) {
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, (lua_Integer)res.tag);
    lua_setfield(L, -2, "tag");
    lua_pushinteger(L, res.status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, (const char *)res.data, res.data_len);
    lua_setfield(L, -2, "data");
    if (res.sense) {
      lua_pushlstring(L, (const char *)res.sense, RING_SENSE_MAX);
      lua_setfield(L, -2, "sense");
    }
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* s:tmr(type [, tags]); without tags: every command in the ring. */
static int l_tmr(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  lua_Integer type = luaL_checkinteger(L, 2);
  uint64_t *tags = NULL;
  size_t n = 0, i;

  lua_settop(L, 3);
  luaL_argcheck(L, type >= 0 && type <= 255, 2, "a byte is needed");
  if (!lua_isnil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    n = lua_rawlen(L, 3);
    tags = lua_newuserdatauv(L, (n + 1) * sizeof(*tags), 0);
    for (i = 0; i < n; i++) {
      lua_rawgeti(L, 3, (lua_Integer)i + 1);
      tags[i] = (uint64_t)luaL_checkinteger(L, -1);
      lua_pop(L, 1);
    }
  }
  if (sim_tmr(s, (uint8_t)type, tags, n))
    return luaL_error(L, "there is no memory for the notification");
  return 0;
}

/* s:expire(tag) -> false if no such command is under way */
static int l_expire(lua_State *L)
{
  struct sim *s = sim_check(L, 1);

  lua_pushboolean(L, !sim_expire(s, (uint64_t)luaL_checkinteger(L, 2)));
  return 1;
}

/* s:reset(kind): 1 BUSY, 2 CHECK CONDITION for what is outstanding */
static int l_reset(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  lua_Integer kind = luaL_checkinteger(L, 2);

  luaL_argcheck(L, kind == 1 || kind == 2, 2, "1 or 2 is needed");
  sim_reset(s, (int)kind);
  return 0;
}

static int l_block(lua_State *L)
{
  sim_block(sim_check(L, 1), lua_toboolean(L, 2));
  return 0;
}

/* s:mute(on) */
static int l_mute(lua_State *L)
{
  sim_mute(sim_check(L, 1), lua_toboolean(L, 2));
  return 0;
}

/* s:poison(byte), or s:poison() to stop */
static int l_poison(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  lua_Integer byte = luaL_optinteger(L, 2, -1);

  luaL_argcheck(L, byte >= -1 && byte <= 255, 2, "a byte is needed");
  sim_poison(s, (int)byte);
  return 0;
}

static int l_writes(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)sim_writes(sim_check(L, 1)));
  return 1;
}

static int l_sim_broken(lua_State *L)
{
  lua_pushboolean(L, sim_broken(sim_check(L, 1)));
  return 1;
}

/* s:peek(offset, n) -> string */
static int l_peek(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  lua_Integer n = luaL_checkinteger(L, 3);
  size_t at;

  luaL_argcheck(L, n >= 0, 3, "must not be negative");
  at = raw_span(L, 2, (size_t)n, sim_size(s));
  lua_pushlstring(L, (const char *)sim_map(s) + at, (size_t)n);
  return 1;
}

/* s:poke(offset, string) */
static int l_poke(lua_State *L)
{
  struct sim *s = sim_check(L, 1);
  size_t n, at;
  const char *bytes = luaL_checklstring(L, 3, &n);

  at = raw_span(L, 2, n, sim_size(s));
  memcpy(sim_map(s) + at, bytes, n);
  return 0;
}

static const luaL_Reg sim_methods[] = {
  { "submit", l_submit }, { "collect", l_collect }, { "tmr", l_tmr },
  { "expire", l_expire }, { "reset", l_reset }, { "block", l_block },
  { "mute", l_mute }, { "poison", l_poison }, { "writes", l_writes },
  { "broken", l_sim_broken }, { "peek", l_peek }, { "poke", l_poke }, { "close", l_sim_close },
  { NULL, NULL }
};

static const luaL_Reg sim_meta[] = {
  { "__gc", l_sim_close }, { "__close", l_sim_close },
  { "__tostring", l_sim_tostring }, { NULL, NULL }
};

static const luaL_Reg functions[] = {
  { "sim", l_sim }, { "ring", raw_ring }, { NULL, NULL }
};

static const struct { const char *name; int bit; } caps[] = {
  { "OOOC", RING_CAP_OOOC }, { "READ_LEN", RING_CAP_READ_LEN },
  { "TMR", RING_CAP_TMR }, { "KEEP_BUF", RING_CAP_KEEP_BUF },
};

int bind_sim(lua_State *L)
{
  size_t i;

  raw_type(L, SIM, sim_meta, sim_methods);
  raw_ring_type(L);
  luaL_newlib(L, functions);
  for (i = 0; i < sizeof(caps) / sizeof(*caps); i++) {
    lua_pushinteger(L, caps[i].bit);
    lua_setfield(L, -2, caps[i].name);
  }
  return 1;
}
