/* gather.h - lets commands come together where a shard that sleeps has many.
 *
 * An initiator with a deep queue sends its commands one after the other.  From a
 * shard that serves each at once and falls asleep again it has a wake-up and an
 * answer to pay for every single one; it is busy with little else, and the queue
 * never fills.  So after a turn with commands the shard stays away for as long
 * as a wake-up takes: what comes meanwhile wakes nobody, and is served and told
 * together.
 *
 * Where few come the initiator may be waiting for answers.  So it is tried now
 * and then, and goes on only while it brings several at a time.
 */
#ifndef GATHER_H
#define GATHER_H

#include <stdbool.h>
#include <stdint.h>

struct gather {
  uint64_t cost;                /* ns; of a wake-up.  0: never */
  uint64_t served;              /* commands, when it last stayed away */
  bool away;                    /* it has, before this turn */
  bool sharp;                   /* so has the thread's clock been made */
  int credit;                   /* what it has brought lately; above 0 it goes
                                   on */
  unsigned turns, patience;     /* since it was given up, until the next try */
};

/* On zeroed memory, which is one that never stays away. */
void gather_enable(struct gather *g, uint64_t cost);

/* Before the loop sleeps, after a turn that events have brought commands for,
 * little work next to a wake-up, and that has answered all of them; `served`
 * commands in the shard's life.  Returns when what may have come is to be
 * served.  `several`: they have come more than one at a time lately. */
void gather_more(struct gather *g, uint64_t served, bool several);

#endif
