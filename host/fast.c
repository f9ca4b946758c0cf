/* fast.c - what a store can do for a command without Lua.
 *
 * Only plain forms are served: no flags but those that scsi.c lets pass, a
 * range on the device, and as much data as the CDB says.  Everything else,
 * every error included, is the business of lua/tcmu/, which knows the whole
 * truth; in doubt the answer is FAST_NOT.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "device.h"
#include "store.h"

enum {
  SCRATCH = 1 << 16,
  UNMAP_LIST = 8 + 16,          /* SBC-3 table 110: header, one descriptor */
};

static void done(struct store_op *op, int rc)
{
  cmd_stored(op->arg, rc);
}

bool cmd_is_plain(const struct cmd *c)
{
  return c->range.plain && c->in_range && !c->bidi_cnt &&
         c->range.blocks <= c->dev->max_blocks;
}

/* READ, WRITE: all data is there, and no more. */
static bool has_data(const struct cmd *c)
{
  return cmd_is_plain(c) && c->length && c->data_len == c->length;
}

static bool prepare_read(struct cmd *c, struct store_op *op)
{
  op->verb = STORE_READ;
  /* FUA: what is in the cache goes to the medium before */
  return has_data(c) && !(c->range.flags & SCSI_FUA && c->dev->write_cache);
}

static bool prepare_write(struct cmd *c, struct store_op *op)
{
  op->verb = STORE_WRITE;
  op->stable = op->stable || c->range.flags & SCSI_FUA;
  return has_data(c) && !c->dev->read_only;
}

/* Where the VERIFYs of a shard read to: nobody looks at it. */
static void *scratch(struct shard *s)
{
  if (!s->scratch)
    s->scratch = malloc(SCRATCH);
  return s->scratch;
}

/* The blocks can be read: they are.  Data that nothing was said of, and a range
 * that needs more iovecs than a command has, are Lua's. */
static bool prepare_verify(struct cmd *c, struct store_op *op)
{
  void *to = scratch(c->dev->shard);
  uint64_t left = c->length;
  int n = 0;

  if (!to || !c->in_range || !left || c->data_len ||
      left > CMD_IOV_INLINE * SCRATCH)
    return false;
  for (; left; left -= c->iov_inline[n++].iov_len) {
    c->iov_inline[n].iov_base = to;
    c->iov_inline[n].iov_len = left < SCRATCH ? (size_t)left : SCRATCH;
  }
  op->verb = STORE_READ;
  op->iov = c->iov_inline;
  op->iov_cnt = n;
  return true;
}

static bool prepare_sync(struct cmd *c, struct store_op *op)
{
  op->verb = STORE_FLUSH;
  op->offset = op->length = 0;
  return c->in_range;
}

/* All zeroes: a byte is, and each is like the one before. */
static bool is_zero(const unsigned char *p, size_t n)
{
  return !p[0] && !memcmp(p, p + 1, n - 1);
}

static bool prepare_same(struct cmd *c, struct store_op *op)
{
  const struct device *d = c->dev;

  if (!c->in_range || !c->length || c->range.blocks > d->max_same ||
      d->read_only)
    return false;
  if (!(c->range.flags & SCSI_SAME_NDOB) &&
      (c->data_len != d->block_size || c->iov_cnt != 1 ||
       !is_zero(c->iov[0].iov_base, d->block_size)))
    return false;
  op->verb = STORE_ZERO;
  if (c->range.flags & SCSI_SAME_UNMAP) {
    op->verb = STORE_DISCARD;
    return d->max_unmap > 0;
  }
  return true;
}

static bool prepare_unmap(struct cmd *c, struct store_op *op)
{
  op->verb = STORE_DISCARD;
  return c->in_range && c->length && !c->dev->read_only &&
         c->length >> c->dev->block_shift <= c->dev->max_unmap;
}

__attribute__((noinline))
static bool prepare_other(struct cmd *c, struct store_op *op)
{
  switch ((enum scsi_kind)c->range.kind) {
  case SCSI_VERIFY:
    return prepare_verify(c, op);
  case SCSI_SYNC:
    return prepare_sync(c, op);
  case SCSI_SAME:
    return prepare_same(c, op);
  case SCSI_UNMAP:
    return prepare_unmap(c, op);
  case SCSI_READ:
  case SCSI_WRITE:
  case SCSI_OTHER:
  case SCSI_LOOK:
  case SCSI_CHANGE:
    break;
  }
  return false;
}

/* READ and WRITE are nearly all there is. */
static inline bool prepare(struct cmd *c, struct store_op *op)
{
  if (c->range.kind == SCSI_READ)
    return prepare_read(c, op);
  if (c->range.kind == SCSI_WRITE)
    return prepare_write(c, op);
  return prepare_other(c, op);
}

int fast_submit(struct cmd *c)
{
  struct store_op *op = &c->op;

  if (!c->range.plain || c->bidi_cnt)
    return FAST_NOT;
  op->iov = c->iov;
  op->iov_cnt = (int)c->iov_cnt;
  op->offset = c->offset;
  op->length = c->length;
  op->stable = !c->dev->write_cache;
  op->done = done;
  op->arg = c;                  /* op->lapsed is the slot's */
  return prepare(c, op) ? store_submit(c->dev->store, op) : FAST_NOT;
}

void fast_unmap_range(struct cmd *c)
{
  const struct device *d = c->dev;
  uint64_t blocks = d->size >> d->block_shift, lba, n;
  const unsigned char *list;

  if (!c->range.plain || c->range.blocks != UNMAP_LIST || c->iov_cnt != 1 ||
      c->data_len != UNMAP_LIST)
    return;
  list = c->iov[0].iov_base;
  if (scsi_integer(list + 2, 2) != 16)
    return;
  lba = scsi_integer(list + 8, 8);
  n = scsi_integer(list + 16, 4);
  if (lba > blocks || n > blocks - lba)
    return;
  c->in_range = true;
  c->offset = lba << d->block_shift;
  c->length = n << d->block_shift;
}
