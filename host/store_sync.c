/* store_sync.c - what it takes for a file's writes to be stable.
 *
 * A `stable` write that is alone is one pwritev2(RWF_DSYNC).  Of several at a
 * time each is a plain write, and one fdatasync(), begun after they have ended,
 * makes them stable together: syncs of one file wait for each other anyway, in
 * the journal at the latest.  FLUSH is fdatasync().  What happens when the disk
 * fails: see file_sync_failed().
 */
#include "store_file.h"

#include <errno.h>
#include <stdlib.h>

/* After a failed sync the kernel takes the pages it could not write for clean
 * ones, and the next fdatasync() says that all is well.  It is not: writes
 * that ended with success are gone.  So from the first failed sync on every
 * FLUSH of this store fails until it is opened again, which is when somebody
 * has looked at the disk.
 *
 * Writes that are stable by themselves go on, but those that were under way at
 * that time fail: the page of theirs that was lost may be what the failed sync
 * was told of, and the next one will not be told again.  The other description
 * is told of it too, once: a stable write may fail on account of others, but
 * none succeeds on their account. */
void file_sync_failed(struct file *f)
{
  f->lost = true;
  f->failures++;
}

static void end_op(struct store_op *op, int rc)
{
  free(op->bounce);
  op->bounce = NULL;
  store_end(op, rc);            /* may close the store */
}

int file_want_sync(struct file *f, struct store_op *op)
{
  STAILQ_INSERT_TAIL(&f->unsynced, op, link);
  if (!f->syncing && !f->sync_wanted) {
    f->sync_wanted = true;
    aio_later(&f->lane, &f->sync_job);
  }
  return STORE_PENDING;
}

static void synced(struct aio_call *call, ssize_t rc)
{
  struct file *f = (struct file *)
    ((char *)call - offsetof(struct file, sync));
  struct file_ops ops = STAILQ_HEAD_INITIALIZER(ops);
  struct store_op *op;

  if (rc < 0)
    file_sync_failed(f);
  f->syncing = false;
  STAILQ_CONCAT(&ops, &f->synced);
  if (!STAILQ_EMPTY(&f->unsynced)) {
    f->sync_wanted = true;
    aio_later(&f->lane, &f->sync_job);
  }
  while ((op = STAILQ_FIRST(&ops))) {   /* the store lasts until the last */
    STAILQ_REMOVE_HEAD(&ops, link);
    end_op(op, rc < 0 ? (int)rc : op->failures != f->failures ? -EIO : 0);
  }
}

/* Just before the submission, so that all that one pass over the rings has
 * brought shares it. */
static void start_sync(struct aio_job *job)
{
  struct file *f = (struct file *)
    ((char *)job - offsetof(struct file, sync_job));

  f->sync_wanted = false;
  f->syncing = true;
  STAILQ_CONCAT(&f->synced, &f->unsynced);
  f->sync.verb = AIO_SYNC;
  f->sync.fd = f->fd;
  f->sync.ended = synced;
  aio_start(&f->lane, &f->sync);
}

void file_moved(struct file *f, struct store_op *op, int rc)
{
  if (f->align)
    direct_leave(f);
  if (op->doubt) {
    if (!rc)
      file_sync_failed(f);
    rc = op->doubt;
  }
  if (rc || op->verb == STORE_READ || !op->stable || op->dsync || f->in_memory)
    end_op(op, rc);
  else
    file_want_sync(f, op);
}

void file_sync_init(struct file *f)
{
  STAILQ_INIT(&f->synced);
  STAILQ_INIT(&f->unsynced);
  f->sync_job.run = start_sync;
}
