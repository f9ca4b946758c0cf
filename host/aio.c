/* aio.c - see aio.h.
 *
 *   aio_start -> queue of the lane -> ring or thread -> aio_done -> ended
 *                       |                                           ^
 *                       +---------------- lapsed -------------------+
 *
 * Queues cost no memory: they run through the calls themselves.
 */
#define _GNU_SOURCE 1
#include "aio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "place.h"
#include "uring.h"

enum {
  /* The process has eight threads for all stores (see main.c), specs have
   * four: a store that hangs leaves six or two to the others. */
  WIDTH_THREADS = 2,
  /* As deep as initiators usually queue, and a quarter of the workers that the
   * kernel is told to have for a loop: one that hangs leaves three quarters,
   * even if each of its calls holds one. */
  WIDTH_RING = URING_WORKERS / 4,
  HANDLES = 2,
  RETRY_MS = 1,
};

struct aio {
  LIST_ENTRY(aio) link;
  uv_loop_t *loop;
  struct uring *ring;           /* NULL: not wanted yet, or not to be had */
  bool refused;
  unsigned users;
  bool turning;
  unsigned turns;
  STAILQ_HEAD(aio_jobs, aio_job) jobs;
  struct aio_calls lapsed;      /* to be ended in the next turn */
  TAILQ_HEAD(aio_lanes, aio_lane) waiting;       /* for room in the ring */
  uv_prepare_t prepare;         /* referenced while there is any of these */
  uv_timer_t retry;             /* the kernel took less than was collected */
  int handles;                  /* that are still open */
};

/* A loop belongs to a thread, which has one, or a few in specs. */
static _Thread_local LIST_HEAD(aios, aio) all;

/* --- threads ------------------------------------------------------------ */

/* In a thread of the pool. */
static void work(uv_work_t *w)
{
  struct aio_call *c = w->data;
  ssize_t rc = -1;

  do {
    switch (c->verb) {
    case AIO_READ:
      rc = preadv2(c->fd, c->iov, c->iov_cnt, (off_t)c->at, c->flags);
      break;
    case AIO_WRITE:
      rc = pwritev2(c->fd, c->iov, c->iov_cnt, (off_t)c->at, c->flags);
      break;
    case AIO_SYNC:
      rc = fdatasync(c->fd);
      break;
    case AIO_ALLOCATE:
      rc = fallocate(c->fd, c->flags, (off_t)c->at, (off_t)c->length);
      break;
    }
  } while (rc < 0 && errno == EINTR);
  c->rc = rc < 0 ? -errno : rc;
}

static void end_call(struct aio_call *c, ssize_t rc);

static void worked(uv_work_t *w, int status)
{
  struct aio_call *c = w->data;

  (void)status;                 /* nothing here is ever cancelled */
  end_call(c, c->rc);
}

static void to_thread(struct aio_call *c)
{
  c->work.data = c;
  /* fails only without a function to run */
  uv_queue_work(c->lane->aio->loop, &c->work, work, worked);
}

/* --- lanes -------------------------------------------------------------- */

static bool has_lapsed(const struct aio_call *c)
{
  return c->lapsed && c->lapsed(c);
}

static void start_next(struct aio_lane *lane)
{
  struct aio *a = lane->aio;
  struct aio_call *c;

  while (lane->running < lane->width && !lane->waiting &&
         (c = STAILQ_FIRST(&lane->queue))) {
    if (has_lapsed(c)) {
      STAILQ_REMOVE_HEAD(&lane->queue, link);
      STAILQ_INSERT_TAIL(&a->lapsed, c, link);
      uv_ref((uv_handle_t *)&a->prepare);
      continue;
    }
    if (!lane->threads && !uring_put(a->ring, c)) {
      lane->waiting = true;
      TAILQ_INSERT_TAIL(&a->waiting, lane, link);
      return;
    }
    STAILQ_REMOVE_HEAD(&lane->queue, link);
    lane->running++;
    if (lane->threads)
      to_thread(c);
  }
}

void aio_start(struct aio_lane *lane, struct aio_call *c)
{
  c->lane = lane;
  STAILQ_INSERT_TAIL(&lane->queue, c, link);
  start_next(lane);
}

static void end_call(struct aio_call *c, ssize_t rc)
{
  struct aio_lane *lane = c->lane;

  lane->running--;
  start_next(lane);
  c->ended(c, rc);              /* last: it may close the lane */
}

/* What the ring has declined for want of something a thread makes, which can
 * wait for it; what a signal has interrupted is made again. */
void aio_done(struct aio_call *c, ssize_t rc)
{
  if ((rc == -EAGAIN || rc == -EINTR) && !has_lapsed(c))
    to_thread(c);
  else
    end_call(c, rc);
}

void aio_later(struct aio_lane *lane, struct aio_job *job)
{
  struct aio *a = lane->aio;

  STAILQ_INSERT_TAIL(&a->jobs, job, link);
  uv_ref((uv_handle_t *)&a->prepare);
}

unsigned aio_next_turn(const struct aio_lane *lane)
{
  return lane->threads ? 0 : lane->aio->turns;
}

/* --- a turn ------------------------------------------------------------- */

static bool has_jobs(const struct aio *a)
{
  return !STAILQ_EMPTY(&a->jobs) || !STAILQ_EMPTY(&a->lapsed);
}

static void run_jobs(struct aio *a)
{
  struct aio_call *c;
  struct aio_job *job;

  do {
    while ((c = STAILQ_FIRST(&a->lapsed))) {
      STAILQ_REMOVE_HEAD(&a->lapsed, link);
      c->ended(c, -ECANCELED);
    }
    if ((job = STAILQ_FIRST(&a->jobs))) {
      STAILQ_REMOVE_HEAD(&a->jobs, link);
      job->run(job);
    }
  } while (has_jobs(a));
  uv_unref((uv_handle_t *)&a->prepare);
}

/* The lanes that wait get what room there is, in turn. */
static void admit(struct aio *a)
{
  struct aio_lane *lane;

  while (uring_has_room(a->ring) && (lane = TAILQ_FIRST(&a->waiting))) {
    TAILQ_REMOVE(&a->waiting, lane, link);
    lane->waiting = false;
    start_next(lane);
  }
}

static void on_closed(uv_handle_t *h)
{
  struct aio *a = h->data;

  if (--a->handles == 0)
    free(a);
}

static void release(struct aio *a)
{
  if (--a->users)
    return;
  LIST_REMOVE(a, link);
  uring_close(a->ring);
  uv_close((uv_handle_t *)&a->prepare, on_closed);
  uv_close((uv_handle_t *)&a->retry, on_closed);
}

static void turn(struct aio *a);

static void on_retry(uv_timer_t *h)
{
  turn(h->data);
}

/* Until nothing is left to be submitted, or the kernel takes no more. */
static void turn(struct aio *a)
{
  bool taken = true;

  if (a->turning)
    return;
  a->turning = true;
  a->turns += 2;                /* never 0 */
  a->users++;                   /* an end may close the last lane */
  do {
    run_jobs(a);
    if (!a->ring)
      break;
    if (uring_collected(a->ring))
      place_widen();            /* the kernel may make workers for it */
    taken = uring_submit(a->ring);
    uring_reap(a->ring);
    admit(a);
  } while (taken && (has_jobs(a) || uring_collected(a->ring)));
  if (!taken)
    uv_timer_start(&a->retry, on_retry, RETRY_MS, 0);
  a->turning = false;
  release(a);
}

static struct aio *find(const uv_loop_t *loop)
{
  struct aio *a = LIST_FIRST(&all);

  while (a && a->loop != loop)
    a = LIST_NEXT(a, link);
  return a;
}

void aio_turn(uv_loop_t *loop)
{
  struct aio *a = find(loop);

  if (a)
    turn(a);
}

static void on_prepare(uv_prepare_t *h)
{
  turn(h->data);
}

static void on_ring(void *arg)
{
  turn(arg);
}

/* --- open and close ----------------------------------------------------- */

static void tell_once(int rc)
{
  static atomic_flag told = ATOMIC_FLAG_INIT;

  if (!atomic_flag_test_and_set(&told))
    log_info("stores", "io_uring is not to be had (%s): threads read and "
             "write files", strerror(-rc));
}

static struct aio *make(uv_loop_t *loop)
{
  struct aio *a = calloc(1, sizeof(*a));

  if (!a)
    return NULL;
  a->loop = loop;
  a->turns = 1;
  STAILQ_INIT(&a->jobs);
  STAILQ_INIT(&a->lapsed);
  TAILQ_INIT(&a->waiting);
  uv_prepare_init(loop, &a->prepare);
  uv_timer_init(loop, &a->retry);
  a->handles = HANDLES;
  a->prepare.data = a->retry.data = a;
  uv_prepare_start(&a->prepare, on_prepare);
  uv_unref((uv_handle_t *)&a->prepare);
  LIST_INSERT_HEAD(&all, a, link);
  return a;
}

static bool has_ring(struct aio *a)
{
  int rc;

  if (!a->ring && !a->refused) {
    rc = uring_open(a->loop, on_ring, a, &a->ring);
    if (rc)
      tell_once(rc);
    a->refused = !a->ring;
  }
  return a->ring;
}

int aio_open(struct aio_lane *lane, uv_loop_t *loop, bool threads)
{
  struct aio *a = find(loop);

  if (!a)
    a = make(loop);
  if (!a)
    return -ENOMEM;
  a->users++;
  lane->aio = a;
  lane->threads = threads || !has_ring(a);
  lane->width = lane->threads ? WIDTH_THREADS : WIDTH_RING;
  STAILQ_INIT(&lane->queue);
  return 0;
}

void aio_close(struct aio_lane *lane)
{
  if (lane->aio)
    release(lane->aio);
  lane->aio = NULL;
}

void aio_forget(void)
{
  uring_forget();
}
