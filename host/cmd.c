/* cmd.c - see cmd.h. */
#include "cmd.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind_buffer.h"
#include "bind_cmd.h"
#include "bind_wait.h"
#include "device.h"
#include "hold.h"
#include "log.h"
#include "state.h"
#include "task.h"

enum {
  ATTENTION = 257,              /* routes[] of a device, after the opcodes */
  GROW_IDS = 64,
};

static void go_job(struct job *j);
static void granted(struct range_lock *l);

__attribute__((cold))
static struct cmd *more_slots(struct device *d)
{
  struct cmd *c = calloc(1, sizeof(*c));

  if (!c)
    return NULL;
  c->dev = d;
  c->job.run = go_job;
  c->lock.granted = granted;
  c->lock.owner = c->lock.arg = c;
  c->ud_ref = LUA_NOREF;
  TAILQ_INSERT_HEAD(&d->free_cmds, c, link);
  return c;
}

void cmd_pool_free(struct device *d)
{
  struct cmd *c;

  while ((c = TAILQ_FIRST(&d->free_cmds))) {
    TAILQ_REMOVE(&d->free_cmds, c, link);
    cmd_ud_free(d->state->L, c);
    free(c->iov_big);
    free(c);
  }
}

struct cmd *cmd_by_id(struct device *d, uint16_t id)
{
  return id < d->by_id_room ? d->by_id[id] : NULL;
}

static bool more_ids(struct device *d, uint16_t id)
{
  uint32_t room = d->by_id_room;
  struct cmd **more;

  do
    room = room ? 2 * room : GROW_IDS;
  while (id >= room);
  more = realloc(d->by_id, room * sizeof(*more));
  if (!more)
    return false;
  memset(more + d->by_id_room, 0, (room - d->by_id_room) * sizeof(*more));
  d->by_id = more;
  d->by_id_room = room;
  return true;
}

/* Copies the iovecs out of the ring. */
static bool take_data(struct cmd *c, const struct ring_cmd *entry)
{
  uint32_t n = entry->iov_cnt + entry->bidi_cnt;
  struct ring *r = c->dev->ring;
  int64_t len, bidi_len = 0;

  if (n > CMD_IOV_INLINE) {
    if (n > c->iov_room) {
      free(c->iov_big);
      c->iov_room = 0;
      c->iov_big = malloc(n * sizeof(*c->iov_big));
      if (!c->iov_big)
        return false;
      c->iov_room = n;
    }
    c->iov = c->iov_big;
  }
  len = ring_iovecs(r, entry, 0, entry->iov_cnt, c->iov);
  c->bidi = c->iov + entry->iov_cnt;
  if (entry->bidi_cnt)
    bidi_len = ring_iovecs(r, entry, entry->iov_cnt, entry->bidi_cnt, c->bidi);
  if (len < 0 || bidi_len < 0)
    return false;
  c->iov_cnt = entry->iov_cnt;
  c->bidi_cnt = entry->bidi_cnt;
  c->data_len = (uint64_t)len;
  c->bidi_len = (uint64_t)bidi_len;
  for (n = 0; len && !c->iov[n].iov_len;)
    n++;
  if (len)
    c->first = c->iov[n].iov_base;
  return true;
}

/* The range in bytes, and whether it lies on the device. */
static void place(struct cmd *c)
{
  struct device *d = c->dev;
  uint64_t blocks = d->size >> d->block_shift;

  scsi_range(c->cdb, c->cdb_len, &c->range);
  c->data_out = c->range.kind >= SCSI_CHANGES;
  c->in_range = c->range.ranged && c->range.lba <= blocks &&
                c->range.blocks <= blocks - c->range.lba;
  c->offset = c->in_range ? c->range.lba << d->block_shift : 0;
  c->length = c->in_range ? c->range.blocks << d->block_shift : 0;
  if (c->range.kind == SCSI_UNMAP)
    fast_unmap_range(c);
}

static void clear_iov(const struct iovec *iov, uint32_t n, uint64_t from)
{
  for (; n > 0; n--, iov++) {
    if (from < iov->iov_len) {
      memset((char *)iov->iov_base + from, 0, iov->iov_len - from);
      from = 0;
    } else {
      from -= iov->iov_len;
    }
  }
}

/* Nothing stale leaves: what no answer has set is cut off or zeroed.  The ring
 * does not tell the direction, and an initiator may well send a WRITE whose
 * data goes in: then all it gets is one zero.  READ_LEN counts for plain
 * Data-In only. */
static void settle_data(struct cmd *c, struct ring_result *res)
{
  bool can_cut = ring_caps(c->dev->ring) & RING_CAP_READ_LEN;

  if (c->bidi_cnt) {
    clear_iov(c->bidi, c->bidi_cnt, c->moved);
    return;
  }
  if (c->data_out && c->data_len && can_cut) {
    *c->first = 0;
    c->moved = 1;
  }
  if (c->moved >= c->data_len)
    return;
  if (c->moved && can_cut) {
    res->has_read_len = true;
    res->read_len = (uint32_t)c->moved;
  } else {
    clear_iov(c->iov, c->iov_cnt, c->moved);
  }
}

static void answer(struct cmd *c, uint8_t status)
{
  struct device *d = c->dev;
  struct ring_result res = { .status = status };

  device_mark_dirty(d);
  if (status == SCSI_GOOD && c->moved >= c->data_len && !c->bidi_cnt) {
    ring_good(d->ring, c->token, c->id);        /* all of the data is valid */
    return;
  }
  if (status != SCSI_GOOD)
    c->moved = 0;
  if (status != SCSI_CHECK_CONDITION) {
    settle_data(c, &res);
  } else if (c->with_sense && c->touched && !c->bidi_cnt) {
    res.has_read_len = true;
    res.read_len = (uint32_t)c->with_sense;
  }
  if (c->sense_len) {
    res.sense = c->sense;
    res.sense_len = (size_t)c->sense_len;
  }
  ring_complete(d->ring, c->token, c->id, &res);
}

void cmd_finish(struct cmd *c, uint8_t status)
{
  struct device *d = c->dev;

  if (!c->orphaned) {
    d->by_id[c->id] = NULL;
    answer(c, status);
  }
  TAILQ_REMOVE(&d->outstanding, c, link);
  TAILQ_INSERT_HEAD(&d->free_cmds, c, link);
  lock_release(&d->locks, &c->lock);
  if (c->locks)
    wait_release_locks(d, c);
  if (TAILQ_EMPTY(&d->outstanding))
    device_quiet(d);
  hold_look(d);
}

void cmd_fail(struct cmd *c, int key, int asc, int ascq)
{
  c->sense_len = scsi_sense(c->sense, c->dev->descriptor_sense, key, asc,
                            ascq);
  cmd_finish(c, SCSI_CHECK_CONDITION);
}

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

/* Lets Lua turn an errno of a store into sense, and finishes. */
static void store_error(struct cmd *c, int rc)
{
  lua_State *L = c->dev->state->L;

  state_push(c->dev->state, L, "store_error");
  lua_rawgeti(L, LUA_REGISTRYINDEX, c->dev->dev_ref);
  lua_pushinteger(L, -rc);
  lua_pushboolean(L, c->data_out || c->range.kind == SCSI_SYNC);
  lua_verdict(c, 3);
}

/* The store has done what a command asked for. */
static void stored(struct cmd *c)
{
  c->moved = c->range.kind == SCSI_READ ? c->data_len : 0;
}

void cmd_stored(struct cmd *c, int rc)
{
  c->dev->ops--;
  if (rc) {
    store_error(c, rc);
    return;
  }
  stored(c);
  cmd_finish(c, SCSI_GOOD);
}

/* Takes what Lua has returned; false, and a line in the log, if it is of no
 * use. */
static bool take_reply(struct cmd *c, lua_State *co)
{
  if (lua_gettop(co) < 1 || lua_isnil(co, 1)) {
    if (c->touched)
      c->moved = c->bidi_cnt ? c->bidi_len : c->data_len;
    return true;
  }
  if (!buffer_reply(co, 1, c)) {
    log_error(c->dev->name, "opcode %02x: a handler returns nothing, a string "
              "or a buffer of its own, not a %s", c->cdb[0],
              luaL_typename(co, 1));
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

/* The coroutine of a command has ended. */
static void answered(struct task *t, enum task_end how, lua_State *L)
{
  struct cmd *c = t->arg;

  c->task = NULL;
  switch (how) {
  case TASK_OK:
    if (take_reply(c, L))
      cmd_finish(c, SCSI_GOOD);
    else
      cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
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

static struct task *begin(struct cmd *c)
{
  struct device *d = c->dev;

  c->task = task_new(d->state, d, c, answered, c);
  if (c->task)
    cmd_ud_renew(d->state->L, c);
  else
    cmd_finish(c, SCSI_TASK_SET_FULL);
  return c->task;
}

void cmd_to_lua(struct cmd *c)
{
  struct device *d = c->dev;
  struct task *t = begin(c);
  lua_State *co;

  if (!t)
    return;
  co = t->co;
  lua_rawgeti(co, LUA_REGISTRYINDEX, d->routes_ref);
  lua_rawgeti(co, -1, d->attention ? ATTENTION : c->cdb[0] + 1);
  lua_replace(co, -2);
  lua_rawgeti(co, LUA_REGISTRYINDEX, d->self_ref);
  cmd_push(co, c);
  task_run(t, 2);
}

bool cmd_is_plain(const struct cmd *c)
{
  return c->range.plain && c->in_range && !c->bidi_cnt &&
         c->range.blocks <= c->dev->max_blocks;
}

/* Enters the handler's read or write without its Lua dispatcher; false if the
 * command is not plain enough for that. */
static bool direct(struct cmd *c, int ref)
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
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, ref);
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->self_ref);
  cmd_push(t->co, c);
  lua_pushinteger(t->co, (lua_Integer)c->offset);
  lua_pushinteger(t->co, (lua_Integer)c->length);
  task_run(t, 4);
  return true;
}

/* What fast_submit() has made of an enlisted command; false: nothing. */
static bool served(struct cmd *c, int rc)
{
  switch (rc) {
  case FAST_NOT:
    return false;
  case STORE_PENDING:
    c->dev->ops++;
    return true;
  case 0:
    stored(c);
    cmd_finish(c, SCSI_GOOD);
    return true;
  default:
    store_error(c, rc);
    return true;
  }
}

static void go(struct cmd *c)
{
  struct device *d = c->dev;

  if (!d->attention) {
    switch (d->route[c->cdb[0]]) {
    case ROUTE_STORE:
      if (served(c, fast_submit(c)))
        return;
      break;
    case ROUTE_READ:
      if (direct(c, d->read_ref))
        return;
      break;
    case ROUTE_WRITE:
      if (direct(c, d->write_ref))
        return;
      break;
    }
  }
  cmd_to_lua(c);
}

static void go_job(struct job *j)
{
  go((struct cmd *)((char *)j - offsetof(struct cmd, job)));
}

static void granted(struct range_lock *l)
{
  struct cmd *c = l->arg;

  shard_later(c->dev->shard, &c->job);
}

__attribute__((cold))
static void refuse(struct device *d, const struct ring_cmd *entry)
{
  struct ring_result res = { .status = SCSI_TASK_SET_FULL };

  ring_complete(d->ring, entry->token, entry->id, &res);
  device_mark_dirty(d);
}

/* TEST UNIT READY, without a flag or data, of a device that is ready. */
static bool asks_if_ready(const struct device *d, const struct ring_cmd *entry,
                          const unsigned char *cdb)
{
  static const unsigned char plain[6] = { 0x00 };

  return d->route[cdb[0]] == ROUTE_READY && !d->attention &&
         !(entry->iov_cnt | entry->bidi_cnt) &&
         !memcmp(cdb, plain, sizeof(plain));
}

/* A slot as its last command left it gets a new one. */
static void renew(struct cmd *c, const struct ring_cmd *entry)
{
  c->token = entry->token;
  c->id = entry->id;
  c->zeroed = c->touched = c->exact = c->locks = c->held = false;
  c->expired = c->orphaned = false;
  c->sense_len = 0;
  c->moved = c->with_sense = 0;
  c->iov = c->bidi = c->iov_inline;
  c->iov_cnt = c->bidi_cnt = 0;
  c->data_len = c->bidi_len = 0;
  c->first = NULL;
}

/* From now on the command can be found, and runs out of time. */
static void enlist(struct cmd *c)
{
  struct device *d = c->dev;

  TAILQ_REMOVE(&d->free_cmds, c, link);
  TAILQ_INSERT_TAIL(&d->outstanding, c, link);
  d->by_id[c->id] = c;
  if (d->time_out) {
    c->due = timers_now(&d->shard->timers) + d->time_out;
    if (!d->deadline.slot)
      timer_start(&d->shard->timers, &d->deadline, d->time_out);
  }
}

/* True if the range is the command's; `granted` is called otherwise. */
static bool hold_range(struct cmd *c)
{
  if (!c->data_out || !c->length)
    return true;
  c->lock.offset = c->offset;
  c->lock.length = c->length;
  return lock_acquire(&c->dev->locks, &c->lock);
}

/* Serves a command that is not enlisted, if the store can do it and no lock is
 * in its way; false: it is enlisted now, and nothing else has happened. */
static bool serve_at_once(struct cmd *c)
{
  struct device *d = c->dev;
  int rc;

  if (d->route[c->cdb[0]] != ROUTE_STORE || d->attention ||
      (c->data_out && !lock_table_empty(&d->locks))) {
    enlist(c);
    return false;
  }
  rc = fast_submit(c);
  if (rc == 0) {
    stored(c);
    answer(c, SCSI_GOOD);
    return true;
  }
  enlist(c);
  if (rc == STORE_PENDING)
    hold_range(c);
  return served(c, rc);
}

/* The rest of cmd_take(), for a command whose CDB is in its slot. */
__attribute__((noinline))
static void take(struct cmd *c, const struct ring_cmd *entry, int cdb_len)
{
  struct device *d = c->dev;

  c->cdb_len = cdb_len;
  renew(c, entry);
  if (entry->id >= d->by_id_room && !more_ids(d, entry->id)) {
    refuse(d, entry);
    return;
  }
  if (cdb_len < 0 ||
      (entry->iov_cnt + entry->bidi_cnt && !take_data(c, entry))) {
    log_error(d->name, "the kernel sent a command whose parts lie outside of "
              "the shared memory; it is failed");
    enlist(c);
    cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
    return;
  }
  place(c);
  if (d->held) {
    enlist(c);
    c->held = true;
  } else if (!serve_at_once(c) && hold_range(c)) {
    go(c);
  }
}

void cmd_resume(struct cmd *c)
{
  c->held = false;
  if (hold_range(c))
    go(c);
}

void cmd_take(struct device *d, const struct ring_cmd *entry)
{
  struct cmd *c = TAILQ_FIRST(&d->free_cmds);
  int cdb_len;

  if (!c && !(c = more_slots(d))) {
    refuse(d, entry);
    return;
  }
  cdb_len = ring_cdb(d->ring, entry, c->cdb);
  if (cdb_len > 0 && asks_if_ready(d, entry, c->cdb)) {
    ring_good(d->ring, entry->token, entry->id);
    return;                     /* the drain that called tells the kernel */
  }
  take(c, entry, cdb_len);
}

void cmd_abort(struct cmd *c)
{
  struct shard *s = c->dev->shard;

  if (c->task) {
    task_cancel(c->task);
  } else if (c->held || c->job.queued || lock_waits(&c->lock)) {
    shard_forget(s, &c->job);
    if (c->expired)
      cmd_fail(c, SCSI_ABORTED_COMMAND, 0x08, 0x01);
    else
      cmd_finish(c, SCSI_TASK_ABORTED);
  }
}

void cmd_orphan(struct cmd *c)
{
  c->orphaned = true;
  cmd_abort(c);
}

void cmd_deadline(struct timer *timer)
{
  struct device *d = timer->arg;
  struct timers *ts = &d->shard->timers;
  uint64_t now = timers_now(ts);
  struct cmd *c, *next;

  for (c = TAILQ_FIRST(&d->outstanding); c; c = next) {
    next = TAILQ_NEXT(c, link);
    if (c->expired)
      continue;
    if (c->due > now) {
      timer_start(ts, &d->deadline, c->due - now);
      return;
    }
    c->expired = true;
    log_warn(d->name, "opcode %02x was not answered within %.1f s and is "
             "cancelled", c->cdb[0], (double)d->time_out / 1e9);
    cmd_abort(c);
  }
}
