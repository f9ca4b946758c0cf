/* store_clear.c - zeroes in a file, without writing them where that is possible.
 *
 * fallocate() in two ways, the better one first; what it refuses, and what is
 * not a whole page on a block device, is written.
 */
#define _GNU_SOURCE 1
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

enum {
  ZEROES = 1 << 16,
  CLEARS = 2,                   /* ways to have zeroes without writing them */
};

/* Never written; aligned as O_DIRECT wants it. */
static unsigned char zeroes[ZEROES] __attribute__((aligned(4096)));
#define PIECE { zeroes, ZEROES }

/* How much of what is left to be zeroes can be so without writing: of a block
 * device only whole pages of its page cache.  A write to the rest of a page
 * brings all of it in; kernels of before 2025 let it do so while the device
 * clears the other part, and what was there comes back. */
static uint64_t clearable(const struct file *f, const struct store_op *op)
{
  if (op->verb == STORE_READ || op->verb == STORE_WRITE || op->step == CLEARS)
    return 0;
  if (!f->page)
    return op->left;
  return op->at % f->page ? 0 : op->left - op->left % f->page;
}

/* And how much of it is to be written before that can be asked again. */
static uint64_t fillable(const struct file *f, const struct store_op *op)
{
  uint64_t edge = f->page && op->step < CLEARS ? f->page - op->at % f->page
                                               : op->left;

  return edge < op->left ? edge : op->left;
}

void file_fill_zeroes(const struct file *f, struct store_op *op)
{
  static const struct iovec pieces[] = {
    PIECE, PIECE, PIECE, PIECE, PIECE, PIECE, PIECE, PIECE,
    PIECE, PIECE, PIECE, PIECE, PIECE, PIECE, PIECE, PIECE,
  };
  const int most = sizeof(pieces) / sizeof(pieces[0]);
  uint64_t n = fillable(f, op), whole = n / ZEROES;

  op->window = (struct iovec){ zeroes, (size_t)n };
  op->call.iov = whole ? pieces : &op->window;
  op->call.iov_cnt = !whole ? 1 : whole < (uint64_t)most ? (int)whole : most;
}

static void cleared(struct aio_call *call, ssize_t rc)
{
  struct store_op *op = file_op(call);
  struct file *f = (struct file *)op->store;

  switch (rc) {
  case -EOPNOTSUPP:
  case -ENOSYS:
  case -EINVAL:                 /* a device with larger blocks than ours */
    op->step++;
    break;
  case 0:
    file_advance(op, call->length);
    break;
  default:
    file_moved(f, op, (int)rc);
    return;
  }
  file_move_on(f, op);
}

bool file_clear(struct file *f, struct store_op *op)
{
  static const int ways[][CLEARS] = {
    [STORE_DISCARD] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
    [STORE_ZERO] = { FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
  };
  uint64_t length = clearable(f, op);
  struct aio_call *c = &op->call;

  if (!length)
    return false;
  c->verb = AIO_ALLOCATE;
  c->fd = f->fd;
  c->flags = ways[op->verb][op->step];
  c->at = op->at;
  c->length = length;
  c->ended = cleared;
  aio_start(&f->lane, c);
  return true;
}
