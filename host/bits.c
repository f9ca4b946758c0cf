/* bits.c - a set of numbers from which the lowest free one is taken. */
#include "bits.h"

#include <errno.h>
#include <stdlib.h>

int bits_init(struct bits *b, uint32_t count)
{
  *b = (struct bits) { .count = count, .left = count };
  b->words = calloc((size_t)count / 64 + 1, sizeof(*b->words));
  return b->words ? 0 : -ENOMEM;
}

void bits_free(struct bits *b)
{
  free(b->words);
  b->words = NULL;
}

uint32_t bits_take(struct bits *b)
{
  uint32_t bit;

  while (b->words[b->hint] == UINT64_MAX)
    b->hint++;
  bit = (uint32_t)__builtin_ctzll(~b->words[b->hint]);
  b->words[b->hint] |= UINT64_C(1) << bit;
  b->left--;
  return b->hint * 64 + bit;
}

void bits_give(struct bits *b, uint32_t n)
{
  b->words[n / 64] &= ~(UINT64_C(1) << (n & 63));
  b->left++;
  if (n / 64 < b->hint)
    b->hint = n / 64;
}
