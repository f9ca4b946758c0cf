/* load.c - see load.h. */
#include "load.h"

#include <errno.h>
#include <time.h>

enum {
  BLOCK = 512,
  HEAR_EVERY = 64, HEAR_ALL = 1000000,
};

static uint64_t read_clock(clockid_t clock)
{
  struct timespec t;

  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t load_now(void)
{
  return read_clock(CLOCK_MONOTONIC);
}

uint64_t load_cpu(void)
{
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* xorshift64 */
static uint64_t next(uint64_t *seed)
{
  uint64_t x = *seed;

  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *seed = x;
}

/* READ(10) or WRITE(10) of a place that is a multiple of the length. */
static bool put_transfer(struct kernel *k, struct load *l)
{
  uint64_t x = l->op == LOAD_FILL ? (l->seed++ << 1) | 1 : next(&l->seed);
  uint32_t blocks = l->length / BLOCK;
  uint32_t lba = (uint32_t)((x >> 1) % (l->span / l->length)) * blocks;
  bool write = l->op != LOAD_READ && (x & 1);
  unsigned char cdb[10] = {
    [0] = write ? 0x2a : 0x28,
    [2] = (unsigned char)(lba >> 24), [3] = (unsigned char)(lba >> 16),
    [4] = (unsigned char)(lba >> 8), [5] = (unsigned char)lba,
    [7] = (unsigned char)(blocks >> 8), [8] = (unsigned char)blocks,
  };

  return kernel_put(k, cdb, sizeof(cdb), l->length);
}

bool load_put(struct kernel *k, struct load *l)
{
  static const unsigned char tur[6] = { 0x00 };

  switch (l->op) {
  case LOAD_TEST_UNIT_READY:
    return kernel_put(k, tur, sizeof(tur), 0);
  case LOAD_READ:
  case LOAD_READ_WRITE:
  case LOAD_FILL:
    return put_transfer(k, l);
  }
  return false;
}

/* Up to `depth` out, `count` in all; returns how many were put. */
static uint32_t fill(struct kernel *k, struct load *l, uint64_t *put)
{
  uint32_t n = 0;

  while (*put < l->count && k->ids - k->idle < l->depth && load_put(k, l)) {
    ++*put;
    n++;
  }
  return n;
}

/* From the values at the start, which `out` holds, to what it took. */
static int finish(struct kernel *k, uint64_t failed, struct load_result *out)
{
  out->ns = load_now() - out->ns;
  out->cpu_ns = load_cpu() - out->cpu_ns;
  kernel_hear(k, HEAR_ALL);
  out->writes = k->writes - out->writes;
  return k->broken || k->failed != failed ? -EIO : 0;
}

static void start(const struct kernel *k, const struct load *l,
                  struct load_result *out)
{
  *out = (struct load_result) {
    .commands = l->count, .writes = k->writes, .cpu_ns = load_cpu(),
    .ns = load_now(),
  };
}

int load_alone(struct kernel *k, const struct load *load,
               void (*turn)(void *arg), void *arg, struct load_result *out)
{
  uint64_t put = 0, failed = k->failed;
  struct load l = *load;

  start(k, &l, out);
  for (;;) {
    if (fill(k, &l, &put) && !l.silent)
      kernel_kick(k, false);
    turn(arg);
    out->turns++;
    /* One write() is due; should there be more, they can wait a little. */
    kernel_reap(k);
    kernel_hear(k, out->turns % HEAR_EVERY ? 1 : HEAR_ALL);
    if ((put == l.count && k->idle == k->ids) || k->broken)
      return finish(k, failed, out);
  }
}

int load_beside(struct kernel *k, const struct load *load,
                struct load_result *out)
{
  uint64_t put = 0, failed = k->failed;
  struct load l = *load;

  start(k, &l, out);
  for (;;) {
    if (fill(k, &l, &put))
      kernel_kick(k, true);
    if ((put == l.count && k->idle == k->ids) || k->broken)
      return finish(k, failed, out);
    if (!l.spin)
      kernel_wait(k);
    while (!kernel_reap(k) && l.spin && !k->broken)
      ;
    if (l.spin && ++out->turns % HEAR_EVERY == 0)
      kernel_hear(k, HEAR_ALL);
  }
}
