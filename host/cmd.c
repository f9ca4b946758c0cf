/* cmd.c - takes a command and sends it on its way, or ends it early; see cmd.h. */
#include "cmd.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind_cmd.h"
#include "device.h"
#include "log.h"
#include "state.h"
#include "task.h"

enum { GROW_IDS = 64 };

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

/* The store has done what a command asked for. */
static void stored(struct cmd *c)
{
  c->moved = c->range.kind == SCSI_READ ? c->data_len : 0;
}

void cmd_stored(struct cmd *c, int rc)
{
  c->dev->ops--;
  if (rc) {
    cmd_store_error(c, rc);
    return;
  }
  stored(c);
  cmd_finish(c, SCSI_GOOD);
}

bool cmd_is_plain(const struct cmd *c)
{
  return c->range.plain && c->in_range && !c->bidi_cnt &&
         c->range.blocks <= c->dev->max_blocks;
}

/* What fast_submit() has made of a command; false: nothing. */
static bool served(struct cmd *c, int rc)
{
  switch (rc) {
  case FAST_NOT:
    return false;
  case STORE_PENDING:
    c->dev->ops++;
    if (!c->enlisted)
      cmd_enlist(c);
    return true;
  case 0:
    stored(c);
    cmd_finish(c, SCSI_GOOD);
    return true;
  default:
    cmd_store_error(c, rc);
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
      if (cmd_enter(c))
        return;
      break;
    case ROUTE_WRITE:
      if (cmd_enter(c))
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
  c->expired = c->orphaned = c->enlisted = false;
  c->sense_len = 0;
  c->moved = c->with_sense = 0;
  c->iov = c->bidi = c->iov_inline;
  c->iov_cnt = c->bidi_cnt = 0;
  c->data_len = c->bidi_len = 0;
  c->first = NULL;
}

void cmd_enlist(struct cmd *c)
{
  struct device *d = c->dev;

  c->enlisted = true;
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
 * in its way; false: nothing has happened. */
static bool serve_at_once(struct cmd *c)
{
  struct device *d = c->dev;
  int rc;

  if (d->route[c->cdb[0]] != ROUTE_STORE || d->attention ||
      (c->data_out && !lock_table_empty(&d->locks)))
    return false;
  rc = fast_submit(c);
  if (rc == 0) {
    stored(c);
    cmd_answer(c, SCSI_GOOD);
    return true;
  }
  if (rc == FAST_NOT)
    return false;
  cmd_enlist(c);
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
    cmd_enlist(c);
    cmd_fail(c, SCSI_HARDWARE_ERROR, 0x44, 0);
    return;
  }
  place(c);
  if (d->held) {
    cmd_enlist(c);
    c->held = true;
  } else if (!serve_at_once(c)) {
    if (hold_range(c))
      go(c);
    else
      cmd_enlist(c);
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
