/* gather.c - see gather.h. */
#include "gather.h"

#include <sys/prctl.h>
#include <time.h>

enum {
  ENOUGH = 4,                   /* commands; for fewer it was in vain */
  CREDIT_MOST = 8,
  REWARD = 2,
  PENALTY = 1,
  PATIENCE = 16,                /* turns until the first try */
  PATIENCE_MOST = 1 << 10,
  TIME_MOST = 250000,           /* ns.  In a longer time enough would come even
                                   from who waits for answers: a wake-up that
                                   was measured on a busy machine */
};

void gather_enable(struct gather *g, uint64_t cost)
{
  g->time = cost < TIME_MOST ? cost : TIME_MOST;
  g->patience = PATIENCE;
}

/* What is in vain is tried less and less often. */
static void judge(struct gather *g, uint64_t came)
{
  if (came >= ENOUGH) {
    g->credit += REWARD;
    if (g->credit >= CREDIT_MOST) {
      g->credit = CREDIT_MOST;
      g->patience = PATIENCE;
    }
    return;
  }
  g->credit -= PENALTY;
  if (g->credit > 0)
    return;
  g->credit = 0;
  g->turns = 0;
  if (g->patience < PATIENCE_MOST)
    g->patience *= 2;
}

/* To the point: else Linux adds up to 50 us, so that wake-ups come together.
 * Only for now, as what a handler starts would inherit it. */
static void stay_away(const struct gather *g)
{
  const struct timespec time = { .tv_nsec = (long)g->time };

  prctl(PR_SET_TIMERSLACK, 1ul);
  nanosleep(&time, NULL);       /* a signal may end it: no matter */
  prctl(PR_SET_TIMERSLACK, 0ul);
}

bool gather_more(struct gather *g, uint64_t served, bool light, bool several)
{
  uint64_t came = served - g->served;

  if (!came)
    return false;
  g->served = served;
  if (g->away)
    judge(g, came);
  if (light && !g->credit && several && ++g->turns >= g->patience)
    g->credit = CREDIT_MOST;
  g->away = light && g->credit > 0;
  if (g->away)
    stay_away(g);
  return g->away;
}
