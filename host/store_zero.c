/* store_zero.c - a store that reads as zeroes and forgets what is written.
 *
 * The least a store can be: good for measuring everything around it, and a
 * device of any size that costs nothing.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int submit(struct store *s, struct store_op *op)
{
  (void)s;
  if (op->verb == STORE_READ)
    for (int i = 0; i < op->iov_left; i++)
      memset(op->iov_now[i].iov_base, 0, op->iov_now[i].iov_len);
  return 0;
}

static void info(struct store *s, struct store_info *out)
{
  (void)s;
  out->discards = true;
}

static bool mapped(struct store *s, uint64_t offset, uint64_t *length)
{
  (void)s;
  (void)offset;
  (void)length;
  return false;
}

static void close_store(struct store *s)
{
  free(s);
}

static const struct store_type type = {
  .name = "zero",
  .submit = submit,
  .info = info,
  .mapped = mapped,
  .close = close_store,
};

int store_zero_open(uv_loop_t *loop, uint64_t size, struct store **out)
{
  struct store *s = calloc(1, sizeof(*s));

  *out = s;
  if (!s)
    return -ENOMEM;
  *s = (struct store){ .type = &type, .loop = loop, .size = size };
  return 0;
}
