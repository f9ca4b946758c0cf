/* bind_store_io.c - what Lua asks of a store and waits for: read, write,
 * discard, zero, flush.
 *
 * Inside a task a call waits; under a plain interpreter, where there is no
 * shard, it runs the loop until the operation has ended.  What fails raises an
 * error object with the errno, which becomes the proper sense by itself if
 * nobody catches it.
 */
#include "bind_store_io.h"

#include <stdlib.h>
#include <string.h>

#include "bind_buffer.h"
#include "bind_store.h"
#include "cmd.h"
#include "device.h"
#include "state.h"
#include "task.h"

/* One operation that Lua has started.  The task waits for its end whatever
 * happens, so store and buffer stay on its stack, and its command is not
 * answered before. */
struct io {
  struct store_op op;
  SLIST_ENTRY(io) idle;
  struct store_ud *ud;
  struct task *task;            /* NULL: a plain interpreter waits below */
  bool ended;
  int rc;
  uint64_t at;                  /* the first byte of the buffer that is meant */
  struct iovec *iov;
  int iov_room;
};

static const char *const verb_names[] = {
  "read", "write", "flush", "discard", "zero"
};

int store_io_raise(lua_State *L, enum store_verb verb, int rc)
{
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, -rc);
  lua_setfield(L, -2, "errno");
  lua_pushstring(L, verb_names[verb]);
  lua_setfield(L, -2, "verb");
  lua_pushfstring(L, "store: %s failed: %s", verb_names[verb], strerror(-rc));
  lua_setfield(L, -2, "message");
  luaL_setmetatable(L, STORE_ERROR);
  return lua_error(L);
}

/* The buffer may be a command's data. */
static bool lapsed(const struct store_op *op)
{
  const struct task *t = ((const struct io *)op->arg)->task;

  return t && t->cmd && cmd_is_void(t->cmd);
}

/* The next operation on the store, whose verb is set; raises where nobody may
 * wait for it.  It is taken by perform(), so that whoever raises before that
 * need not give it back. */
static struct io *prepare(lua_State *L, enum store_verb verb)
{
  struct store_ud *ud = lua_touserdata(L, 1);
  struct io *io = SLIST_FIRST(&ud->idle);
  struct task *t = task_running();

  if (t ? t->co != L || !lua_isyieldable(L) : state_of(L) != NULL)
    task_waiter(L, verb_names[verb]);   /* raises */

  if (!io) {
    io = calloc(1, sizeof(*io));
    if (!io)
      luaL_error(L, "out of memory");
    io->op.lapsed = lapsed;
    SLIST_INSERT_HEAD(&ud->idle, io, idle);
  }
  io->ud = ud;
  io->ended = false;
  io->op.verb = verb;
  io->op.stable = false;
  io->op.iov = NULL;
  io->op.iov_cnt = 0;
  io->op.offset = io->op.length = 0;
  return io;
}

static void io_over(struct io *io)
{
  SLIST_INSERT_HEAD(&io->ud->idle, io, idle);
}

void store_io_free(struct store_ud *ud)
{
  struct io *io;

  while ((io = SLIST_FIRST(&ud->idle))) {
    SLIST_REMOVE_HEAD(&ud->idle, idle);
    free(io->iov);
    free(io);
  }
}

/* A read that fails leaves zeroes in the buffer at 2 of who has begun it, even
 * if that was cancelled meanwhile: others may work for the same command. */
static void settle(lua_State *L, const struct io *io, int rc)
{
  if (rc && io->op.verb == STORE_READ && !lapsed(&io->op))
    buffer_clear(L, 2, io->at, io->op.length);
}

static void io_done(struct store_op *op, int rc)
{
  struct io *io = op->arg;
  struct task *t = io->task;

  io->ended = true;
  io->rc = rc;
  if (!t)
    return;                     /* a plain interpreter waits for it */
  settle(t->co, io, rc);
  t->rc = rc;
  task_wake(t, 0);
  io_over(io);
  store_ud_unused(io->ud);      /* frees it */
  if (--t->dev->ops == 0)
    device_quiet(t->dev);
}

/* What a call returns or raises once its operation has ended. */
static int verdict(lua_State *L, enum store_verb verb, int rc)
{
  return rc ? store_io_raise(L, verb, rc) : 0;
}

static int go_on(lua_State *L, int status, lua_KContext ctx)
{
  (void)status;
  return verdict(L, (enum store_verb)lua_tointeger(L, -1),
                 ((struct task *)ctx)->rc);
}

/* Submits what was prepared and waits.  Stack: the store at 1, the buffer, if
 * any, at 2. */
static int perform(lua_State *L, struct io *io)
{
  enum store_verb verb = io->op.verb;
  struct task *t = task_running();
  int rc;

  SLIST_REMOVE_HEAD(&io->ud->idle, idle);
  io->op.done = io_done;
  io->op.arg = io;
  io->task = t;
  rc = store_submit(io->ud->store, &io->op);
  if (!t && rc == STORE_PENDING) {
    while (!io->ended)
      uv_run(io->ud->store->loop, UV_RUN_ONCE);
    rc = io->rc;
  }
  if (rc != STORE_PENDING) {
    settle(L, io, rc);
    io_over(io);
    return verdict(L, verb, rc);
  }
  t->dev->ops++;
  lua_pushinteger(L, verb);
  return task_wait(L, t, NULL, go_on);
}

static void make_room(lua_State *L, struct io *io, int count)
{
  struct iovec *iov = realloc(io->iov, (size_t)count * sizeof(*iov));

  if (!iov)
    luaL_error(L, "out of memory");
  io->iov = iov;
  io->iov_room = count;
}

/* store:read(buf, offset [, at [, n]]) and store:write(buf, offset [, stable
 * [, at [, n]]]): between the store from byte `offset` and the buffer from
 * byte `at`, n bytes (default: all the buffer).  `stable`: on stable storage
 * before it returns.  Wait; raise an I/O error. */
static int transfer(lua_State *L, enum store_verb verb, int at_arg)
{
  lua_Integer offset, at;
  uint64_t n = BUFFER_REST;
  struct io *io;
  int count;

  store_ud_check(L, 1);
  offset = store_check_bytes(L, 3);
  at = luaL_optinteger(L, at_arg, 0);
  luaL_argcheck(L, at >= 0, at_arg, "must not be negative");
  if (!lua_isnoneornil(L, at_arg + 1))
    n = (uint64_t)store_check_bytes(L, at_arg + 1);
  io = prepare(L, verb);
  while ((count = buffer_span(L, 2, (uint64_t)at, &n, verb == STORE_READ,
                              io->iov, io->iov_room)) > io->iov_room)
    make_room(L, io, count);
  if (!n)
    return 0;
  io->op.stable = verb == STORE_WRITE && lua_toboolean(L, 4);
  io->op.iov = io->iov;
  io->op.iov_cnt = count;
  io->op.offset = (uint64_t)offset;
  io->op.length = n;
  io->at = (uint64_t)at;
  return perform(L, io);
}

static int l_read(lua_State *L)
{
  return transfer(L, STORE_READ, 4);
}

static int l_write(lua_State *L)
{
  return transfer(L, STORE_WRITE, 5);
}

static int range(lua_State *L, enum store_verb verb)
{
  lua_Integer offset = store_check_bytes(L, 2);
  lua_Integer length = store_check_bytes(L, 3);
  struct io *io;

  store_ud_check(L, 1);
  io = prepare(L, verb);
  io->op.stable = lua_toboolean(L, 4);
  io->op.offset = (uint64_t)offset;
  io->op.length = (uint64_t)length;
  return perform(L, io);
}

/* store:discard(offset, length [, stable]): the range reads as zeroes and its
 * space is given back where that is possible.  Waits; raises. */
static int l_discard(lua_State *L)
{
  return range(L, STORE_DISCARD);
}

/* store:zero(offset, length [, stable]): the range reads as zeroes.  Waits;
 * raises. */
static int l_zero(lua_State *L)
{
  return range(L, STORE_ZERO);
}

/* store:flush(): all that was written is on stable storage.  Waits; raises. */
static int l_flush(lua_State *L)
{
  store_ud_check(L, 1);
  lua_settop(L, 2);
  return perform(L, prepare(L, STORE_FLUSH));
}

const luaL_Reg store_io_methods[] = {
  { "discard", l_discard },
  { "flush", l_flush },
  { "read", l_read },
  { "write", l_write },
  { "zero", l_zero },
  { NULL, NULL }
};
