/* bind_cmd.c - the userdata behind `cmd`.
 *
 * The object belongs to a slot and is reused with it, so it answers only while
 * a coroutine of the slot's present command is running.  What needs no C is
 * added by lua/tcmu/command.lua: methods (decode, default, split, explain) to
 * core.cmd_methods, fields (name) to core.cmd_getters.
 */
#include "bind_cmd.h"

#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "bind_buffer.h"
#include "cmd.h"
#include "device.h"
#include "state.h"
#include "task.h"

enum { DATA = 1, DATA_IN = 2 };         /* user values */

struct cmd_ud {
  const char *is;               /* cmd_class, see bind_check() */
  struct cmd *cmd;              /* NULL: the slot is gone */
};

static const char cmd_class[] = "tcmu.cmd";

static struct cmd *check(lua_State *L)
{
  struct cmd_ud *ud = bind_check(L, 1, cmd_class);
  struct task *t = task_running();

  if (!ud->cmd || !t || t->cmd != ud->cmd)
    luaL_error(L, "this command object belongs to another command: it may be "
               "used only while its own command runs");
  return ud->cmd;
}

void cmd_push(lua_State *L, struct cmd *c)
{
  struct cmd_ud *ud;

  if (c->ud_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->ud_ref);
    return;
  }
  ud = lua_newuserdatauv(L, sizeof(*ud), 2);
  *ud = (struct cmd_ud){ cmd_class, c };
  luaL_setmetatable(L, cmd_class);
  buffer_push_view(L, c, false);
  lua_setiuservalue(L, -2, DATA);
  buffer_push_view(L, c, true);
  lua_setiuservalue(L, -2, DATA_IN);
  lua_pushvalue(L, -1);
  c->ud_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void cmd_ud_free(lua_State *L, struct cmd *c)
{
  struct cmd_ud *ud;

  if (c->ud_ref == LUA_NOREF)
    return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->ud_ref);
  ud = lua_touserdata(L, -1);
  ud->cmd = NULL;
  lua_getiuservalue(L, -1, DATA);
  buffer_revoke(L, -1);
  lua_getiuservalue(L, -2, DATA_IN);
  buffer_revoke(L, -1);
  lua_pop(L, 3);
  luaL_unref(L, LUA_REGISTRYINDEX, c->ud_ref);
  c->ud_ref = LUA_NOREF;
}

static int ranged(lua_State *L, const struct cmd *c, uint64_t value)
{
  if (c->range.ranged)
    lua_pushinteger(L, (lua_Integer)value);
  else
    lua_pushnil(L);
  return 1;
}

static int get_opcode(lua_State *L, struct cmd *c)
{
  lua_pushinteger(L, c->cdb[0]);
  return 1;
}

static int get_cdb(lua_State *L, struct cmd *c)
{
  lua_pushlstring(L, (const char *)c->cdb, (size_t)c->cdb_len);
  return 1;
}

static int get_data(lua_State *L, struct cmd *c)
{
  (void)c;
  lua_getiuservalue(L, 1, DATA);
  return 1;
}

static int get_data_in(lua_State *L, struct cmd *c)
{
  lua_getiuservalue(L, 1, c->bidi_cnt ? DATA_IN : DATA);
  return 1;
}

static int get_lba(lua_State *L, struct cmd *c)
{
  return ranged(L, c, c->range.lba);
}

static int get_blocks(lua_State *L, struct cmd *c)
{
  return ranged(L, c, c->range.blocks);
}

static int get_offset(lua_State *L, struct cmd *c)
{
  return ranged(L, c, c->range.lba << c->dev->block_shift);
}

static int get_length(lua_State *L, struct cmd *c)
{
  return ranged(L, c, c->range.blocks << c->dev->block_shift);
}

static int get_dev(lua_State *L, struct cmd *c)
{
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->dev->dev_ref);
  return 1;
}

static int get_tag(lua_State *L, struct cmd *c)
{
  lua_pushinteger(L, c->id);
  return 1;
}

static const struct field {
  const char *name;
  int (*get)(lua_State *L, struct cmd *c);
} fields[] = {
  { "opcode", get_opcode },
  { "data", get_data },
  { "offset", get_offset },
  { "length", get_length },
  { "lba", get_lba },
  { "blocks", get_blocks },
  { "cdb", get_cdb },
  { "dev", get_dev },
  { "data_in", get_data_in },
  { "tag", get_tag },
  { NULL, NULL }
};

/* The table at upvalue 1 has methods, and for fields their number above; a
 * field that takes Lua to tell is a function in the table at upvalue 2. */
static int l_index(lua_State *L)
{
  int is_field;
  lua_Integer field;

  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  field = lua_tointegerx(L, -1, &is_field);
  if (is_field)
    return fields[field].get(L, check(L));
  if (!lua_isnil(L, -1))
    return 1;
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(2));
  if (lua_isnil(L, -1))
    return 1;
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int number(lua_State *L, int size)
{
  struct cmd *c = check(L);
  lua_Integer at = luaL_checkinteger(L, 2);
  lua_Unsigned value = 0;

  luaL_argcheck(L, at >= 0 && at <= c->cdb_len - size, 2,
                "runs past the end of the CDB");
  while (size-- > 0)
    value = value << 8 | c->cdb[at++];
  lua_pushinteger(L, (lua_Integer)value);
  return 1;
}

static int l_u8(lua_State *L) { return number(L, 1); }
static int l_u16(lua_State *L) { return number(L, 2); }
static int l_u24(lua_State *L) { return number(L, 3); }
static int l_u32(lua_State *L) { return number(L, 4); }
static int l_u64(lua_State *L) { return number(L, 8); }

/* cmd:moved(n): should the command end with CHECK CONDITION, the first n bytes
 * of its data, as they are in cmd.data then, go out with the sense.  For stream
 * devices, whose ILI, FILEMARK and EOM come with what could be read. */
static int l_moved(lua_State *L)
{
  struct cmd *c = check(L);
  lua_Integer n = luaL_checkinteger(L, 2);

  luaL_argcheck(L, n >= 0 && (uint64_t)n <= c->data_len, 2,
                "runs past the end of the data");
  c->with_sense = (uint64_t)n;
  return 0;
}

static int l_tostring(lua_State *L)
{
  struct cmd_ud *ud = bind_check(L, 1, cmd_class);
  struct task *t = task_running();

  if (ud->cmd && t && t->cmd == ud->cmd)
    lua_pushfstring(L, "command %d, opcode %d", ud->cmd->id, ud->cmd->cdb[0]);
  else
    lua_pushliteral(L, "command that is over");
  return 1;
}

static const luaL_Reg methods[] = {
  { "moved", l_moved },
  { "u8", l_u8 },
  { "u16", l_u16 },
  { "u24", l_u24 },
  { "u32", l_u32 },
  { "u64", l_u64 },
  { NULL, NULL }
};

/* core.running(): the command that runs, or nil. */
static int l_running(lua_State *L)
{
  struct task *t = task_running();

  if (t && t->cmd)
    cmd_push(L, t->cmd);
  else
    lua_pushnil(L);
  return 1;
}

void bind_cmd(lua_State *L)
{
  int i;

  luaL_newmetatable(L, cmd_class);
  luaL_newlib(L, methods);
  for (i = 0; fields[i].name; i++) {
    lua_pushinteger(L, i);
    lua_setfield(L, -2, fields[i].name);
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, "cmd_methods");
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, -5, "cmd_getters");
  lua_pushcclosure(L, l_index, 2);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pushliteral(L, "command");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_running);
  lua_setfield(L, -2, "running");
}
