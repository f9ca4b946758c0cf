/* store_direct.c - what differs for a file with O_DIRECT.
 *
 * Every byte goes past the page cache, so there are no two copies that could
 * disagree.  What is not aligned as the device wants it goes by way of memory
 * that is: a READ takes the units around it, a change reads the units at its
 * edges, and writes them back with what is new.  Such a change runs alone,
 * else it could write back what a neighbour has just replaced.
 */
#include "store_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
  BOUNCE = 1 << 18,             /* bytes at a time */
  CLEAR_UNIT = 4096,            /* fallocate() zeroes less in the page cache */
};

static bool moves(const struct store_op *op)
{
  return op->verb == STORE_READ || op->verb == STORE_WRITE;
}

static bool edges_within(const struct store_op *op, uint32_t unit)
{
  return (op->at | op->left) & (unit - 1);
}

bool direct_misaligned(const struct file *f, const struct store_op *op)
{
  if (edges_within(op, f->align))
    return true;
  if (moves(op))
    for (int i = 0; i < op->iov_left; i++)
      if (((uintptr_t)op->iov_now[i].iov_base & (f->align_memory - 1)) ||
          (op->iov_now[i].iov_len & (f->align - 1)))
        return true;
  return false;
}

/* --- who may run at the same time --------------------------------------- */

static void open_gate(struct file *f)
{
  struct store_op *op;

  while (!f->alone && (op = STAILQ_FIRST(&f->gate)) &&
         !(op->alone && f->entered)) {
    STAILQ_REMOVE_HEAD(&f->gate, link);
    f->entered++;
    f->alone = op->alone;
    file_move_on(f, op);
  }
}

void direct_leave(struct file *f)
{
  f->entered--;
  f->alone = false;
  open_gate(f);
}

/* --- by way of aligned memory ------------------------------------------- */

static int make_bounce(const struct file *f, struct store_op *op)
{
  size_t unit = f->align > f->align_memory ? f->align : f->align_memory;

  return op->bounce ? 0 : -posix_memalign(&op->bounce, unit, BOUNCE);
}

int direct_submit(struct file *f, struct store_op *op)
{
  uint32_t unit = f->align;
  int rc;

  if (moves(op) && direct_misaligned(f, op)) {
    rc = make_bounce(f, op);    /* later would be too late to say no */
    if (rc)
      return rc;
  }
  if (!moves(op) && unit < CLEAR_UNIT)
    unit = CLEAR_UNIT;
  op->alone = op->verb != STORE_READ && edges_within(op, unit);
  STAILQ_INSERT_TAIL(&f->gate, op, link);
  open_gate(f);
  return STORE_PENDING;
}

/* Copies between what is left of an operation and its part of the window. */
static void copy(const struct store_op *op, size_t skip, size_t n)
{
  unsigned char *at = (unsigned char *)op->bounce + skip;

  if (!moves(op))
    memset(at, 0, n);
  for (int i = 0; moves(op) && n; i++) {
    const struct iovec *v = &op->iov_now[i];
    size_t part = v->iov_len < n ? v->iov_len : n;

    if (op->verb == STORE_READ)
      memcpy(v->iov_base, at, part);
    else
      memcpy(at, v->iov_base, part);
    at += part;
    n -= part;
  }
}

/* The part of the operation that lies in the first `length` bytes of the
 * window. */
static size_t part(const struct file *f, const struct store_op *op,
                   size_t length, size_t *skip)
{
  *skip = op->at & (f->align - 1);
  if (length <= *skip)
    return 0;
  return length - *skip < op->left ? length - *skip : (size_t)op->left;
}

static void call(struct file *f, struct store_op *op, enum aio_verb verb,
                 void (*ended)(struct aio_call *call, ssize_t rc))
{
  struct aio_call *c = &op->call;

  c->verb = verb;
  c->fd = f->data;
  c->flags = 0;
  c->iov = &op->window;
  c->iov_cnt = 1;
  c->at = op->at - (op->at & (f->align - 1));
  c->ended = ended;
  aio_start(&f->lane, c);
}

static void written(struct aio_call *c, ssize_t rc)
{
  struct store_op *op = file_op(c);
  struct file *f = (struct file *)op->store;
  size_t skip, n;

  n = rc < 0 ? 0 : part(f, op, (size_t)rc - (size_t)rc % f->align, &skip);
  if (!n) {
    file_moved(f, op, rc < 0 ? (int)rc : -EIO);
    return;
  }
  file_advance(op, n);
  file_move_on(f, op);
}

static void write_window(struct file *f, struct store_op *op)
{
  size_t skip, n = part(f, op, op->window.iov_len, &skip);

  copy(op, skip, n);
  call(f, op, AIO_WRITE, written);
}

static void read_window(struct aio_call *c, ssize_t rc)
{
  struct store_op *op = file_op(c);
  struct file *f = (struct file *)op->store;
  size_t skip, n;

  n = rc < 0 || file_lapsed(c) ? 0 : part(f, op, (size_t)rc, &skip);
  if (!n || (op->verb != STORE_READ && (size_t)rc != op->window.iov_len)) {
    file_moved(f, op, rc < 0 ? (int)rc : -EIO);
    return;
  }
  if (op->verb != STORE_READ) {
    write_window(f, op);
    return;
  }
  copy(op, skip, n);
  file_advance(op, n);
  file_move_on(f, op);
}

void direct_bounce(struct file *f, struct store_op *op)
{
  uint64_t start = op->at - (op->at & (f->align - 1));
  uint64_t length = op->at + op->left - start;
  bool whole;
  int rc = make_bounce(f, op);

  if (length > BOUNCE)
    length = BOUNCE;
  whole = start == op->at && !(length & (f->align - 1));
  if (!rc && op->verb != STORE_READ && !whole && !op->alone)
    rc = -EIO;                  /* a write that ended inside a unit */
  if (rc) {
    file_moved(f, op, rc);
    return;
  }
  length = (length + f->align - 1) & ~(uint64_t)(f->align - 1);
  op->window = (struct iovec){ op->bounce, (size_t)length };
  op->dsync = false;
  if (op->verb == STORE_READ || !whole)
    call(f, op, AIO_READ, read_window);
  else
    write_window(f, op);
}
