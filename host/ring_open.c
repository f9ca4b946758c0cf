/* ring_open.c - a consumer's beginning, growth and end: what is no hurry.
 *
 * The mailbox is checked here once; what arrives later is checked in ring.c.
 */
#include "ring_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAKEN_AT_FIRST = 64, OWNERS_AT_FIRST = 64 };     /* powers of two */

void ring_set_broken(struct ring *r, const char *fmt, ...)
{
  va_list args;

  if (r->broken)
    return;
  r->broken = true;
  r->edge = r->cursor;
  va_start(args, fmt);
  vsnprintf(r->why, sizeof(r->why), fmt, args);
  va_end(args);
}

int ring_new(void *map, size_t len, char *why, size_t why_len,
             struct ring **out)
{
  struct abi_mailbox *mb = map;
  uint32_t off, size, tail;
  unsigned version;
  struct ring *r;

  *out = NULL;
  if (len < sizeof(*mb)) {
    snprintf(why, why_len, "a mapping of %zu bytes holds no TCMU mailbox", len);
    return -EPROTO;
  }

  version = peek(mb->version);
  if (version != RING_VERSION) {
    snprintf(why, why_len, "the kernel's ring has version %u and this program "
             "speaks version %d only; use a tcmu-lua made for this kernel",
             version, RING_VERSION);
    return -EPROTO;
  }

  off = peek(mb->cmdr_off);
  size = peek(mb->cmdr_size);
  if (off < sizeof(*mb) || off % ABI_ALIGN || size < sizeof(struct abi_cmd) ||
      size % ABI_ALIGN || (uint64_t)off + size > len) {
    snprintf(why, why_len, "the mailbox places a ring of %u bytes at %u, which "
             "does not fit the mapping of %zu bytes", size, off, len);
    return -EPROTO;
  }
  tail = peek(mb->cmd_tail);
  if (tail >= size || tail % ABI_ALIGN) {
    snprintf(why, why_len, "cmd_tail %u lies outside the ring of %u bytes; "
             "write 1 to the device's action/reset_ring", tail, size);
    return -EPROTO;
  }

  r = calloc(1, sizeof(*r));
  if (!r)
    goto no_memory;
  r->mb = mb;
  r->len = len;
  r->cmdr = (unsigned char *)map + off;
  r->size = size;
  r->ring_off = off;
  r->data_off = (uint64_t)off + size;
  r->caps = peek(mb->flags);
  r->head = r->cursor = r->edge = tail;
  ring_set_published(r, tail);
  r->mask = TAKEN_AT_FIRST - 1;
  r->taken = malloc(TAKEN_AT_FIRST * sizeof(*r->taken));
  r->ids = OWNERS_AT_FIRST;
  r->owners = calloc(r->ids, sizeof(*r->owners));
  if (!r->taken || !r->owners)
    goto no_memory;
  r->owners[0] = RING_NOBODY;
  *out = r;
  return 0;

no_memory:
  ring_free(r);
  snprintf(why, why_len, "there is no memory for a ring");
  return -ENOMEM;
}

void ring_free(struct ring *r)
{
  if (!r)
    return;
  free(r->taken);
  free(r->owners);
  free(r);
}

/* Doubles the queue; tokens keep their meaning. */
bool ring_grow_taken(struct ring *r)
{
  uint32_t mask = r->mask * 2 + 1, t;
  uint32_t *bigger = malloc((mask + 1ul) * sizeof(*bigger));

  if (!bigger)
    return false;
  for (t = r->first; t != r->next; t++)
    bigger[t & mask] = *ring_slot(r, t);
  free(r->taken);
  r->taken = bigger;
  r->mask = mask;
  return true;
}

bool ring_grow_owners(struct ring *r, uint16_t id)
{
  uint32_t ids = r->ids;
  uint64_t *bigger;

  while (ids <= id)
    ids *= 2;
  bigger = realloc(r->owners, ids * sizeof(*bigger));
  if (!bigger)
    return false;
  memset(bigger + r->ids, 0, (ids - r->ids) * sizeof(*bigger));
  r->owners = bigger;
  r->ids = ids;
  return true;
}

const char *ring_why(const struct ring *r)
{
  return r->why;
}
