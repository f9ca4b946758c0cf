/* bits.h - a set of numbers from which the lowest free one is taken.
 *
 * The kernel hands out command ids and data blocks in this way, so sim.c must
 * too.  A full word is never looked at twice between two gives.
 */
#ifndef BITS_H
#define BITS_H

#include <stdint.h>

struct bits {
  uint64_t *words;              /* a set bit: taken */
  uint32_t count;               /* numbers 0 to count - 1 */
  uint32_t left;                /* free ones */
  uint32_t hint;                /* no word before this one has a free bit */
};

/* Returns 0 or -ENOMEM; all numbers are free. */
int bits_init(struct bits *b, uint32_t count);
void bits_free(struct bits *b);

/* Takes the lowest free number; only while `left` is not 0. */
uint32_t bits_take(struct bits *b);

void bits_give(struct bits *b, uint32_t n);

#endif
