/* cmd.c - where commands are kept, how one begins that did not at once, and
 * how it is ended early; see cmd.h.
 */
#include "cmd.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind_cmd.h"
#include "device.h"
#include "log.h"
#include "state.h"
#include "task.h"

static void go_job(struct job *j);
static void granted(struct range_lock *l);
static bool lapsed(const struct store_op *op);

__attribute__((cold))
struct cmd *cmd_slot_new(struct device *d)
{
  struct cmd *c = calloc(1, sizeof(*c));

  if (!c)
    return NULL;
  c->dev = d;
  c->job.run = go_job;
  c->lock.granted = granted;
  c->op.lapsed = lapsed;
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

static bool lapsed(const struct store_op *op)
{
  return cmd_is_void(op->arg);
}

void cmd_stored(struct cmd *c, int rc)
{
  c->dev->ops--;
  if (rc && cmd_is_void(c)) {   /* which is why; a part may have been read */
    c->dev->settling = true;
    cmd_finish(c, SCSI_TASK_ABORTED);
    return;
  }
  if (rc) {
    cmd_store_error(c, rc);
    return;
  }
  cmd_set_moved(c);
  cmd_finish(c, SCSI_GOOD);
}

bool cmd_served(struct cmd *c, int rc)
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
    cmd_set_moved(c);
    cmd_finish(c, SCSI_GOOD);
    return true;
  default:
    cmd_store_error(c, rc);
    return true;
  }
}

/* By the store, or by the handler's read or write; false: by neither. */
static bool take_shortcut(struct cmd *c, enum route route)
{
  if (route == ROUTE_STORE)
    return cmd_served(c, fast_submit(c));
  return (route == ROUTE_READ || route == ROUTE_WRITE) && cmd_enter(c);
}

static inline void go(struct cmd *c)
{
  const struct device *d = c->dev;
  enum route route = d->route[c->cdb[0]];

  if (d->attention || route == ROUTE_LUA || !take_shortcut(c, route))
    cmd_to_lua(c);
}

/* It has waited, and maybe until a reset, or until the device was smaller. */
static void go_on(struct cmd *c)
{
  if (c->offset + c->length > c->dev->size)
    c->in_range = false;
  if (cmd_is_void(c))
    cmd_finish(c, SCSI_TASK_ABORTED);
  else
    go(c);
}

bool cmd_hold_range(struct cmd *c)
{
  if (!c->data_out || !c->length)
    return true;
  c->lock.offset = c->offset;
  c->lock.length = c->length;
  return lock_acquire(&c->dev->locks, &c->lock);
}

static void go_job(struct job *j)
{
  go_on((struct cmd *)((char *)j - offsetof(struct cmd, job)));
}

static void granted(struct range_lock *l)
{
  struct cmd *c = l->arg;

  shard_later(c->dev->shard, &c->job);
}

void cmd_begin(struct cmd *c)
{
  if (cmd_hold_range(c))
    go(c);
  else
    cmd_enlist(c);
}

void cmd_release(struct cmd *c)
{
  c->held = false;
  if (cmd_hold_range(c))
    go_on(c);
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
  uint64_t now = timers_now(ts), then = UINT64_MAX;
  struct cmd *c, *next;

  for (c = TAILQ_FIRST(&d->outstanding); c; c = next) {
    next = TAILQ_NEXT(c, link);
    if (c->expired)
      continue;
    if (c->due > now) {
      if (c->due < then)
        then = c->due;
      continue;
    }
    c->expired = true;
    log_warn(d->name, "opcode %02x was not answered within %.1f s and is "
             "cancelled", c->cdb[0], (double)d->time_out / 1e9);
    cmd_abort(c);
  }
  if (then < UINT64_MAX)
    timer_start(ts, &d->deadline, then - now);
}
