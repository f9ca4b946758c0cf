/* store.c - the front door of every store.
 *
 * What must hold for any operation is checked here once, so implementations
 * get ranges that lie inside the store, iovecs that add up, and no change on
 * a store that is read-only.
 */
#include "store.h"

#include <errno.h>

static bool changes(const struct store_op *op)
{
  return op->verb != STORE_READ && op->verb != STORE_FLUSH;
}

/* Sets the progress of a READ or WRITE to its beginning. */
static int begin(struct store_op *op)
{
  uint64_t left = op->length;

  for (int i = 0; i < op->iov_cnt; i++) {
    if (op->iov[i].iov_len > left)
      return -EINVAL;
    left -= op->iov[i].iov_len;
  }
  if (left)
    return -EINVAL;

  op->iov_now = op->iov;
  op->iov_left = op->iov_cnt;
  store_advance(op, 0);
  return 0;
}

int store_submit(struct store *s, struct store_op *op)
{
  int rc;

  op->store = s;
  op->at = op->offset;
  op->left = op->length;

  if ((unsigned)op->verb >= STORE_VERBS)
    return -EINVAL;
  if (s->read_only && changes(op))
    return -EROFS;
  if (op->verb != STORE_FLUSH) {
    if (op->offset > s->size || op->length > s->size - op->offset)
      return -ENXIO;
    if (op->verb == STORE_READ || op->verb == STORE_WRITE) {
      rc = begin(op);
      if (rc)
        return rc;
    }
    if (!op->length)
      return 0;
  }

  rc = s->type->submit(s, op);
  if (rc == STORE_PENDING)
    s->in_flight++;
  return rc;
}

void store_end(struct store_op *op, int rc)
{
  op->store->in_flight--;
  op->done(op, rc);             /* may close the store */
}

void store_info(struct store *s, struct store_info *out)
{
  *out = (struct store_info){ .size = s->size, .read_only = s->read_only };
  s->type->info(s, out);
}

bool store_mapped(struct store *s, uint64_t offset, uint64_t *length)
{
  bool mapped = true;

  *length = offset < s->size ? s->size - offset : 0;
  if (*length && s->type->mapped) {
    mapped = s->type->mapped(s, offset, length);
    if (*length > s->size - offset)
      *length = s->size - offset;
  }
  return mapped;
}

int store_resize(struct store *s, uint64_t size)
{
  int rc = 0;

  if (s->type->resize)
    rc = s->type->resize(s, size);
  if (!rc)
    s->size = size;
  return rc;
}

void store_close(struct store *s)
{
  if (s)
    s->type->close(s);
}
