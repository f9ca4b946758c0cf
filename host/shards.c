/* shards.c - see shards.h. */
#define _GNU_SOURCE              /* pthread_setname_np */
#include "shards.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio.h"
#include "device.h"
#include "log.h"
#include "message.h"
#include "peer.h"
#include "shard.h"
#include "state.h"
#include "watchdog.h"

struct worker {
  struct shards *all;
  pthread_t thread;
  struct shard shard;
  uv_async_t wake;
  pthread_mutex_t mutex;
  struct message_queue inbox;   /* under the mutex */
  bool stop;                    /* under the mutex */
  atomic_uint devices;
};

struct shards {
  unsigned count;
  int fd;
  pthread_mutex_t mutex;
  struct message_queue outbox;  /* under the mutex */
  struct worker workers[];
};

/* On a shard's thread: a device has something to tell control. */
static void on_report(void *arg, int64_t id, const char *verb, int status,
                      const char *why, bool last)
{
  struct worker *w = arg;
  struct shards *s = w->all;
  struct message *m = message_report(id, verb, status, why);
  uint64_t one = 1;

  if (last)
    w->devices--;
  if (!m) {
    log_error("control", "out of memory: a report is lost");
    return;
  }
  pthread_mutex_lock(&s->mutex);
  STAILQ_INSERT_TAIL(&s->outbox, m, link);
  pthread_mutex_unlock(&s->mutex);
  if (write(s->fd, &one, sizeof(one)) < 0)
    log_error("control", "a shard cannot wake control: %s", strerror(errno));
}

static void handle(struct worker *w, struct message *m)
{
  struct device *d;

  if (strcmp(m->verb, "add") == 0) {
    w->devices++;
    device_add(&w->shard, m, (int)message_integer(m, "fd", -1), on_report, w);
    return;
  }
  d = device_find(&w->shard, m->device);
  if (d) {
    device_change(d, m);
    return;
  }
  on_report(w, m->device, m->verb, -ENODEV, "there is no such device", false);
  free(m);
}

static void on_wake(uv_async_t *h)
{
  struct worker *w = h->data;
  struct message_queue inbox = STAILQ_HEAD_INITIALIZER(inbox);
  struct message *m;
  bool stop;

  pthread_mutex_lock(&w->mutex);
  STAILQ_CONCAT(&inbox, &w->inbox);
  stop = w->stop;
  pthread_mutex_unlock(&w->mutex);
  while ((m = STAILQ_FIRST(&inbox))) {
    STAILQ_REMOVE_HEAD(&inbox, link);
    handle(w, m);
  }
  if (stop) {
    shard_settle(&w->shard);
    state_abandon_all(&w->shard);
    peer_leave(&w->shard);
    uv_close((uv_handle_t *)h, NULL);
  }
}

static void *run(void *arg)
{
  struct worker *w = arg;

  uv_run(&w->shard.loop, UV_RUN_DEFAULT);
  shard_fini(&w->shard);
  aio_forget();
  watchdog_forget();
  return NULL;
}

/* Signals are control's, but for those that mean a fault of the thread and the
 * watchdog's, which is sent to it alone. */
static int start_thread(struct worker *w)
{
  sigset_t mine, before;
  int rc;

  sigemptyset(&mine);
  sigaddset(&mine, SIGTERM);
  sigaddset(&mine, SIGINT);
  sigaddset(&mine, SIGHUP);
  sigaddset(&mine, SIGUSR1);
  sigaddset(&mine, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &mine, &before);
  rc = pthread_create(&w->thread, NULL, run, w);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -rc;
}

/* All but the thread. */
static int prepare(struct shards *s, struct worker *w,
                   const struct shards_options *options,
                   const struct poll_options *poll)
{
  int rc;

  w->all = s;
  STAILQ_INIT(&w->inbox);
  pthread_mutex_init(&w->mutex, NULL);
  w->shard.memory_limit = options->memory_limit;
  w->shard.no_fast_path = options->no_fast_path;
  w->shard.third_party = options->third_party;
  rc = shard_init(&w->shard, false);
  if (rc)
    return rc;
  poll_enable(&w->shard.poller, poll);
  place_enable(&w->shard.place, &w->shard.timers);
  gather_enable(&w->shard.gather, poll->cost);
  rc = uv_async_init(&w->shard.loop, &w->wake, on_wake);
  if (rc)
    return rc;
  w->wake.data = w;
  return peer_join(&w->shard, w == s->workers ? NULL : &s->workers->shard);
}

static int start(struct shards *s, struct worker *w)
{
  char name[16];
  int rc = start_thread(w);

  if (rc)
    return rc;
  snprintf(name, sizeof(name), "shard-%u", (unsigned)(w - s->workers) + 1);
  pthread_setname_np(w->thread, name);
  return 0;
}

/* Fills in what a wake-up costs. */
static struct poll_options measured(const struct poll_options *options)
{
  struct poll_options poll = *options;

  poll.cost = poll_measure();
  if (poll.mode == POLL_OFF)
    return poll;
  if (poll.cost)
    log_info("control", "a wake-up costs %.0f us here; shards wait awake for "
             "up to %.0f us after an answer", (double)poll.cost / 1e3,
             (double)poll_window(&poll) / 1e3);
  else
    log_info("control", "there is one processor only: shards sleep at once "
             "after an answer");
  return poll;
}

static void nothing(uv_work_t *w)
{
  (void)w;
}

/* libuv's threads come with the first work for them, and may run where its
 * giver may: that is not to be a shard that stays where it is, see place.h. */
static int start_pool(void)
{
  uv_loop_t loop;
  uv_work_t work;
  int rc = uv_loop_init(&loop);

  if (rc)
    return rc;
  uv_queue_work(&loop, &work, nothing, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  return uv_loop_close(&loop);
}

/* What was started before a failure stays: the process ends on that. */
int shards_start(const struct shards_options *options, struct shards **out)
{
  const struct poll_options poll = measured(&options->poll);
  struct shards *s;
  unsigned i;
  int rc;

  *out = NULL;
  rc = start_pool();
  if (rc)
    return rc;
  s = calloc(1, sizeof(*s) + options->count * sizeof(s->workers[0]));
  if (!s)
    return -ENOMEM;
  s->count = options->count;
  STAILQ_INIT(&s->outbox);
  pthread_mutex_init(&s->mutex, NULL);
  s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (s->fd < 0) {
    rc = -errno;
    free(s);
    return rc;
  }
  for (i = 0; i < s->count; i++) {
    rc = prepare(s, &s->workers[i], options, &poll);
    if (rc)
      return rc;
  }
  for (i = 0; i < s->count; i++) {
    rc = start(s, &s->workers[i]);
    if (rc)
      return rc;
  }
  *out = s;
  return 0;
}

bool shards_stop(struct shards *s)
{
  struct message *m;
  struct worker *w;

  for (w = s->workers; w < s->workers + s->count; w++)
    if (w->devices)
      return false;
  for (w = s->workers; w < s->workers + s->count; w++) {
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_mutex_unlock(&w->mutex);
    uv_async_send(&w->wake);
  }
  for (w = s->workers; w < s->workers + s->count; w++)
    pthread_join(w->thread, NULL);
  while ((m = shards_receive(s)))
    free(m);
  close(s->fd);
  free(s);
  return true;
}

unsigned shards_count(const struct shards *s)
{
  return s->count;
}

int shards_fd(const struct shards *s)
{
  return s->fd;
}

void shards_send(struct shards *s, unsigned index, struct message *m)
{
  struct worker *w = &s->workers[index];

  pthread_mutex_lock(&w->mutex);
  STAILQ_INSERT_TAIL(&w->inbox, m, link);
  pthread_mutex_unlock(&w->mutex);
  uv_async_send(&w->wake);
}

struct message *shards_receive(struct shards *s)
{
  struct message *m;
  uint64_t count;

  pthread_mutex_lock(&s->mutex);
  m = STAILQ_FIRST(&s->outbox);
  if (m)
    STAILQ_REMOVE_HEAD(&s->outbox, link);
  else if (read(s->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
    log_error("control", "reports cannot be read: %s", strerror(errno));
  pthread_mutex_unlock(&s->mutex);
  return m;
}
