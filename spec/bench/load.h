/* load.h - commands for a kernel.h, and the loops that keep `depth` of them
 * out: in the consumer's own thread, which says what the work costs, or in one
 * beside it, which adds what waking up costs.
 */
#ifndef LOAD_H
#define LOAD_H

#include "kernel.h"

enum load_op {
  LOAD_TEST_UNIT_READY,         /* the no-op */
  LOAD_READ,
  LOAD_READ_WRITE,              /* one or the other at random */
  LOAD_FILL,                    /* WRITE, one place after the other */
};

struct load {
  enum load_op op;
  uint32_t depth;
  uint64_t count;               /* commands, `depth` at least */
  uint32_t length;              /* bytes of a READ or WRITE */
  uint64_t span;                /* bytes of the device that are used */
  uint64_t seed;                /* of the sequence of addresses, not 0 */
  bool spin;                    /* load_beside(): never sleep */
  bool silent;                  /* the consumer looks at the ring by itself */
};

struct load_result {
  uint64_t ns;                  /* by the clock */
  uint64_t cpu_ns;              /* of the processors, by the whole process: on
                                   one processor the same, but for what others
                                   take from it */
  uint64_t commands;
  uint64_t turns;               /* how often the consumer was called */
  uint64_t writes;              /* write() calls that it made */
};

uint64_t load_now(void);        /* ns, monotonic */
uint64_t load_cpu(void);        /* ns that this process has used */

/* Puts one more command; false: no room. */
bool load_put(struct kernel *k, struct load *l);

/* Plays kernel and, by calling `turn`, consumer.  `turn` may wait: it is called
 * after an event was sent.  Returns 0, or -EIO if an answer was not GOOD. */
int load_alone(struct kernel *k, const struct load *l,
               void (*turn)(void *arg), void *arg, struct load_result *out);

/* Plays the kernel for a consumer that runs elsewhere. */
int load_beside(struct kernel *k, const struct load *l,
                struct load_result *out);

#endif
