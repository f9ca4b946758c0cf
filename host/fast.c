/* fast.c - READ, WRITE and SYNCHRONIZE CACHE straight from the store.
 *
 * Only the plain form is served: no flags but DPO and FUA, a range on the
 * device, and as much data as the CDB says.  Everything else, every error
 * included, is the business of lua/tcmu/, which knows the whole truth.
 */
#include "cmd.h"
#include "device.h"
#include "store.h"

static void finish(struct cmd *c, int rc)
{
  if (rc) {
    cmd_store_error(c, rc);
    return;
  }
  c->moved = c->data_out ? 0 : c->data_len;
  cmd_finish(c, SCSI_GOOD);
}

static void done(struct store_op *op, int rc)
{
  struct cmd *c = op->arg;

  c->dev->ops--;
  finish(c, rc);
}

bool fast_start(struct cmd *c)
{
  struct device *d = c->dev;
  struct store_op *op = &c->op;
  int rc;

  if (c->range.kind == SCSI_SYNC ? !c->range.plain || !c->in_range
                                 : !cmd_is_plain(c))
    return false;
  op->iov = c->iov;
  op->iov_cnt = (int)c->iov_cnt;
  op->offset = c->offset;
  op->length = c->length;
  op->stable = c->range.fua || !d->write_cache;
  op->done = done;
  op->arg = c;
  switch (c->range.kind) {
  case SCSI_READ:
    if (!c->length || c->data_len != c->length ||
        (c->range.fua && d->write_cache))
      return false;
    op->verb = STORE_READ;
    break;
  case SCSI_WRITE:
    if (!c->length || c->data_len != c->length || d->read_only)
      return false;
    op->verb = STORE_WRITE;
    break;
  case SCSI_SYNC:
    op->verb = STORE_FLUSH;
    op->offset = op->length = 0;
    break;
  default:
    return false;
  }

  rc = store_submit(d->store, op);
  if (rc == STORE_PENDING)
    d->ops++;
  else
    finish(c, rc);
  return true;
}
