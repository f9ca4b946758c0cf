/* place.h - keeps a shard that sleeps between commands where it is.
 *
 * Where one command comes at a time, the scheduler finds the processor of the
 * last one busy each time that it wakes somebody, and so has initiator and shard
 * change places with every command: each time an idle processor must be woken,
 * and caches are cold.  A thread that is bound to its processor spares that:
 * twice the commands on virtual processors.  Where several come together it
 * would be in their way.
 *
 *   free --one at a time, for a while--> bound --it is faster--+
 *    ^                                   |   ^                 |
 *    +-- it is not, or several come -----+   +-----------------+
 *
 * Threads and processes inherit what their maker is bound to: it leaves before
 * it makes any, see place_widen() and place_bar().
 */
#ifndef PLACE_H
#define PLACE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

struct timers;

struct place {
  const struct timers *clock;   /* NULL: it may not be bound */
  bool bound;                   /* it is, to one processor */
  unsigned alone;               /* wake-ups since, each for one command */
  unsigned patience;            /* of them before it is tried (again) */
  uint64_t woken;               /* ns; the last of them */
  uint64_t began, served;       /* ns, commands; where a batch began */
  uint64_t least;               /* ns for BATCH commands, in this round */
  uint64_t before;              /* the least while it was free */
  cpu_set_t all, one;           /* where it may run; where it is bound to */
};

/* On zeroed memory, which is a place that never binds. */
void place_enable(struct place *p, const struct timers *clock);

/* The shard's thread, which is the caller, was woken for so many commands
 * together, one at least, and has served so many in its life. */
void place_woken(struct place *p, int together, uint64_t served);

/* It has no need to stay, or not any more. */
void place_leave(struct place *p);

/* It is bound, and was not woken for so long that whatever it does now is not
 * what was measured. */
bool place_is_stale(const struct place *p);

/* It leaves for good, since handlers may start processes from now on. */
void place_bar(struct place *p);

/* The calling thread leaves, if it is bound: it is about to do what may make
 * threads. */
void place_widen(void);

#endif
