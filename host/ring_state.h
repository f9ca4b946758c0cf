/* ring_state.h - what ring.c and ring_open.c share: the state of a consumer.
 *
 * What the kernel wrote is read once, checked, and kept in private memory:
 * where an entry starts, how long it is and whose it is never comes from the
 * shared pages again.  So whatever is scribbled over them afterwards can
 * spoil answers, not this program.
 *
 *   taken:   a queue of the commands between cmd_tail and the cursor, each
 *            with the number of bytes that are released with it (entries that
 *            need no answer and follow it are released along).
 *   owners:  by cmd_id, which command has it now.
 */
#ifndef RING_STATE_H
#define RING_STATE_H

#include "abi.h"
#include "ring.h"

struct taken {
  uint32_t offset;              /* in the ring */
  uint32_t release;             /* bytes */
  bool done;                    /* answered, behind one that is not */
};

struct owner {
  uint32_t token;
  bool out;                     /* taken and not answered */
};

struct ring {
  struct abi_mailbox *mb;
  unsigned char *cmdr;
  uint32_t size;                /* of the ring */
  uint32_t head;                /* cmd_head when last looked at */
  uint32_t cursor;              /* next entry to be taken */
  uint32_t tail;                /* everything before it is finished */
  uint32_t published;           /* cmd_tail as we know it */
  unsigned caps;
  bool broken;
  bool stuck;                   /* ... by the entry at the cursor; it is marked */

  struct taken *taken;          /* by token & mask */
  uint32_t mask;
  uint32_t first, next;         /* tokens: oldest in the queue, next given */
  struct owner *owners;
  uint32_t ids;

  size_t len;                   /* of the mapping */
  uint64_t ring_off, data_off;  /* in the mapping */
  char why[160];
};

/* One load, whatever the compiler would like better. */
#define peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

static inline struct taken *ring_slot(const struct ring *r, uint32_t token)
{
  return &r->taken[token & r->mask];
}

/* The first cause is the one to tell: later ones change nothing. */
void ring_set_broken(struct ring *r, const char *fmt, ...)
  __attribute__((cold, format(printf, 2, 3)));

/* Room for one more command, or for this id; false: there is no memory. */
bool ring_grow_taken(struct ring *r);
bool ring_grow_owners(struct ring *r, uint16_t id);

#endif
