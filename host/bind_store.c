/* bind_store.c - stores in Lua: tcmu.store.memory, zero and file.
 *
 * Inside a task a call waits; under a plain interpreter, where there is no
 * shard, it runs the loop until the operation has ended.  What fails raises an
 * error object with the errno, which becomes the proper sense by itself if
 * nobody catches it.
 */
#include "bind_store.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "bind_buffer.h"
#include "cmd.h"
#include "device.h"
#include "state.h"
#include "store.h"
#include "task.h"

static const char store_class[] = "tcmu.store";

/* Closed when the device in whose task it was opened has gone and no other
 * device serves from it; by the collector if there is no such device. */
struct store_ud {
  const char *is;               /* store_class, see bind_check() */
  LIST_ENTRY(store_ud) link;    /* of the device in whose task it was opened */
  struct store *store;          /* NULL: closed */
  struct device *dev;           /* NULL: none, or gone */
  unsigned serving;             /* devices whose store it is */
  bool orphan;                  /* to be closed when nobody uses it */
  SLIST_HEAD(io_list, io) idle; /* as many as were ever under way at a time */
};

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
  struct iovec *iov;
  int iov_room;
};

static const char *const verb_names[] = {
  "read", "write", "flush", "discard", "zero"
};

/* Raises { message =, errno =, verb = } with the metatable core.io_error. */
static int raise_io(lua_State *L, enum store_verb verb, int rc)
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

static struct store_ud *check_open(lua_State *L)
{
  struct store_ud *ud = bind_check(L, 1, store_class);

  luaL_argcheck(L, ud->store, 1, "this store is closed");
  return ud;
}

struct store *store_check(lua_State *L, int arg)
{
  struct store_ud *ud = bind_check(L, arg, store_class);

  luaL_argcheck(L, ud->store, arg, "this store is closed");
  return ud->store;
}

/* The next operation on the store, whose verb is set; it is taken by
 * perform(), so that whoever raises before that need not give it back. */
static struct io *prepare(lua_State *L, enum store_verb verb)
{
  struct store_ud *ud = lua_touserdata(L, 1);
  struct io *io = SLIST_FIRST(&ud->idle);

  if (!io) {
    io = calloc(1, sizeof(*io));
    if (!io)
      luaL_error(L, "out of memory");
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

static void close_ud(struct store_ud *ud)
{
  struct io *io;

  if (ud->dev)
    LIST_REMOVE(ud, link);
  store_close(ud->store);
  ud->store = NULL;
  ud->dev = NULL;
  while ((io = SLIST_FIRST(&ud->idle))) {
    SLIST_REMOVE_HEAD(&ud->idle, idle);
    free(io->iov);
    free(io);
  }
}

/* Its device has gone, or somebody else has let go of it. */
static void close_if_unused(struct store_ud *ud)
{
  if (ud->store && ud->orphan && !ud->serving && !ud->store->in_flight)
    close_ud(ud);
}

static void io_done(struct store_op *op, int rc)
{
  struct io *io = op->arg;
  struct task *t = io->task;

  io->ended = true;
  io->rc = rc;
  if (!t)
    return;                     /* a plain interpreter waits for it */
  t->rc = rc;
  task_wake(t, 0);
  io_over(io);
  close_if_unused(io->ud);      /* frees it */
  if (--t->dev->ops == 0)
    device_quiet(t->dev);
}

/* What a call returns or raises once its operation has ended. */
static int verdict(lua_State *L, enum store_verb verb, uint64_t at,
                   uint64_t length, int rc)
{
  if (!rc)
    return 0;
  if (verb == STORE_READ)
    buffer_clear(L, 2, at, length);
  return raise_io(L, verb, rc);
}

static int go_on(lua_State *L, int status, lua_KContext ctx)
{
  (void)status;
  return verdict(L, (enum store_verb)lua_tointeger(L, -1),
                 (uint64_t)lua_tointeger(L, -2),
                 (uint64_t)lua_tointeger(L, -3), ((struct task *)ctx)->rc);
}

/* Submits what was prepared and waits.  Stack: the store at 1, the buffer, if
 * any, at 2, whose bytes from `at` on are meant. */
static int perform(lua_State *L, struct io *io, uint64_t at)
{
  enum store_verb verb = io->op.verb;
  uint64_t length = io->op.length;
  struct task *t = task_running();
  int rc;

  if (t ? t->co != L || !lua_isyieldable(L) : state_of(L) != NULL) {
    task_waiter(L, verb_names[verb]);   /* raises */
    return 0;
  }
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
    io_over(io);
    return verdict(L, verb, at, length, rc);
  }
  t->dev->ops++;
  lua_pushinteger(L, (lua_Integer)length);
  lua_pushinteger(L, (lua_Integer)at);
  lua_pushinteger(L, verb);
  return task_wait(L, t, NULL, go_on);
}

static lua_Integer check_offset(lua_State *L, int arg)
{
  lua_Integer n = luaL_checkinteger(L, arg);

  luaL_argcheck(L, n >= 0, arg, "must not be negative");
  return n;
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
  lua_Integer offset, at, n;
  struct io *io;
  int count;

  check_open(L);
  offset = check_offset(L, 3);
  at = luaL_optinteger(L, at_arg, 0);
  n = lua_isnoneornil(L, at_arg + 1) ? (lua_Integer)buffer_len(L, 2) - at
                                     : luaL_checkinteger(L, at_arg + 1);
  luaL_argcheck(L, at >= 0 && n >= 0, at_arg, "runs past the end");
  io = prepare(L, verb);
  while ((count = buffer_span(L, 2, (uint64_t)at, (uint64_t)n,
                              verb == STORE_READ, io->iov, io->iov_room)) >
         io->iov_room)
    make_room(L, io, count);
  if (!n)
    return 0;
  io->op.stable = verb == STORE_WRITE && lua_toboolean(L, 4);
  io->op.iov = io->iov;
  io->op.iov_cnt = count;
  io->op.offset = (uint64_t)offset;
  io->op.length = (uint64_t)n;
  return perform(L, io, (uint64_t)at);
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
  lua_Integer offset = check_offset(L, 2), length = check_offset(L, 3);
  struct io *io;

  check_open(L);
  io = prepare(L, verb);
  io->op.stable = lua_toboolean(L, 4);
  io->op.offset = (uint64_t)offset;
  io->op.length = (uint64_t)length;
  return perform(L, io, 0);
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
  check_open(L);
  lua_settop(L, 2);
  return perform(L, prepare(L, STORE_FLUSH), 0);
}

/* store:size(): bytes. */
static int l_size(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)check_open(L)->store->size);
  return 1;
}

/* store:info(): a table of what the store can say about itself. */
static int l_info(lua_State *L)
{
  struct store_info info;

  store_info(check_open(L)->store, &info);
  lua_createtable(L, 0, 6);
  if (info.knows_used) {
    lua_pushinteger(L, (lua_Integer)info.used);
    lua_setfield(L, -2, "used");
  }
  lua_pushinteger(L, (lua_Integer)info.size);
  lua_setfield(L, -2, "size");
  lua_pushboolean(L, info.read_only);
  lua_setfield(L, -2, "read_only");
  lua_pushboolean(L, info.discards);
  lua_setfield(L, -2, "discards");
  lua_pushboolean(L, info.volatile_cache);
  lua_setfield(L, -2, "volatile_cache");
  lua_pushinteger(L, info.block);
  lua_setfield(L, -2, "block");
  return 1;
}

/* store:status(offset): "mapped" or "deallocated", and for how many bytes from
 * there on that is so (0 at the end).  Does not wait. */
static int l_status(lua_State *L)
{
  struct store *s = check_open(L)->store;
  uint64_t length;
  bool mapped = store_mapped(s, (uint64_t)check_offset(L, 2), &length);

  lua_pushstring(L, mapped ? "mapped" : "deallocated");
  lua_pushinteger(L, (lua_Integer)length);
  return 2;
}

/* store:resize(size): makes room for `size` bytes; raises an I/O error.  Does
 * not wait. */
static int l_resize(lua_State *L)
{
  int rc = store_resize(check_open(L)->store, (uint64_t)check_offset(L, 2));

  return rc ? raise_io(L, STORE_WRITE, rc) : 0;
}

void store_unserve(struct device *d)
{
  lua_State *L = d->state->L;
  struct store_ud *ud;

  if (!d->store)
    return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, d->store_ref);
  ud = lua_touserdata(L, -1);
  ud->serving--;
  close_if_unused(ud);
  lua_pop(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, d->store_ref);
  d->store_ref = LUA_NOREF;
  d->store = NULL;
}

void store_serve(lua_State *L, int arg, struct device *d)
{
  struct store *s = store_check(L, arg);

  store_unserve(d);
  ((struct store_ud *)lua_touserdata(L, arg))->serving++;
  lua_pushvalue(L, arg);
  d->store_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  d->store = s;
}

void store_close_all(struct device *d)
{
  struct store_ud *ud;

  store_unserve(d);
  while ((ud = LIST_FIRST(&d->stores))) {
    LIST_REMOVE(ud, link);
    ud->dev = NULL;
    ud->orphan = true;
    close_if_unused(ud);
  }
}

/* store:close().  A store that a device serves is closed by the device. */
static int l_close(lua_State *L)
{
  struct store_ud *ud = bind_check(L, 1, store_class);

  if (!ud->store)
    return 0;
  luaL_argcheck(L, !ud->store->in_flight, 1, "operations are in flight");
  luaL_argcheck(L, !ud->serving, 1, "a device serves from it, and closes it");
  close_ud(ud);
  return 0;
}

static int l_gc(lua_State *L)
{
  struct store_ud *ud = bind_check(L, 1, store_class);

  close_ud(ud);                 /* one that was never opened is listed too */
  return 0;
}

struct store **store_push(lua_State *L, uv_loop_t **loop)
{
  struct store_ud *ud = lua_newuserdatauv(L, sizeof(*ud), 0);
  struct state *st = state_of(L);
  struct task *t = task_running();

  *ud = (struct store_ud){ .is = store_class };
  SLIST_INIT(&ud->idle);
  luaL_setmetatable(L, store_class);
  *loop = st ? &st->shard->loop : uv_default_loop();
  if (t && t->dev) {
    ud->dev = t->dev;
    LIST_INSERT_HEAD(&t->dev->stores, ud, link);
  }
  return &ud->store;
}

/* store.memory(size): sparse memory. */
static int l_memory(lua_State *L)
{
  lua_Integer size = check_offset(L, 1);
  uv_loop_t *loop;
  struct store **out = store_push(L, &loop);
  int rc = store_memory_open(loop, (uint64_t)size, out);

  return rc ? luaL_error(L, "memory store: %s", strerror(-rc)) : 1;
}

/* store.zeroes(size): reads as zeroes, forgets what is written. */
static int l_zeroes(lua_State *L)
{
  lua_Integer size = check_offset(L, 1);
  uv_loop_t *loop;
  struct store **out = store_push(L, &loop);
  int rc = store_zero_open(loop, (uint64_t)size, out);

  return rc ? luaL_error(L, "zero store: %s", strerror(-rc)) : 1;
}

static int l_error_tostring(lua_State *L)
{
  lua_getfield(L, 1, "message");
  return 1;
}

static const luaL_Reg methods[] = {
  { "close", l_close },
  { "discard", l_discard },
  { "flush", l_flush },
  { "info", l_info },
  { "read", l_read },
  { "resize", l_resize },
  { "size", l_size },
  { "status", l_status },
  { "write", l_write },
  { "zero", l_zero },
  { NULL, NULL }
};

static const luaL_Reg functions[] = {
  { "file", store_file_new },
  { "memory", l_memory },
  { "zero", l_zeroes },
  { NULL, NULL }
};

void bind_store(lua_State *L)
{
  luaL_newmetatable(L, store_class);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__close");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "store");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);

  luaL_newmetatable(L, STORE_ERROR);
  lua_pushcfunction(L, l_error_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_setfield(L, -2, "io_error");

  luaL_newlib(L, functions);
  lua_setfield(L, -2, "store");
}
