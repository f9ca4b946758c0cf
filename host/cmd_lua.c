/* cmd_lua.c - a command in Lua: the way in, and what comes out of it; see cmd.h.
 */
#include "cmd.h"

#include <lauxlib.h>
#include <string.h>

#include "bind_buffer.h"
#include "bind_cmd.h"
#include "device.h"
#include "log.h"
#include "state.h"
#include "task.h"

enum { ATTENTION = 257 };       /* routes[] of a device, after the opcodes */

/* What the coroutine of a command keeps for the next one of the same slot: all
 * that a call needs, since fetching it from the registry costs most of what the
 * way into Lua does. */
enum { SELF = 1, COMMAND, ROUTES, READ, WRITE, REPLY };

/* Calls fail or store_error of the handler's program, whose arguments lie on
 * the stack: (status, sense bytes) is what the initiator gets. */
static void lua_verdict(struct cmd *c, int nargs)
{
  struct state *st = c->dev->state;
  lua_State *L = st->L;
  const char *sense;
  lua_Integer status;
  size_t n;

  if (state_call(st, nargs, 2) != LUA_OK) {
    log_error(c->dev->name, "no sense for a failed command: %s",
              lua_tostring(L, -1));
    lua_pop(L, 1);
    cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
    return;
  }
  status = lua_tointeger(L, -2);
  if (status <= SCSI_GOOD || status > UINT8_MAX) {
    log_error(c->dev->name, "what a command has raised is no status");
    lua_pop(L, 2);
    cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
    return;
  }
  sense = lua_tolstring(L, -1, &n);
  if (sense) {
    if (n > sizeof(c->sense))
      n = sizeof(c->sense);
    memcpy(c->sense, sense, n);
    c->sense_len = (int)n;
  }
  lua_pop(L, 2);
  cmd_finish(c, (uint8_t)status);
}

void cmd_store_error(struct cmd *c, int rc)
{
  lua_State *L = c->dev->state->L;

  state_push(c->dev->state, L, "store_error");
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->dev->dev_ref);
  lua_pushinteger(L, -rc);
  lua_pushboolean(L, c->data_out || c->range.kind == SCSI_SYNC);
  lua_verdict(c, 3);
}

/* Takes what Lua has returned; false, and a line in the log, if it is of no
 * use. */
static bool take_reply(struct cmd *c, lua_State *co, int nres)
{
  if (!nres || lua_isnil(co, REPLY)) {
    if (c->touched)
      c->moved = c->bidi_cnt ? c->bidi_len : c->data_len;
    return true;
  }
  if (!buffer_reply(co, REPLY, c)) {
    log_error(c->dev->name, "opcode %02x: a handler returns nothing, a string "
              "or a buffer of its own, not a %s", c->cdb[0],
              luaL_typename(co, REPLY));
    return false;
  }
  if (c->exact && c->moved < c->data_len) {
    log_error(c->dev->name, "opcode %02x: the handler's read has returned "
              "%llu bytes of %llu", c->cdb[0], (unsigned long long)c->moved,
              (unsigned long long)c->data_len);
    return false;
  }
  return true;
}

static inline void returned(struct cmd *c, struct task *t)
{
  c->task = NULL;
  if (take_reply(c, t->co, t->nres))
    cmd_finish(c, SCSI_GOOD);
  else
    cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
}

/* The coroutine of a command has ended, but for one that did well at once. */
static void answered(struct task *t, enum task_end how, lua_State *L)
{
  struct cmd *c = t->arg;

  c->task = NULL;
  switch (how) {
  case TASK_OK:
    returned(c, t);
    return;
  case TASK_FAILED:             /* L: error object, traceback */
    state_push(c->dev->state, L, "fail");
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->dev->dev_ref);
    lua_pushvalue(L, -4);
    lua_pushvalue(L, -4);
    lua_pushlstring(L, (const char *)c->cdb, (size_t)c->cdb_len);
    lua_verdict(c, 4);
    return;
  case TASK_CANCELLED:
    if (c->expired)             /* LOGICAL UNIT COMMUNICATION TIME-OUT */
      cmd_fail(c, SCSI_ABORTED_COMMAND, 0x08, 0x01);
    else
      cmd_finish(c, SCSI_TASK_ABORTED);
  }
}

/* A task for the command, whose coroutine has all that is kept; NULL: the
 * command is answered. */
__attribute__((noinline))
static struct task *furnish(struct cmd *c)
{
  struct device *d = c->dev;
  struct task *t = task_new(d->state, d, c, answered, c);

  if (!t) {
    cmd_finish(c, SCSI_TASK_SET_FULL);
    return NULL;
  }
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->self_ref);
  cmd_push(t->co, c);
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->routes_ref);
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->read_ref);
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->write_ref);
  task_keep(t, c, d->binding);
  return t;
}

/* The same, mostly with what was there already. */
static inline struct task *begin(struct cmd *c)
{
  struct task *t = task_again(c->dev->state, c, c->dev->binding);

  if (!t && !(t = furnish(c)))
    return NULL;
  c->task = t;
  return t;
}

/* While its first step runs nothing else of the shard does, so that nobody can
 * ask for a command which ends in it. */
static inline void run(struct cmd *c, struct task *t, int nargs)
{
  if (task_try(t, nargs)) {
    returned(c, t);
    task_over(t);
  } else if (c->task && !c->enlisted) {
    cmd_enlist(c);
  }
}

void cmd_to_lua(struct cmd *c)
{
  struct device *d = c->dev;
  struct task *t = begin(c);
  lua_State *co;

  if (!t)
    return;
  co = t->co;
  lua_rawgeti(co, ROUTES, d->attention ? ATTENTION : c->cdb[0] + 1);
  lua_pushvalue(co, SELF);
  lua_pushvalue(co, COMMAND);
  run(c, t, 2);
}

bool cmd_enter(struct cmd *c)
{
  struct device *d = c->dev;
  struct task *t;

  if (!cmd_is_plain(c) || c->data_len != c->length || !c->length)
    return false;
  if (d->has_flush && (c->range.flags & SCSI_FUA || (c->data_out && !d->write_cache)))
    return false;
  if (c->data_out && d->read_only)
    return false;
  t = begin(c);
  if (!t)
    return true;
  c->exact = !c->data_out;
  lua_pushvalue(t->co, c->data_out ? WRITE : READ);
  lua_pushvalue(t->co, SELF);
  lua_pushvalue(t->co, COMMAND);
  lua_pushinteger(t->co, (lua_Integer)c->offset);
  lua_pushinteger(t->co, (lua_Integer)c->length);
  run(c, t, 4);
  return true;
}

