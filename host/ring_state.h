/* ring_state.h - the state of a consumer, for ring*.c and ring_short.h.
 *
 * What the kernel wrote is read once, checked, and kept in private memory:
 * where an entry starts, how long it is and whose it is never comes from the
 * shared pages again.  So whatever is scribbled over them afterwards can
 * spoil answers, not this program.
 *
 *   taken:   a queue of the commands between cmd_tail and the cursor.  What
 *            needs no answer and follows one is released along with it: the
 *            tail is where the oldest in the queue starts.
 *   owners:  by cmd_id, which command has it now.
 *
 * A reset of the ring makes cmd_tail 0, then cmd_head, and touches nothing
 * else.  The tail is ours alone: where it was not 0 it tells.  Where it was,
 * the head does, which only moves on and cannot wrap as long; and if it has got
 * back to where it was, so does the entry at 0, which is another one then:
 * whatever was passed bears ABI_PASSED.
 */
#ifndef RING_STATE_H
#define RING_STATE_H

#include "abi.h"
#include "ring.h"

enum {
  /* In a place of `taken`, whose low bits are free: answered, behind one that
   * is not. */
  RING_DONE = 1,
};

/* Together with a token the owner of an id that is out, taken and not
 * answered.  Tokens have 32 bits, so 0 owns nothing, and this alone is an
 * owner that no token is. */
#define RING_OUT ((uint64_t)1 << 32)
#define RING_NOBODY UINT64_MAX

struct ring {
  struct abi_mailbox *mb;
  unsigned char *cmdr;
  uint32_t size;                /* of the ring */
  uint32_t head;                /* cmd_head when last looked at */
  uint32_t cursor;              /* next entry to be taken */
  uint32_t edge;                /* up to here entries may be taken: `head`, or
                                   the ring's end before it; where the ring is
                                   broken nothing may, and it is `cursor` */
  uint32_t published;           /* cmd_tail as we know it */
  uint32_t sure;                /* a cmd_tail that tells by itself that nobody
                                   has reset the ring; see ring_stands() */
  unsigned caps;
  bool broken;
  bool stuck;                   /* by the entry at the cursor: it is marked */

  uint32_t *taken;              /* offsets in the ring, by token & mask */
  uint32_t mask;
  uint32_t first, next;         /* tokens: oldest in the queue, next given */
  uint64_t *owners;             /* that of id 0 is RING_NOBODY */
  uint32_t ids;

  size_t len;                   /* of the mapping */
  uint64_t ring_off, data_off;  /* in the mapping */
  char why[160];
};

/* One load, whatever the compiler would like better. */
#define peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

static inline void ring_set_published(struct ring *r, uint32_t tail)
{
  r->published = tail;
  r->sure = tail ? tail : UINT32_MAX;   /* which no tail is */
}

/* False: somebody has reset the ring. */
bool ring_stands(const struct ring *r) __attribute__((cold));

static inline struct abi_cmd *ring_at(const struct ring *r, uint32_t offset)
{
  return (struct abi_cmd *)(r->cmdr + offset);
}

static inline uint32_t *ring_slot(const struct ring *r, uint32_t token)
{
  return &r->taken[token & r->mask];
}

/* Moves the cursor past an entry; `len` was checked against `edge`. */
static inline void ring_pass(struct ring *r, uint32_t len)
{
  r->cursor += len;
  if (r->cursor == r->size) {
    r->cursor = 0;
    r->edge = r->head;
  }
}

/* The first cause is the one to tell: later ones change nothing. */
void ring_set_broken(struct ring *r, const char *fmt, ...)
  __attribute__((cold, format(printf, 2, 3)));

/* The first half of ring_next(): a command that it finds is not taken yet. */
enum ring_event ring_find(struct ring *r, union ring_entry *out);

/* Where answers keep the order of the ring: releases `token` with those that
 * wait behind it, once nothing is before it. */
void ring_release_in_order(struct ring *r, uint32_t token);

/* Room for one more command, or for this id; false: there is no memory. */
bool ring_grow_taken(struct ring *r);
bool ring_grow_owners(struct ring *r, uint16_t id);

#endif
