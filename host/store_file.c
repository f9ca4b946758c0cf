/* store_file.c - serves a regular file or a block device.
 *
 * Each operation is perform(), a few system calls: on the loop with RWF_NOWAIT
 * where the page cache can answer, or plainly where the file system is memory;
 * in libuv's pool otherwise, which goes on from where the loop got to.
 *
 * Durability: a `stable` write is one pwritev2(RWF_DSYNC).  FLUSH is
 * fdatasync().  What happens when the disk fails: see sync_failed().
 */
#define _GNU_SOURCE 1
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ZEROES = 1 << 16 };

static unsigned char zeroes[ZEROES];    /* never written */

/* After a failed sync the kernel takes the pages it could not write for clean
 * ones, and the next fdatasync() says that all is well.  It is not: writes
 * that ended with success are gone.  So from the first failed sync on every
 * FLUSH of this store fails until it is opened again, which is when somebody
 * has looked at the disk.  Writes that are stable by themselves go on. */
static int sync_failed(struct file *f, int rc)
{
  atomic_store(&f->lost, true);
  return rc;
}

static int sync_data(struct file *f, int fd)
{
  while (fdatasync(fd))
    if (errno != EINTR)
      return sync_failed(f, -errno);
  return 0;
}

/* Moves what is left of a READ or WRITE. */
static int move(struct store_op *op, int fd, int flags)
{
  while (op->left) {
    int cnt = op->iov_left < IOV_MAX ? op->iov_left : IOV_MAX;
    ssize_t n = op->verb == STORE_READ
      ? preadv2(fd, op->iov_now, cnt, (off_t)op->at, flags)
      : pwritev2(fd, op->iov_now, cnt, (off_t)op->at, flags);

    if (n > 0)
      store_advance(op, (size_t)n);
    else if (n == 0)
      return -EIO;              /* the file became shorter under us */
    else if (errno != EINTR)
      return -errno;
  }
  return 0;
}

static int write_stable(struct file *f, struct store_op *op, int fd)
{
  int rc;

  if (!atomic_load(&f->no_dsync)) {
    rc = move(op, fd, RWF_DSYNC);
    if (rc != -EOPNOTSUPP) {
      /* Did the write fail, or its sync, perhaps on account of others?  A
       * write that fails without a sync as well has harmed only itself. */
      return rc && !move(op, fd, 0) ? sync_failed(f, rc) : rc;
    }
    atomic_store(&f->no_dsync, true);
  }
  rc = move(op, fd, 0);
  return rc ? rc : sync_data(f, fd);
}

static int write_zeroes(struct store_op *op, int fd)
{
  struct iovec iov[16];

  while (op->left) {
    uint64_t left = op->left;
    int cnt = 0;
    ssize_t n;

    for (; left && cnt < 16; cnt++) {
      iov[cnt].iov_base = zeroes;
      iov[cnt].iov_len = left < ZEROES ? (size_t)left : ZEROES;
      left -= iov[cnt].iov_len;
    }
    n = pwritev(fd, iov, cnt, (off_t)op->at);
    if (n > 0) {
      op->at += (uint64_t)n;
      op->left -= (uint64_t)n;
    } else if (n == 0) {
      return -EIO;
    } else if (errno != EINTR) {
      return -errno;
    }
  }
  return 0;
}

/* Two ways to do it without writing, the better one first. */
static int clear(struct store_op *op, int fd)
{
  static const int PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  static const int RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  int ways[2];

  ways[0] = op->verb == STORE_DISCARD ? PUNCH : RANGE;
  ways[1] = op->verb == STORE_DISCARD ? RANGE : PUNCH;
  for (int i = 0; i < 2; ) {
    if (!fallocate(fd, ways[i], (off_t)op->at, (off_t)op->left))
      return 0;
    switch (errno) {
    case EINTR:
      break;
    case EOPNOTSUPP:
    case ENOSYS:
    case EINVAL:                /* a device with larger blocks than ours */
      i++;
      break;
    default:
      return -errno;
    }
  }
  return write_zeroes(op, fd);
}

/* `flags` of 0 may wait. */
static int perform(struct file *f, struct store_op *op, int fd, int flags)
{
  bool sync = op->stable && !f->in_memory;
  int rc;

  switch (op->verb) {
  case STORE_READ:
    return move(op, fd, flags);
  case STORE_WRITE:
    return sync ? write_stable(f, op, fd) : move(op, fd, flags);
  case STORE_FLUSH:
    if (f->in_memory)
      return 0;
    return atomic_load(&f->lost) ? -EIO : sync_data(f, fd);
  case STORE_DISCARD:
  case STORE_ZERO:
    rc = clear(op, fd);
    return rc || !sync ? rc : sync_data(f, fd);
  }
  return -EINVAL;
}

int store_file_run(struct store *s, struct store_op *op, unsigned slot)
{
  struct file *f = (struct file *)s;

  return perform(f, op, f->fd[slot], 0);
}

static int submit(struct store *s, struct store_op *op)
{
  struct file *f = (struct file *)s;
  int *flags = &f->inline_flags[op->verb];
  int rc;

  if (op->verb == STORE_FLUSH && s->read_only)
    return 0;
  if (*flags == FILE_NEVER || (op->stable && *flags && op->verb != STORE_READ))
    return store_pool_submit(&f->pool, op);

  rc = perform(f, op, f->fd[0], *flags);
  if (!rc || !*flags)
    return rc;
  if (rc == -EOPNOTSUPP)
    *flags = FILE_NEVER;
  return store_pool_submit(&f->pool, op);       /* it knows for certain */
}

static void info(struct store *s, struct store_info *out)
{
  struct file *f = (struct file *)s;
  struct stat st;

  if (!f->is_device && !fstat(f->fd[0], &st)) {
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
  data = lseek(f->fd[0], (off_t)offset, SEEK_DATA);
  if (data < 0)
    return errno != ENXIO;      /* ENXIO: nothing but a hole up to the end */
  if ((uint64_t)data > offset) {
    *length = (uint64_t)data - offset;
    return false;
  }
  hole = lseek(f->fd[0], (off_t)offset, SEEK_HOLE);
  if (hole > (off_t)offset)
    *length = (uint64_t)hole - offset;
  return true;
}

static int resize(struct store *s, uint64_t size)
{
  struct file *f = (struct file *)s;
  off_t end = lseek(f->fd[0], 0, SEEK_END);     /* of a device too */

  if (end < 0)
    return -errno;
  if (size <= (uint64_t)end)
    return 0;
  if (f->is_device)
    return -ENOSPC;
  if (s->read_only)
    return -EROFS;
  if (size > INT64_MAX)
    return -EFBIG;
  return ftruncate(f->fd[0], (off_t)size) ? -errno : 0;
}

static void close_store(struct store *s)
{
  struct file *f = (struct file *)s;

  for (int i = 0; i < STORE_POOL_WIDTH; i++)
    if (f->fd[i] >= 0)
      close(f->fd[i]);
  free(f);
}

const struct store_type store_file_type = {
  .name = "file",
  .submit = submit,
  .info = info,
  .resize = resize,
  .mapped = mapped,
  .close = close_store,
};
