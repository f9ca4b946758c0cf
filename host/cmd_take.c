/* cmd_take.c - a command's beginning: out of the ring, into a slot, and to the
 * store if that answers at once; see cmd.h.
 *
 * The loop over the ring is here, and not with the rest of a drain, so that
 * what it found out about an entry need not be handed over.
 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "log.h"
#include "ring_short.h"

enum { GROW_IDS = 64 };

__attribute__((noinline))
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

static bool more_iovecs(struct cmd *c, uint32_t n)
{
  free(c->iov_big);
  c->iov_room = 0;
  c->iov_big = malloc(n * sizeof(*c->iov_big));
  if (!c->iov_big)
    return false;
  c->iov_room = n;
  return true;
}

__attribute__((noinline))
static bool take_data_at_length(struct cmd *c, const struct ring_cmd *entry)
{
  uint32_t n = entry->iov_cnt + entry->bidi_cnt;
  struct ring *r = c->dev->ring;
  int64_t len, bidi_len = 0;

  if (n > CMD_IOV_INLINE) {
    if (n > c->iov_room && !more_iovecs(c, n))
      return false;
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

/* Copies the iovecs out of the ring: most commands have one. */
static bool take_data(struct cmd *c, const struct ring_cmd *entry)
{
  struct iovec *iov = c->iov_inline;

  if (entry->iov_cnt != 1 || entry->bidi_cnt ||
      !ring_iovec(c->dev->ring, entry, 0, iov))
    return take_data_at_length(c, entry);
  c->iov_cnt = 1;
  c->data_len = iov->iov_len;
  c->first = iov->iov_base;
  return true;
}

/* The range in bytes, and whether it lies on the device. */
static void place(struct cmd *c)
{
  struct device *d = c->dev;
  uint64_t blocks;

  scsi_range(c->cdb, c->cdb_len, &c->range);
  c->data_out = c->range.kind >= SCSI_CHANGES;
  c->in_range = false;
  c->offset = c->length = 0;
  if (c->range.ranged) {
    blocks = d->size >> d->block_shift;
    if (c->range.lba <= blocks && c->range.blocks <= blocks - c->range.lba) {
      c->in_range = true;
      c->offset = c->range.lba << d->block_shift;
      c->length = c->range.blocks << d->block_shift;
    }
  }
  if (c->range.kind == SCSI_UNMAP)
    fast_unmap_range(c);
}

__attribute__((cold))
static void refuse(struct device *d, const struct ring_cmd *entry)
{
  struct ring_result res = { .status = SCSI_TASK_SET_FULL };

  ring_complete(d->ring, entry->token, entry->id, &res);
}

/* TEST UNIT READY, without a flag or data, of a device that is ready. */
static bool asks_if_ready(const struct device *d, const struct ring_cmd *entry,
                          const unsigned char *cdb)
{
  static const unsigned char plain[6] = { 0x00 };

  return !memcmp(cdb, plain, sizeof(plain)) &&
         d->route[0x00] == ROUTE_READY && !d->attention &&
         !(entry->iov_cnt | entry->bidi_cnt);
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
  c->due = UINT64_MAX;
  if (d->time_out) {
    c->due = timers_now(&d->shard->timers) + d->time_out;
    if (!d->deadline.slot || c->due < d->deadline.due)
      timer_start(&d->shard->timers, &d->deadline, d->time_out);
  }
}

/* While one command is served, the blocks of the next come nearer: a guess that
 * nothing depends on, for READ(10) and WRITE(10), which are what Linux sends to
 * disks below 2 TiB. */
static inline void look_ahead(const struct device *d)
{
  const struct ring *r = d->ring;
  struct ring_cmd next = { .at = (const unsigned char *)
                                 ring_at(r, r->cursor) };
  unsigned char cdb[RING_CDB_COMMON];

  if (d->store->type->expect &&
      r->edge - r->cursor >= sizeof(struct abi_cmd) &&
      ring_cdb_common(r, &next, cdb) && (cdb[0] | 0x02) == 0x2a)
    d->store->type->expect(d->store, scsi_integer(cdb + 2, 4) <<
                                     d->block_shift);
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
  look_ahead(d);
  rc = fast_submit(c);
  if (rc == 0) {
    cmd_set_moved(c);
    cmd_answer(c, SCSI_GOOD);
    return true;
  }
  if (rc == FAST_NOT)
    return false;
  cmd_enlist(c);
  if (rc == STORE_PENDING)
    cmd_hold_range(c);
  return cmd_served(c, rc);
}

/* Takes a command of which `cdb` is known, if that is not NULL, and gets it
 * going. */
__attribute__((noinline))
static void take(struct device *d, struct ring_cmd *entry,
                 const unsigned char *cdb)
{
  struct cmd *c = TAILQ_FIRST(&d->free_cmds);
  int len = RING_CDB_MAX;

  ring_take(d->ring, entry);
  if ((!c && !(c = cmd_slot_new(d))) ||
      (entry->id >= d->by_id_room && !more_ids(d, entry->id))) {
    refuse(d, entry);
    return;
  }
  renew(c, entry);
  if (cdb) {
    memcpy(c->cdb, cdb, RING_CDB_COMMON);
    len = (int)abi_cdb_len(cdb[0], cdb[7]);
  }
  if (len > RING_CDB_COMMON)
    len = ring_cdb(d->ring, entry, c->cdb);
  c->cdb_len = len;
  if (len < 0 ||
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
    cmd_begin(c);
  }
}

int cmd_take(struct device *d, int most, enum ring_event *event,
             union ring_entry *out)
{
  unsigned char common[RING_CDB_COMMON], *cdb;
  struct ring *r = d->ring;
  struct ring_cmd entry;
  int n;

  for (n = 0; n < most; n++) {
    if (!ring_has_cmd(r, &entry)) {
      *event = ring_find(r, out);
      if (*event != RING_CMD)
        return n;
      entry = out->cmd;
    }
    cdb = ring_cdb_common(r, &entry, common) ? common : NULL;
    if (cdb && asks_if_ready(d, &entry, cdb)) {
      ring_good_at_once(r, &entry);
    } else {
      out->cmd = entry;         /* which is in registers up to here */
      take(d, &out->cmd, cdb);
    }
  }
  *event = RING_CMD;
  return n;
}
