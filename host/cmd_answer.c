/* cmd_answer.c - how a command ends: what of its data leaves, and with what
 * status; see cmd.h.
 */
#include "cmd.h"

#include <string.h>

#include "bind_wait.h"
#include "device.h"
#include "hold.h"
#include "ring_short.h"

/* Rare: not inline, so that the others need not save registers for it. */
__attribute__((noinline))
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
 * data goes in: then all it gets is one zero.  Returns the READ_LEN to be told,
 * or 0 for none; it counts for plain Data-In only.  After a reset of the ring
 * the data may be another command's already: then it is not touched. */
static inline uint32_t settle_data(struct cmd *c)
{
  bool can_cut;

  if (c->moved >= c->data_len && !c->bidi_cnt)
    return 0;                   /* nearly always */
  if (c->bidi_cnt) {
    clear_iov(c->bidi, c->bidi_cnt, c->moved);
    return 0;
  }
  can_cut = c->dev->ring->caps & RING_CAP_READ_LEN;
  if (c->data_out && can_cut) {
    *c->first = 0;
    c->moved = 1;
  }
  if (c->moved && can_cut)
    return (uint32_t)c->moved;
  clear_iov(c->iov, c->iov_cnt, c->moved);
  return 0;
}

bool cmd_is_void(const struct cmd *c)
{
  return !ring_awaits(c->dev->ring, c->token, c->id);
}

/* Nobody sees the answer before it is published: the data can be settled once
 * it is certain that there is one to be given. */
static inline void answer_good(struct cmd *c)
{
  struct abi_cmd *e = ring_finish(c->dev->ring, c->token, c->id);

  if (e)
    ring_put_good(e, c->id, settle_data(c));
  else
    c->dev->settling = true;
}

/* Any other status than GOOD. */
__attribute__((noinline))
static void answer_not_good(struct cmd *c, uint8_t status)
{
  struct ring_result res = { .status = status };

  if (!ring_awaits(c->dev->ring, c->token, c->id)) {
    c->dev->settling = true;
    return;
  }
  c->moved = 0;
  if (status != SCSI_CHECK_CONDITION)
    res.read_len = settle_data(c);
  else if (c->with_sense && c->touched && !c->bidi_cnt)
    res.read_len = (uint32_t)c->with_sense;
  res.has_read_len = res.read_len > 0;
  if (c->sense_len) {
    res.sense = c->sense;
    res.sense_len = (size_t)c->sense_len;
  }
  ring_complete(c->dev->ring, c->token, c->id, &res);
}

/* What cannot be answered was void before any drain has seen the reset, and
 * what it has read may lie in the data of commands that are in the ring.
 *
 * Much data does not wait for the end of the drain: the kernel copies it when
 * it is told, so that the initiator can go on meanwhile, and finds it in the
 * processor's cache still. */
void cmd_answer(struct cmd *c, uint8_t status)
{
  struct device *d = c->dev;

  device_mark_dirty(d);
  if (status == SCSI_GOOD)
    answer_good(c);
  else
    answer_not_good(c, status);
  d->untold += c->data_len;
  if (d->untold >= SHARD_MUCH_DATA)
    device_flush(d);
}

/* For a command that others know of, or may wait for. */
__attribute__((noinline))
static void finish_at_length(struct cmd *c, uint8_t status)
{
  struct device *d = c->dev;

  if (!c->orphaned)
    cmd_answer(c, status);
  if (c->enlisted) {
    if (!c->orphaned)
      d->by_id[c->id] = NULL;
    TAILQ_REMOVE(&d->outstanding, c, link);
    TAILQ_INSERT_HEAD(&d->free_cmds, c, link);
  }
  lock_release(&d->locks, &c->lock);
  if (c->locks)
    wait_release_locks(d, c);
  if (!c->enlisted)
    return;
  if (TAILQ_EMPTY(&d->outstanding)) {
    if (d->settling)
      shard_unfinished(d->shard, d);
    device_quiet(d);
  }
  hold_look(d);
}

void cmd_finish(struct cmd *c, uint8_t status)
{
  if (c->enlisted | c->data_out | c->locks)     /* one branch */
    finish_at_length(c, status);
  else
    cmd_answer(c, status);
}

void cmd_fail(struct cmd *c, int key, int asc, int ascq)
{
  c->sense_len = scsi_sense(c->sense, c->dev->descriptor_sense, key, asc,
                            ascq);
  cmd_finish(c, SCSI_CHECK_CONDITION);
}

