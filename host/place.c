/* place.c - see place.h.
 *
 * What is faster is measured: the time that a batch of wake-ups takes before and
 * while the thread is bound.  It is measured as long as it is bound, and the
 * time before anew now and then.  Pauses of an initiator only lengthen it, so the
 * shortest batch of a round counts.
 */
#define _GNU_SOURCE             /* sched_getcpu */
#include "place.h"

#include "timer.h"

enum {
  SETTLE = 16,                  /* wake-ups until a change shows */
  BATCH = 16,                   /* of them between two looks at the clock */
  ROUND = 4 * BATCH,
  LONG = 1 << 14,               /* so many may have changed what is faster */
};

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
  return p->bound;
}

/* What somebody else has bound it to meanwhile is theirs to undo. */
void place_leave(struct place *p)
{
  cpu_set_t now;

  if (p->bound && !sched_getaffinity(0, sizeof(now), &now) &&
      CPU_EQUAL(&now, &p->one))
    sched_setaffinity(0, sizeof(p->all), &p->all);
  p->bound = false;
  p->alone = 0;
}

void place_bar(struct place *p)
{
  place_leave(p);
  p->clock = NULL;
}

/* Another round of batches is over, after `settle` wake-ups at first: `least`
 * tells. */
static bool measured(struct place *p, unsigned settle)
{
  unsigned n = p->alone - settle;
  uint64_t now;

  if (p->alone < settle || n % BATCH)
    return false;
  now = timers_clock(p->clock);
  if (n % ROUND == BATCH || now - p->began < p->least)
    p->least = now - p->began;
  p->began = now;
  return n && n % ROUND == 0;
}

/* What does not pay is tried less and less often. */
static void give_up(struct place *p)
{
  place_leave(p);
  if (p->patience < LONG)
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

void place_woken(struct place *p, int together)
{
  if (!p->clock)
    return;
  if (together > 1) {
    place_leave(p);
    return;
  }
  p->alone++;
  if (!measured(p, p->bound ? SETTLE : p->patience))
    return;
  if (p->bound)
    judge(p);
  else
    try_it(p);
}
