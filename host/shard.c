/* shard.c - see shard.h. */
#include "shard.h"

#include <sched.h>
#include <stdlib.h>

#include "aio.h"
#include "device.h"
#include "state.h"

enum {
  JOBS_MAX = 1024,              /* in one turn */
  ALONE = 64,                   /* wake-ups that show that commands come one at
                                   a time */
};

static bool several(const struct shard *s)
{
  return s->alone < ALONE;
}

/* Stores of devices that had no command lately may be at work, timers run down,
 * and others write: for all of them the shard is up to two wake-ups late. */
static void gather(struct shard *s)
{
  bool light = !s->unanswered && s->told < SHARD_MUCH_DATA && !s->poller.awake;

  s->unanswered = false;
  s->told = 0;
  if (gather_more(&s->gather, s->served, light, several(s)))
    uv_update_time(&s->loop);
}

/* What the loop does before it sleeps. */
static void on_prepare(uv_prepare_t *h)
{
  struct shard *s = h->data;

  s->brought = 0;
  if (s->place.bound && (s->poller.awake || place_is_stale(&s->place)))
    place_leave(&s->place);
  shard_settle(s);
  if (s->gather.time && !uv_is_active((uv_handle_t *)&s->busy))
    gather(s);
}

/* Goes on with what a bounded turn has left: one of the rings, and the jobs,
 * which on_prepare() runs.  The other devices and the timers get their turn in
 * between. */
static void on_busy(uv_idle_t *h)
{
  struct shard *s = h->data;
  struct device *d = TAILQ_FIRST(&s->unfinished);

  if (d) {
    TAILQ_REMOVE(&s->unfinished, d, unfinished_link);
    d->unfinished = false;
    device_drain(d);
  }
  if (TAILQ_EMPTY(&s->unfinished) && TAILQ_EMPTY(&s->jobs))
    uv_idle_stop(h);
}

void shard_unfinished(struct shard *s, struct device *d)
{
  if (d->unfinished)
    return;
  d->unfinished = true;
  TAILQ_INSERT_TAIL(&s->unfinished, d, unfinished_link);
  uv_idle_start(&s->busy, on_busy);
}

/* The kernel's workers carry the answers to the initiator and its next commands
 * to the ring: what they bring before the shard sleeps costs no wake-up.  Where
 * the initiator waits for each answer nothing more comes, and who yields is only
 * late to sleep.  Once in a turn is enough for all devices. */
void shard_give_way(struct shard *s)
{
  if (several(s) && !s->brought)
    sched_yield();
}

/* Who waits awake keeps its processor busy; then there is nothing to spare. */
void shard_woken(struct shard *s, int together)
{
  s->brought += together;
  s->alone = s->brought > 1 ? 0 : s->alone + 1;
  if (together && !s->poller.awake)
    place_woken(&s->place, s->brought, s->served);
}

int shard_init(struct shard *s, bool is_virtual)
{
  int rc;

  TAILQ_INIT(&s->jobs);
  TAILQ_INIT(&s->unfinished);
  rc = uv_loop_init(&s->loop);
  if (rc)
    return rc;
  rc = timers_init(&s->timers, &s->loop, is_virtual);
  if (rc) {
    uv_loop_close(&s->loop);
    return rc;
  }
  uv_prepare_init(&s->loop, &s->prepare);
  uv_idle_init(&s->loop, &s->busy);
  s->prepare.data = s->busy.data = s;
  uv_prepare_start(&s->prepare, on_prepare);
  uv_unref((uv_handle_t *)&s->prepare);
  poll_init(&s->poller, &s->loop);
  return 0;
}

void shard_fini(struct shard *s)
{
  place_leave(&s->place);
  timers_close(&s->timers);
  uv_close((uv_handle_t *)&s->prepare, NULL);
  uv_close((uv_handle_t *)&s->busy, NULL);
  poll_close(&s->poller);
  uv_run(&s->loop, UV_RUN_DEFAULT);
  uv_loop_close(&s->loop);
  free(s->scratch);
}

void shard_later(struct shard *s, struct job *j)
{
  if (j->queued)
    return;
  j->queued = true;
  TAILQ_INSERT_TAIL(&s->jobs, j, link);
}

void shard_forget(struct shard *s, struct job *j)
{
  if (!j->queued)
    return;
  j->queued = false;
  TAILQ_REMOVE(&s->jobs, j, link);
}

/* Runs up to *left jobs; those that they queue count as well, since a handler
 * can go round for ever without a wait that takes time. */
static void run_jobs(struct shard *s, int *left)
{
  struct job *j;

  for (; *left > 0 && (j = TAILQ_FIRST(&s->jobs)); --*left) {
    shard_forget(s, j);
    j->run(j);
  }
}

void shard_settle(struct shard *s)
{
  struct device *d;
  int left = JOBS_MAX;

  do {
    run_jobs(s, &left);
    if (s->stirred)
      state_turn_all(s);
    aio_turn(&s->loop);         /* what ends here shares the write() below */
  } while (left > 0 && !TAILQ_EMPTY(&s->jobs));
  if (!TAILQ_EMPTY(&s->jobs))
    uv_idle_start(&s->busy, on_busy);

  while ((d = LIST_FIRST(&s->dirty))) {
    LIST_REMOVE(d, dirty_link);
    d->dirty = false;
    device_flush(d);
  }
}

/* Is there more to do, or is anything of the real world awaited: a store, or a
 * callback of luv? */
static bool is_busy(const struct shard *s)
{
  struct device *d;
  struct state *st;

  if (!TAILQ_EMPTY(&s->jobs) || !TAILQ_EMPTY(&s->unfinished))
    return true;
  LIST_FOREACH(d, &s->devices, link)
    if (d->ops)
      return true;
  LIST_FOREACH(st, &s->states, link)
    if (state_awaits_luv(st))
      return true;
  return false;
}

bool shard_turn(struct shard *s, bool wait)
{
  shard_settle(s);
  uv_run(&s->loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  shard_settle(s);
  return is_busy(s);
}
