/* poller.c - see poller.h.
 *
 * Staying awake is an active uv_idle_t: the loop then never sleeps, and looks
 * at everything else between two slices of looking at rings.  A slice lasts no
 * longer than a wake-up would, so nothing else comes later than it would have.
 */
#define _GNU_SOURCE             /* CPU_COUNT */
#include "poller.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

enum {
  SAMPLES = 15,
  PAUSE_NS = 300000,            /* long enough for a processor to go idle */
  WINDOW = 20,                  /* wake-ups: an initiator has one or two of its
                                   own between two commands, and work to do,
                                   which takes the longer the more commands it
                                   has had answered at a time */
  LOOKS = 32,                   /* at the rings between two at the clock */
};

/* A window that was in vain is worth two that were not.  What counts is the
 * wait: a command that was there already would have been taken without it. */
enum {
  CREDIT_MOST = 8,
  CREDIT_NEEDED = 3,
  REWARD = 1,
  PENALTY = 2,
};

static atomic_int awake;        /* shards of this process */

static int count_processors(void)
{
  cpu_set_t set;

  return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

/* --- what a wake-up costs ----------------------------------------------- */

struct alarm_clock {
  int fd;
  uint64_t took[SAMPLES];
  atomic_uint_fast64_t rung;
  atomic_int heard;             /* how often; SAMPLES also after a failure */
};

static void *sleeper(void *arg)
{
  struct alarm_clock *a = arg;
  uint64_t count;

  while (a->heard < SAMPLES && read(a->fd, &count, sizeof(count)) > 0) {
    a->took[a->heard] = uv_hrtime() - a->rung;
    a->heard++;
  }
  a->heard = SAMPLES;
  return NULL;
}

static int by_size(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

  return (x > y) - (x < y);
}

/* Rings while the sleeper sleeps, and waits until it has heard. */
static bool ring_alarm(struct alarm_clock *a)
{
  const struct timespec pause = { .tv_nsec = PAUSE_NS };
  uint64_t one = 1;
  int before = a->heard;

  nanosleep(&pause, NULL);
  a->rung = uv_hrtime();
  if (write(a->fd, &one, sizeof(one)) < 0)
    return false;
  while (a->heard == before)
    nanosleep(&pause, NULL);
  return true;
}

uint64_t poll_measure(void)
{
  struct alarm_clock a = { .fd = -1 };
  pthread_t thread;
  bool ok = true;

  if (count_processors() < 2)
    return 0;
  a.fd = eventfd(0, EFD_CLOEXEC);
  if (a.fd < 0 || pthread_create(&thread, NULL, sleeper, &a)) {
    if (a.fd >= 0)
      close(a.fd);
    return 0;
  }
  while (ok && a.heard < SAMPLES)
    ok = ring_alarm(&a);
  pthread_join(thread, NULL);
  close(a.fd);
  qsort(a.took, SAMPLES, sizeof(a.took[0]), by_size);
  return ok ? a.took[SAMPLES / 2] : 0;
}

/* --- awake and asleep --------------------------------------------------- */

static void fall_asleep(struct poller *p)
{
  struct device *d;

  while ((d = TAILQ_FIRST(&p->awaited)))
    poll_forget(p, d);
  if (!p->awake)
    return;
  p->awake = false;
  awake--;
  uv_idle_stop(&p->spin);
}

static void add_credit(struct poller *p, int n)
{
  p->credit += n;
  if (p->credit > CREDIT_MOST)
    p->credit = CREDIT_MOST;
  if (p->credit < 0)
    p->credit = 0;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/* A device of which there is a new command, or NULL. */
static struct device *look(struct poller *p, bool *store_works)
{
  struct device *d;

  for (d = TAILQ_FIRST(&p->awaited); d; d = TAILQ_NEXT(d, awaited_link)) {
    if (ring_pending(d->ring))
      return d;
    if (d->ops)
      *store_works = true;
  }
  return NULL;
}

/* What is waited for may need this very processor: the kernel's own threads
 * that carry commands are bound to one.  Where somebody keeps it for longer
 * than a wake-up takes, to sleep is better; the scheduler then finds another. */
static void give_way(struct poller *p, uint64_t now)
{
  sched_yield();
  if (!p->automatic || uv_hrtime() - now < p->slice)
    return;
  add_credit(p, -PENALTY);
  if (p->credit < CREDIT_NEEDED)
    fall_asleep(p);
}

/* One slice.  It is over at once where a store is at work: the end of that is
 * the loop's to notice. */
static void on_spin(uv_idle_t *h)
{
  struct poller *p = h->data;
  uint64_t began = uv_hrtime(), now = began;
  bool store_works = false;
  struct device *d = NULL;

  while (now - p->last < p->window) {
    for (int i = 0; i < LOOKS && !(d = look(p, &store_works)); i++) {
      if (store_works)
        return;
      p->waits = true;
      relax();
    }
    if (d) {
      if (p->waits)
        add_credit(p, REWARD);
      p->waits = false;
      device_drain(d);
    }
    now = uv_hrtime();
    if (now - began >= p->slice) {
      give_way(p, now);
      return;
    }
  }
  if (!store_works)
    add_credit(p, -PENALTY);
  fall_asleep(p);
}

/* At least one processor is left to the initiators. */
static void stay_awake(struct poller *p)
{
  if (atomic_fetch_add(&awake, 1) >= p->most) {
    awake--;
    return;
  }
  p->awake = true;
  uv_idle_start(&p->spin, on_spin);
}

void poll_woken(struct poller *p)
{
  if (!p->automatic || p->awake)
    return;
  add_credit(p, uv_hrtime() - p->last < p->window + p->slice ? REWARD
                                                             : -REWARD);
}

void poll_told(struct poller *p, struct device *d)
{
  if (!p->on)
    return;
  p->last = uv_hrtime();
  p->waits = false;
  if (p->automatic && p->credit < CREDIT_NEEDED)
    return;
  if (!d->awaited) {
    d->awaited = true;
    TAILQ_INSERT_HEAD(&p->awaited, d, awaited_link);
  }
  if (!p->awake)
    stay_awake(p);
}

void poll_forget(struct poller *p, struct device *d)
{
  if (!d->awaited)
    return;
  d->awaited = false;
  TAILQ_REMOVE(&p->awaited, d, awaited_link);
}

void poll_init(struct poller *p, uv_loop_t *loop)
{
  TAILQ_INIT(&p->awaited);
  uv_idle_init(loop, &p->spin);
  uv_unref((uv_handle_t *)&p->spin);
  p->spin.data = p;
}

uint64_t poll_window(const struct poll_options *options)
{
  uint64_t window = WINDOW * options->cost;

  return options->mode == POLL_AUTO && window < options->limit
    ? window : options->limit;
}

void poll_enable(struct poller *p, const struct poll_options *options)
{
  p->most = count_processors() - 1;
  if (options->mode == POLL_OFF || !options->cost || !p->most)
    return;
  p->on = true;
  p->automatic = options->mode == POLL_AUTO;
  p->window = poll_window(options);
  p->slice = options->cost < p->window ? options->cost : p->window;
}

void poll_close(struct poller *p)
{
  fall_asleep(p);
  uv_close((uv_handle_t *)&p->spin, NULL);
}
