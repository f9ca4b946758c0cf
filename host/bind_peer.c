/* bind_peer.c - other devices of the process in Lua: core.peer, for
 * tcmu.copy_end alone.
 *
 * A device is known by its shard and its number.  Answers are rc and text: 0;
 * 1 and why the device refuses; -errno where it is not there (any more).
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "bind_buffer.h"
#include "device.h"
#include "peer.h"
#include "state.h"
#include "task.h"

#define CALL "tcmu.peer_call"

static struct call *new_call(lua_State *L, struct task *t)
{
  struct call *call = lua_newuserdatauv(L, sizeof(*call), 0);

  *call = (struct call){ .task = t };
  luaL_setmetatable(L, CALL);
  return call;
}

static void drop(struct call *call)
{
  free(call->letter);
  call->letter = NULL;
}

static int l_call_gc(lua_State *L)
{
  struct call *call = luaL_checkudata(L, 1, CALL);

  peer_forget(call);
  drop(call);
  return 0;
}

static void disarm(struct task *t)
{
  peer_forget(t->wait);
}

static struct peer *check_peer(lua_State *L, struct task *t)
{
  struct peer *p = t->state->shard->peer;

  if (!p)
    luaL_error(L, "this shard has no others beside it");
  return p;
}

static void hurry(struct task *t)
{
  peer_hurry(t->state->shard->peer, t->wait);
}

/* Sends the letter; `k` finds the call on top of the stack.  A WRITE may not
 * be left alone: its command must not end while it is still to be done, or it
 * could land after something newer.  It can only be asked to end early. */
static int ask(lua_State *L, struct letter *m, lua_KFunction k)
{
  struct task *t = task_running();
  struct call *call = lua_touserdata(L, -1);
  bool stays = m->kind == LETTER_WRITE;

  t->wait = call;
  t->hurry = stays ? hurry : NULL;
  peer_ask(check_peer(L, t), m, call);
  return task_wait(L, t, stays ? NULL : disarm, k);
}

static struct letter *check_letter(lua_State *L, struct letter *m)
{
  if (!m)
    luaL_error(L, "out of memory");
  return m;
}

static int found(lua_State *L, int status, lua_KContext ctx)
{
  struct call *call = lua_touserdata(L, -1);
  const struct letter *m = call->letter;

  (void)status;
  (void)ctx;
  lua_pushinteger(L, m->found);
  lua_pushinteger(L, m->shard);
  lua_pushinteger(L, m->device);
  drop(call);
  return 3;
}

/* core.peer.find(designator): how many devices of the process have it, in the
 * form of page 83h, and one of them: its shard and its number.  Waits. */
static int l_find(lua_State *L)
{
  struct task *t = task_waiter(L, "peer");
  struct letter *m;
  const char *name;
  size_t n;

  name = luaL_checklstring(L, 1, &n);
  luaL_argcheck(L, n <= LETTER_TEXT, 1, "too long");
  check_peer(L, t);
  new_call(L, t);
  m = check_letter(L, letter_new(LETTER_FIND, 0));
  memcpy(m->text, name, n);
  m->text_len = n;
  return ask(L, m, found);
}

static int answered(lua_State *L, int status, lua_KContext ctx)
{
  struct call *call = lua_touserdata(L, -1);
  const struct letter *m = call->letter;
  uint64_t len = m->len;
  struct iovec iov;

  (void)status;
  (void)ctx;
  if (m->kind == LETTER_READ && !m->rc) {
    buffer_span(L, 4, 0, &len, true, &iov, 1);
    memcpy(iov.iov_base, m->data, m->len);
  }
  lua_pushinteger(L, m->rc);
  lua_pushlstring(L, m->text, m->text_len);
  drop(call);
  return 2;
}

/* A letter to the device at 1 and 2, about the bytes from 3 on, which are those
 * of the buffer at 4; with a text at 5 that says what they are, if not the
 * device's own. */
static int transfer(lua_State *L, enum letter_kind kind)
{
  struct task *t = task_waiter(L, "peer");
  lua_Integer shard = luaL_checkinteger(L, 1);
  lua_Integer device = luaL_checkinteger(L, 2);
  lua_Integer offset = luaL_optinteger(L, 3, 0);
  uint64_t len = 0;
  size_t text_len;
  struct iovec iov;
  const char *text;
  struct letter *m;

  lua_settop(L, 5);
  text = luaL_optlstring(L, 5, "", &text_len);
  luaL_argcheck(L, text_len <= LETTER_TEXT, 5, "too long");
  luaL_argcheck(L, shard >= 0 && shard < PEERS_MAX, 1, "no such shard");
  luaL_argcheck(L, offset >= 0, 3, "must not be negative");
  if (kind == LETTER_READ || kind == LETTER_WRITE) {
    len = BUFFER_REST;
    luaL_argcheck(L, buffer_span(L, 4, 0, &len, false, &iov, 1) == 1, 4,
                  "not a buffer of its own");
  }
  check_peer(L, t);
  new_call(L, t);
  m = check_letter(L, letter_new(kind, len));
  m->shard = (unsigned)shard;
  m->device = device;
  m->offset = (uint64_t)offset;
  memcpy(m->text, text, text_len);
  m->text_len = text_len;
  if (kind == LETTER_WRITE)
    memcpy(m->data, iov.iov_base, len);
  return ask(L, m, answered);
}

/* core.peer.look(shard, device, nil, nil [, text]): the text is what its
 * tcmu.copy_serve tells.  Waits. */
static int l_look(lua_State *L)
{
  return transfer(L, LETTER_LOOK);
}

/* core.peer.read(shard, device, offset, buffer [, text]): fills the buffer.  Waits. */
static int l_read(lua_State *L)
{
  return transfer(L, LETTER_READ);
}

/* core.peer.write(shard, device, offset, buffer).  Waits, and even when it is
 * cancelled until the write has ended. */
static int l_write(lua_State *L)
{
  return transfer(L, LETTER_WRITE);
}

/* core.peer.delete(shard, device, nil, nil, text).  Waits. */
static int l_delete(lua_State *L)
{
  return transfer(L, LETTER_DELETE);
}

/* core.peer.allowed(): whether one device may have another read or written. */
static int l_allowed(lua_State *L)
{
  struct state *st = state_of(L);

  lua_pushboolean(L, st && st->shard->third_party);
  return 1;
}

/* core.peer.here(): the shard and the number of the running task's device. */
static int l_here(lua_State *L)
{
  struct task *t = task_waiter(L, "peer");

  lua_pushinteger(L, check_peer(L, t)->index);
  lua_pushinteger(L, t->dev->id);
  return 2;
}

static const luaL_Reg functions[] = {
  { "allowed", l_allowed },
  { "delete", l_delete },
  { "find", l_find },
  { "here", l_here },
  { "look", l_look },
  { "read", l_read },
  { "write", l_write },
  { NULL, NULL }
};

/* Pushes the table. */
int bind_peer(lua_State *L)
{
  luaL_newmetatable(L, CALL);
  lua_pushcfunction(L, l_call_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_pushinteger(L, PEERS_MAX);
  lua_setfield(L, -2, "shards");
  return 1;
}
