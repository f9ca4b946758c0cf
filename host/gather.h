/* gather.h - lets commands come together where a shard that sleeps has many.
 *
 * An initiator with a deep queue sends its commands one after the other.  Where
 * the shard serves each at once and falls asleep again, the initiator has to
 * wake it for each, and is interrupted by each answer before it can send the
 * next; it is busy with little else, and the queue never fills.  So when it has
 * served commands the shard stays away for as long as a wake-up takes: what
 * comes meanwhile wakes nobody, and is served and told together.
 *
 * Where few come the initiator may be waiting for answers.  So it is tried now
 * and then, and goes on only while it brings enough at a time.
 */
#ifndef GATHER_H
#define GATHER_H

#include <stdbool.h>
#include <stdint.h>

struct gather {
  uint64_t time;                /* ns to stay away for.  0: never */
  uint64_t served;              /* commands, when it was last decided */
  bool away;                    /* it has been, since */
  int credit;                   /* what it has brought lately; above 0 it goes
                                   on */
  unsigned turns, patience;     /* since it was given up, until the next try */
};

/* On zeroed memory, which is one that never stays away.  `cost`: ns; of a
 * wake-up.  0 leaves it so. */
void gather_enable(struct gather *g, uint64_t cost);

/* Before the loop sleeps, where there is a time: stays away if that may bring
 * more.  True: it did, and what has come is to be served.  `served`: commands in
 * the shard's life.  `light`: those since the last call are all answered, and
 * were little work next to a wake-up.  `several`: they have come more than one
 * at a time lately. */
bool gather_more(struct gather *g, uint64_t served, bool light, bool several);

#endif
