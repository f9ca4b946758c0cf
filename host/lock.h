/* lock.h - range locks of one device, first come first served.
 *
 * Two locks of different owners that overlap are never held together; the
 * later one waits, also behind an earlier one that is itself still waiting,
 * so nobody starves.  Locks of one owner never wait for each other, and an
 * owner who asks for more goes before those who already wait for what he
 * holds, or for one who does: waiting behind them would be waiting for himself.
 * Two owners who wait for each other are not found out.  Intrusive and
 * allocation-free; one thread; every call takes time in proportion to the locks
 * outstanding, but for an owner who asks for more.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>
#include <stdint.h>

enum lock_state { LOCK_NONE, LOCK_WAITING, LOCK_GRANTED, LOCK_HELD };

struct range_lock {
  uint64_t offset, length;      /* bytes; the caller sets the first four */
  const void *owner;            /* not NULL */
  void (*granted)(struct range_lock *l);        /* a waiting lock is held now */
  void *arg;                    /* the caller's */
  bool harmless;                /* its owner changes nothing: breaks no watch */

  struct range_lock *prev, *next;       /* private; zero at first */
  enum lock_state state;
  unsigned blockers;            /* earlier locks in the way */
  bool behind;                  /* one who asked for more; see lock.c */
};

/* Knows whether its range may have changed since it was set: it is broken by
 * whoever asks for a lock there, but for its own owner. */
struct lock_watch {
  uint64_t offset, length;      /* bytes; the caller sets the first three */
  const void *owner;            /* NULL: none */
  bool broken;
  struct lock_watch *next, **prev;      /* private; prev NULL: not set */
};

/* All zero at first. */
struct lock_table {
  struct lock_list { struct range_lock *first, *last; } in[LOCK_HELD + 1];
  bool telling;
  struct lock_watch *watches;
};

/* Asks for the lock.  True: held at once.  False: it waits, and `granted` is
 * called from a later lock_release() of another lock.  A lock of no length is
 * in nobody's way. */
bool lock_acquire(struct lock_table *t, struct range_lock *l);

/* Gives a held lock back or takes a waiting one out of the queue; harmless on
 * one that is neither.  Calls `granted` of those whose turn it is, which may
 * acquire and release any lock of the table; what they release is passed on by
 * the outermost call before it returns.  The table must outlive the call; the
 * lock itself is free as soon as it is given back. */
void lock_release(struct lock_table *t, struct range_lock *l);

/* Sets a watch, or takes one away; harmless on one that is not set. */
void lock_watch(struct lock_table *t, struct lock_watch *w);
void lock_unwatch(struct lock_watch *w);

/* Nobody holds a lock, waits for one or watches: whoever lets go before anybody
 * else can ask needs none. */
static inline bool lock_table_empty(const struct lock_table *t)
{
  return !t->in[LOCK_HELD].first && !t->in[LOCK_GRANTED].first &&
         !t->in[LOCK_WAITING].first && !t->watches;
}

/* Asked for and not yet granted, as far as its owner knows. */
static inline bool lock_waits(const struct range_lock *l)
{
  return l->state == LOCK_WAITING || l->state == LOCK_GRANTED;
}

#endif
