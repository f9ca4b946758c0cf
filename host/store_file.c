/* store_file.c - serves a regular file or a block device.
 *
 * On the loop where the page cache can answer (RWF_NOWAIT), where the file
 * system is memory, or where the operator wants it; else beside it (aio.h),
 * going on from where the loop got to.  Reads that come in numbers are
 * collected for one system call even if the page cache has them all.
 *
 *   submit -> file_move_on -> moved ... -> file_moved (store_sync.c)
 */
#define _GNU_SOURCE 1
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READS_TOGETHER = 4 };    /* in one turn: they are worth collecting */

/* --- on the loop -------------------------------------------------------- */

/* Moves what is left of a READ or WRITE. */
static int move(struct file *f, struct store_op *op, int flags)
{
  while (op->left) {
    int cnt = op->iov_left < IOV_MAX ? op->iov_left : IOV_MAX;
    ssize_t n = op->verb == STORE_READ
      ? preadv2(f->data, op->iov_now, cnt, (off_t)op->at, flags)
      : pwritev2(f->data, op->iov_now, cnt, (off_t)op->at, flags);

    if (n > 0)
      store_advance(op, (size_t)n);
    else if (n == 0)
      return -EIO;              /* the file became shorter under us */
    else if (errno != EINTR)
      return -errno;
  }
  return 0;
}

/* Most often it is the write that has failed and not its sync; but the latter
 * is told so, too, where data got their place only then. */
static bool no_room(ssize_t rc)
{
  return rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM;
}

/* Did the write fail, or its sync, perhaps on account of others?  A write that
 * fails without a sync as well has harmed only itself.  Where there was no room
 * and is now, a sync of the other description tells: it hears of all that a
 * failed sync of this one was told. */
static int write_stable(struct file *f, struct store_op *op)
{
  int rc = -EOPNOTSUPP;

  if (!f->no_dsync)
    rc = move(f, op, RWF_DSYNC);
  if (rc == -EOPNOTSUPP || no_room(rc)) {
    if (rc == -EOPNOTSUPP)
      f->no_dsync = true;
    rc = move(f, op, 0);
    if (rc)
      return rc;
    if (f->syncing)             /* one at a time: see store_file.h */
      return file_want_sync(f, op);
    if (!fdatasync(f->fd))
      return 0;
    rc = -errno;
  }
  if (rc && !move(f, op, 0))
    file_sync_failed(f);
  return rc;
}

/* --- beside the loop ---------------------------------------------------- */

void file_advance(struct store_op *op, size_t n)
{
  if (op->verb == STORE_READ || op->verb == STORE_WRITE) {
    store_advance(op, n);
  } else {
    op->at += n;
    op->left -= n;
  }
}

bool file_lapsed(const struct aio_call *call)
{
  const struct store_op *op = (const struct store_op *)
    ((const char *)call - offsetof(struct store_op, call));

  return op->lapsed && op->lapsed(op);
}

static void moved(struct aio_call *call, ssize_t n)
{
  struct store_op *op = file_op(call);
  struct file *f = (struct file *)op->store;

  if (n > 0) {
    file_advance(op, (size_t)n);
  } else if (n == -EOPNOTSUPP && op->dsync) {
    f->no_dsync = true;
    op->dsync = false;
  } else if (n < 0 && op->dsync) {
    op->dsync = false;          /* as write_stable() */
    if (!no_room(n))
      op->doubt = (int)n;
  } else {
    file_moved(f, op, n ? (int)n : -EIO);
    return;
  }
  file_move_on(f, op);
}

void file_move_on(struct file *f, struct store_op *op)
{
  struct aio_call *c = &op->call;

  if (!op->left) {
    file_moved(f, op, 0);
    return;
  }
  if (file_clear(f, op))
    return;
  if (f->align && direct_misaligned(f, op)) {
    direct_bounce(f, op);
    return;
  }
  c->verb = op->verb == STORE_READ ? AIO_READ : AIO_WRITE;
  c->fd = f->data;
  c->flags = op->dsync ? RWF_DSYNC : 0;
  c->at = op->at;
  c->ended = moved;
  if (op->verb == STORE_READ || op->verb == STORE_WRITE) {
    c->iov = op->iov_now;
    c->iov_cnt = op->iov_left < IOV_MAX ? op->iov_left : IOV_MAX;
  } else {
    file_fill_zeroes(f, op);
  }
  aio_start(&f->lane, c);
}

/* Where many reads come together, one system call for all of them costs less
 * than one for each, even if the page cache has everything.  As many as in the
 * turn before are expected. */
static bool collect(struct file *f)
{
  unsigned turn = aio_next_turn(&f->lane);

  if (turn != f->turn) {
    f->collects = turn && f->reads_in_turn >= READS_TOGETHER;
    f->turn = turn;
    f->reads_in_turn = 0;
  }
  f->reads_in_turn++;
  return f->collects;
}

/* --- the front ---------------------------------------------------------- */

static int submit(struct store *s, struct store_op *op)
{
  struct file *f = (struct file *)s;
  enum file_way *way = op->verb == STORE_READ ? &f->reads : &f->writes;
  bool stable = op->stable && op->verb != STORE_READ && !f->in_memory;
  int rc;

  op->failures = f->failures;
  op->doubt = 0;
  op->step = 0;
  op->bounce = NULL;
  op->call.lapsed = file_lapsed;
  op->dsync = stable && op->verb == STORE_WRITE && !f->no_dsync &&
              !s->in_flight;

  if (op->verb == STORE_FLUSH) {
    if (f->in_memory || s->read_only)
      return 0;
    return f->lost ? -EIO : file_want_sync(f, op);
  }
  if (op->verb == STORE_READ || op->verb == STORE_WRITE) {
    if (*way == FILE_INLINE)
      return stable ? write_stable(f, op) : move(f, op, 0);
    if (*way == FILE_TRY && !op->dsync &&
        !(op->verb == STORE_READ && collect(f))) {
      rc = move(f, op, RWF_NOWAIT);
      if (!rc)
        return stable ? file_want_sync(f, op) : 0;
      if (rc == -EOPNOTSUPP)
        *way = FILE_ASYNC;      /* what fails will tell once more */
    }
  }
  if (f->align)
    return direct_submit(f, op);
  file_move_on(f, op);
  return STORE_PENDING;
}

static void info(struct store *s, struct store_info *out)
{
  struct file *f = (struct file *)s;
  struct stat st;

  if (!f->is_device && !fstat(f->fd, &st)) {
    out->knows_used = true;
    out->used = (uint64_t)st.st_blocks * 512;
  }
  out->discards = f->discards;
  out->volatile_cache = !f->in_memory && !s->read_only;
  out->block = f->block;
}

/* A block device and a file system without holes call all of it data. */
static bool mapped(struct store *s, uint64_t offset, uint64_t *length)
{
  struct file *f = (struct file *)s;
  off_t data, hole;

  if (f->is_device)
    return true;
  data = lseek(f->fd, (off_t)offset, SEEK_DATA);
  if (data < 0)
    return errno != ENXIO;      /* ENXIO: nothing but a hole up to the end */
  if ((uint64_t)data > offset) {
    *length = (uint64_t)data - offset;
    return false;
  }
  hole = lseek(f->fd, (off_t)offset, SEEK_HOLE);
  if (hole > (off_t)offset)
    *length = (uint64_t)hole - offset;
  return true;
}

static int resize(struct store *s, uint64_t size)
{
  struct file *f = (struct file *)s;
  off_t end = lseek(f->fd, 0, SEEK_END);        /* of a device too */

  if (end < 0)
    return -errno;
  if (f->align && size % f->align)
    return -EINVAL;
  if (size <= (uint64_t)end)
    return 0;
  if (f->is_device)
    return -ENOSPC;
  if (s->read_only)
    return -EROFS;
  if (size > INT64_MAX)
    return -EFBIG;
  return ftruncate(f->fd, (off_t)size) ? -errno : 0;
}

static void close_store(struct store *s)
{
  struct file *f = (struct file *)s;

  aio_close(&f->lane);
  if (f->data >= 0)
    close(f->data);
  if (f->fd >= 0)
    close(f->fd);
  free(f);
}

static const struct store_type type = {
  .name = "file",
  .submit = submit,
  .info = info,
  .resize = resize,
  .mapped = mapped,
  .close = close_store,
};

void file_init(struct file *f)
{
  f->base.type = &type;
  f->fd = f->data = -1;
  STAILQ_INIT(&f->gate);
  file_sync_init(f);
}
