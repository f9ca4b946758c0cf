/* copy_ahead.h - memcpy() that fetches what may be copied next.
 *
 * The blocks of a large disk are not in the processor's cache, and who copies
 * them waits for memory most of the time.  Here a line of the next blocks is
 * asked for with each line that is copied, so that both go on side by side.
 * Asked for all at once they would only be in the way of the copy.
 */
#ifndef COPY_AHEAD_H
#define COPY_AHEAD_H

#include <stddef.h>
#include <string.h>

enum {
  AHEAD_LINE = 64,              /* bytes; of the processor's cache */
  AHEAD_MAX = 1 << 12,          /* bytes; the processor fetches the rest by
                                   itself, once they are read in order */
};

/* A guess, for the next copy; without bytes there is none. */
struct ahead {
  const char *at;
  size_t n;                     /* bytes that are there */
};

/* A quarter of a line, at any address. */
typedef long long ahead_part __attribute__((vector_size(16), aligned(1),
                                            may_alias));

/* Copies `n` bytes, which do not overlap, and fetches as many of the next: the
 * guess is that they are as long. */
static inline void copy_ahead(void *to, const void *from, size_t n,
                              struct ahead *next)
{
  size_t lines = (n < next->n ? n : next->n) / AHEAD_LINE, early;
  const ahead_part *f = from;
  const char *at = next->at;
  ahead_part *t = to;

  next->n = 0;
  early = lines * AHEAD_LINE;
  for (; lines; lines--, f += 4, t += 4, at += AHEAD_LINE) {
    ahead_part a, b, c, d;

    __builtin_prefetch(at);
    a = f[0];
    b = f[1];
    c = f[2];
    d = f[3];
    t[0] = a;
    t[1] = b;
    t[2] = c;
    t[3] = d;
  }
  if (early < n)
    memcpy(t, f, n - early);
}

#endif
