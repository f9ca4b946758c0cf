/* ring_answer.c - answers commands and tells the kernel; see ring.h. */
#include "ring_short.h"

enum { CHECK_CONDITION = 0x02 };

static void put_sense(struct abi_cmd *e, const struct ring_result *res)
{
  size_t n = res->sense ? res->sense_len : 0;

  if (n > RING_SENSE_MAX)
    n = RING_SENSE_MAX;
  if (n)
    memcpy(e->rsp.sense, res->sense, n);
  memset(e->rsp.sense + n, 0, RING_SENSE_MAX - n);
}

void ring_release_in_order(struct ring *r, uint32_t token)
{
  *ring_slot(r, token) |= RING_DONE;
  while (r->first != r->next && *ring_slot(r, r->first) & RING_DONE)
    r->first++;
}

void ring_complete(struct ring *r, uint32_t token, uint16_t id,
                   const struct ring_result *res)
{
  bool partly = res->has_read_len && r->caps & RING_CAP_READ_LEN;
  struct abi_cmd *e = ring_finish(r, token, id);

  if (!e)
    return;
  e->head.cmd_id = id;
  e->head.uflags = ABI_PASSED | (partly ? ABI_READ_LEN : 0);
  e->rsp.status = res->status;
  e->rsp.read_len = partly ? res->read_len : 0;
  if (res->status == CHECK_CONDITION)           /* the kernel takes it all */
    put_sense(e, res);
}

bool ring_publish(struct ring *r)
{
  uint32_t expected = r->published;
  uint32_t tail = r->first == r->next ? r->cursor : *ring_slot(r, r->first);

  if (tail == expected || (!expected && !ring_stands(r)))
    return false;
  /* Exchanged, not stored: a reset in between must not be undone. */
  if (!__atomic_compare_exchange_n(&r->mb->cmd_tail, &expected, tail, false,
                                   __ATOMIC_RELEASE, __ATOMIC_RELAXED))
    return false;
  ring_set_published(r, tail);
  return true;
}
