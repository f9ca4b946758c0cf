/* device_ring.c - a device and its ring: entries in, completions out.
 *
 * Both are bounded and batched: so many entries in one turn of the loop, and
 * one write() for all completions of it, or for each half MiB of their data, or
 * for the first of them after a sleep.
 */
#include "device.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "cmd.h"
#include "log.h"
#include "peer.h"
#include "poller.h"

enum {
  DRAIN_MAX = 256,              /* commands in one pass over a ring */
  FIRST = 2,                    /* of them after a sleep */
  MANY = 16,                    /* they are told all at once */
  TMR_LUN_RESET = 5,
};

void device_enlist_dirty(struct device *d)
{
  d->dirty = true;
  LIST_INSERT_HEAD(&d->shard->dirty, d, dirty_link);
}

void device_flush(struct device *d)
{
  int32_t any = 0;

  d->shard->told += d->untold;
  d->untold = 0;
  if (d->gone || !d->ring || !ring_publish(d->ring))
    return;
  d->writes++;
  while (write(d->fd, &any, sizeof(any)) < 0)
    if (errno != EINTR) {
      if (errno != EIO)         /* EIO: the device is being removed */
        log_error(d->name, "the kernel takes no completions: %s",
                  strerror(errno));
      return;
    }
  if (d->listening)
    poll_told(&d->shard->poller, d);
}

void device_orphan_all(struct device *d)
{
  struct cmd *c, *next;

  if (d->by_id)
    memset(d->by_id, 0, d->by_id_room * sizeof(*d->by_id));
  for (c = TAILQ_FIRST(&d->outstanding); c; c = next) {
    next = TAILQ_NEXT(c, link);
    cmd_orphan(c);
  }
}

static void park(struct device *d)
{
  d->parked = true;
  device_ignore(d);
  log_error(d->name, "the ring is broken (%s); the device is parked: restart "
            "tcmu-lua, or reset it with: echo 1 >action/reset_ring in its "
            "configfs directory, and restart", ring_why(d->ring));
  device_orphan_all(d);
  device_report_to(d, "parked", -EPROTO, ring_why(d->ring));
}

static void manage(struct device *d, const struct ring_tmr *tmr)
{
  struct cmd *c;
  uint32_t i;

  if (tmr->type == TMR_LUN_RESET) {
    d->resets++;
    peer_reset(d);
  }
  for (i = 0; i < tmr->count; i++) {
    c = cmd_by_id(d, ring_tmr_id(tmr, i));
    if (c)
      cmd_abort(c);
  }
  device_mark_dirty(d);         /* the entry itself is released */
}

/* Is the oldest command, and thus any, one that was dropped? */
static bool waits(const struct device *d)
{
  const struct cmd *c = TAILQ_FIRST(&d->outstanding);

  return c && c->orphaned;
}

/* What the disk already does for dropped commands goes on, and may fill data
 * that are new commands' by now. */
static void start_over(struct device *d)
{
  log_warn(d->name, "somebody has reset the ring: commands that were running "
           "are dropped");
  device_orphan_all(d);
  if (waits(d)) {
    d->settling = true;
    poll_forget(&d->shard->poller, d);
  }
}

/* That is over.  What has come meanwhile may have lost its data: the initiator
 * has to send it again.  All of it at once, so that nothing that is sent again
 * is among it. */
static enum ring_event turn_away(struct device *d, union ring_entry *out)
{
  const struct ring_result busy = { .status = SCSI_BUSY };
  enum ring_event event;

  while ((event = ring_next(d->ring, out)) == RING_CMD)
    ring_complete(d->ring, out->cmd.token, out->cmd.id, &busy);
  return event;
}

/* Takes up to `most` entries and returns how many; *empty if that was all. */
static int take(struct device *d, int most, bool *empty)
{
  enum ring_event event;
  union ring_entry e;
  int n = 0;

  *empty = false;
  while (n < most) {
    if (d->settling)
      event = turn_away(d, &e);
    else
      n += cmd_take(d, most - n, &event, &e);
    switch (event) {
    case RING_CMD:
      break;
    case RING_EMPTY:
      d->settling = false;
      *empty = true;
      return n;
    case RING_TMR:
      manage(d, &e.tmr);
      n++;
      break;
    case RING_RESET:
      start_over(d);
      n++;
      if (!waits(d))
        break;
      *empty = true;
      return n;
    case RING_BROKEN:
      park(d);
      *empty = true;
      return n;
    }
  }
  return n;
}

/* What comes in while completions are told is taken as well, but within one
 * limit: a busy device must not keep the loop from the others.  The first pass
 * takes up to `first`. */
static int drain(struct device *d, int first)
{
  int limit = first, left = DRAIN_MAX, taken, most = 0;
  bool empty;

  if (!d->ring || d->gone || d->parked || waits(d))
    return 0;
  d->draining = true;
  do {
    taken = take(d, limit, &empty);
    left -= taken;
    limit = left;
    if (most < taken)
      most = taken;
    device_mark_dirty(d);       /* PADs and unknown entries are released too */
    shard_settle(d->shard);
  } while (left > 0 && !d->parked && !waits(d) && ring_pending(d->ring));
  d->shard->served += (uint64_t)(DRAIN_MAX - left);
  d->draining = false;
  if (!TAILQ_EMPTY(&d->outstanding))
    d->shard->unanswered = true;
  if (!empty && left == 0)
    shard_unfinished(d->shard, d);
  else if (TAILQ_EMPTY(&d->outstanding))
    device_quiet(d);
  return most;
}

int device_drain(struct device *d)
{
  return drain(d, DRAIN_MAX);
}

/* An initiator for which the shard could fall asleep, and that has few commands
 * on the ring, has nothing in hand. */
static bool is_hungry(const struct device *d)
{
  return !d->shard->poller.awake && d->ring &&
         ring_backlog(d->ring) <= MANY * sizeof(struct abi_cmd);
}

/* One that is gets the first answers at once, and works while the rest is
 * served; for others one write() for all is cheaper. */
static int serve(struct device *d)
{
  bool hungry = is_hungry(d);
  int together = drain(d, hungry ? FIRST : DRAIN_MAX);

  if (hungry && d->listening)
    shard_give_way(d->shard);
  return together;
}

/* The event is there until its count is read. */
static bool acknowledge(struct device *d)
{
  int32_t count;

  return read(d->fd, &count, sizeof(count)) >= 0 || errno == EAGAIN ||
         errno == EINTR;
}

/* What there is to do is done first: an initiator that waits for one answer
 * need not wait for the bookkeeping. */
static void on_event(uv_poll_t *h, int status, int events)
{
  struct device *d = h->data;
  int together = 0;

  (void)events;
  if (status >= 0) {
    if (d->ring && ring_pending(d->ring))
      poll_woken(&d->shard->poller);
    together = serve(d);
    if (!d->listening)
      return;
  }
  if (status < 0 || !acknowledge(d))
    device_ignore(d);           /* control will tell that it was removed */
  else if (d->ring && ring_pending(d->ring))
    shard_unfinished(d->shard, d);      /* what came between the two */
  shard_woken(d->shard, together);
}

void device_listen(struct device *d)
{
  d->listening = true;
  uv_poll_start(&d->poll, UV_READABLE, on_event);
}

void device_ignore(struct device *d)
{
  d->listening = false;
  uv_poll_stop(&d->poll);
  poll_forget(&d->shard->poller, d);
}
