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
};

void gather_enable(struct gather *g, uint64_t cost)
{
  g->cost = cost;
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

/* Linux would add 50 us, so that wake-ups come together. */
static void stay_away(struct gather *g)
{
  const struct timespec time = { .tv_sec = (time_t)(g->cost / 1000000000),
                                 .tv_nsec = (long)(g->cost % 1000000000) };

  if (!g->sharp)
    g->sharp = !prctl(PR_SET_TIMERSLACK, 1ul);
  nanosleep(&time, NULL);       /* a signal may end it: no matter */
}

void gather_more(struct gather *g, uint64_t served, bool several)
{
  if (!g->cost)
    return;
  if (g->away)
    judge(g, served - g->served);
  if (!g->credit && several && ++g->turns >= g->patience)
    g->credit = CREDIT_MOST;
  g->away = g->credit > 0;
  g->served = served;
  if (g->away)
    stay_away(g);
}
