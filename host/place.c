/* place.c - see place.h.
 *
 * What is faster is measured: the time for a command before the thread is bound
 * and as long as it is, and that before anew now and then.  Pauses of an
 * initiator only lengthen it, so the shortest batch of a round counts.
 */
#define _GNU_SOURCE             /* sched_getcpu */
#include "place.h"

#include <string.h>
#include <unistd.h>

#include "timer.h"

enum {
  SETTLE = 16,                  /* wake-ups until a change shows */
  BATCH = 16,                   /* of them between two looks at the clock */
  ROUND = 4 * BATCH,
  PATIENCE = 1 << 10,           /* of them between two trials, at most */
  LONG = 1 << 14,               /* so many may have changed what is faster */
  PAUSE_NS = 100000000,         /* commands are not one after the other */
};

static __thread struct place *mine;     /* that binds the calling thread */

/* An eighth at least, or it is left to the scheduler. */
static bool pays(uint64_t bound, uint64_t before)
{
  return bound <= before - before / 8;
}

void place_enable(struct place *p, const struct timers *clock)
{
  p->clock = clock;
  p->patience = SETTLE;
}

/* Here and nowhere else, of the places where it may be now. */
static bool bind_here(struct place *p)
{
  int cpu = sched_getcpu();

  CPU_ZERO(&p->one);
  if (cpu < 0 || cpu >= CPU_SETSIZE ||
      sched_getaffinity(0, sizeof(p->all), &p->all) ||
      CPU_COUNT(&p->all) < 2)
    return false;
  CPU_SET(cpu, &p->one);
  p->bound = !sched_setaffinity(0, sizeof(p->one), &p->one);
  if (p->bound)
    mine = p;
  return p->bound;
}

/* Where it was, and where there was no limit also on processors that the machine
 * gets later.  What somebody else has bound it to meanwhile stays, but is said
 * once more: Linux remembers what a thread itself has asked for last. */
static void unbind(const struct place *p)
{
  cpu_set_t to;

  if (sched_getaffinity(0, sizeof(to), &to))
    return;
  if (CPU_EQUAL(&to, &p->one)) {
    to = p->all;
    if (CPU_COUNT(&to) >= sysconf(_SC_NPROCESSORS_ONLN))
      memset(&to, 0xff, sizeof(to));
  }
  sched_setaffinity(0, sizeof(to), &to);
}

void place_leave(struct place *p)
{
  if (p->bound) {
    unbind(p);
    mine = NULL;
  }
  p->bound = false;
  p->alone = 0;
}

void place_widen(void)
{
  if (mine)
    place_leave(mine);
}

void place_bar(struct place *p)
{
  place_leave(p);
  p->clock = NULL;
}

/* Another round of batches is over, after `settle` wake-ups at first: `least`
 * tells. */
static bool measured(struct place *p, unsigned settle, uint64_t served)
{
  unsigned n = p->alone - settle;
  uint64_t now, took;

  if (p->alone < settle || n % BATCH)
    return false;
  now = timers_clock(p->clock);
  if (n) {
    took = (now - p->began) * BATCH / (served - p->served);
    if (n % ROUND == BATCH || took < p->least)
      p->least = took;
  }
  p->began = now;
  p->served = served;
  return n && n % ROUND == 0;
}

/* What does not pay is tried less and less often. */
static void give_up(struct place *p)
{
  place_leave(p);
  if (p->patience < PATIENCE)
    p->patience *= 2;
}

static void try_it(struct place *p)
{
  p->before = p->least;
  p->alone = 0;
  if (!bind_here(p))
    give_up(p);
}

static void judge(struct place *p)
{
  if (!pays(p->least, p->before)) {
    give_up(p);
    return;
  }
  p->patience = SETTLE;
  if (p->alone >= LONG)
    place_leave(p);
}

static bool has_paused(const struct place *p)
{
  return timers_now(p->clock) - p->woken > PAUSE_NS;
}

bool place_is_stale(const struct place *p)
{
  return p->bound && has_paused(p);
}

void place_woken(struct place *p, int together, uint64_t served)
{
  bool paused;

  if (!p->clock)
    return;
  paused = has_paused(p);
  p->woken = timers_now(p->clock);
  if (paused || together > 1) {
    place_leave(p);
    return;
  }
  p->alone++;
  if (!measured(p, p->bound ? SETTLE : p->patience, served))
    return;
  if (p->bound)
    judge(p);
  else
    try_it(p);
}
