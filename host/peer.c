/* peer.c - see peer.h: letters and their ways. */
#include "peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "device.h"
#include "task.h"

/* All ends of a process; those that have left are NULL. */
struct peers {
  pthread_mutex_t mutex;        /* for all that follows and the inboxes */
  unsigned users, count;
  struct peer *ends[PEERS_MAX];
};

struct letter *letter_new(enum letter_kind kind, size_t len)
{
  struct letter *m = malloc(sizeof(*m) + len);

  if (m)
    *m = (struct letter){ .kind = kind, .len = len };
  return m;
}

/* False if that shard has left: the letter is still the caller's. */
static bool post(struct peers *all, unsigned to, struct letter *m)
{
  struct peer *p;

  pthread_mutex_lock(&all->mutex);
  p = to < all->count ? all->ends[to] : NULL;
  if (p) {
    STAILQ_INSERT_TAIL(&p->inbox, m, link);
    uv_async_send(&p->wake);    /* the end cannot be closed meanwhile */
  }
  pthread_mutex_unlock(&all->mutex);
  return p != NULL;
}

void peer_answer(struct peer *p, struct letter *m, int rc)
{
  m->answered = true;
  m->rc = rc;
  if (!post(p->all, m->home, m))
    free(m);
}

/* From shard to shard in a circle, until it is at home again. */
static void pass_on(struct peer *p, struct letter *m)
{
  unsigned count, i;

  pthread_mutex_lock(&p->all->mutex);
  count = p->all->count;
  pthread_mutex_unlock(&p->all->mutex);
  for (i = (p->index + 1) % count; i != m->home; i = (i + 1) % count)
    if (post(p->all, i, m))
      return;
  peer_answer(p, m, 0);
}

void peer_ask(struct peer *p, struct letter *m, struct call *call)
{
  m->home = p->index;
  m->ticket = call->ticket = ++p->last_ticket;
  call->shard = m->shard;
  LIST_INSERT_HEAD(&p->calls, call, link);
  if (m->kind == LETTER_FIND) {
    peer_search(p, m);
    pass_on(p, m);
  } else if (!post(p->all, m->shard, m)) {
    peer_answer(p, m, -ENODEV);
  }
}

/* It takes the way that the letter took, so it comes later. */
void peer_hurry(struct peer *p, const struct call *call)
{
  struct letter *m = letter_new(LETTER_HURRY, 0);

  if (!m)
    return;                     /* then it takes as long as it takes */
  m->home = p->index;
  m->ticket = call->ticket;
  if (!call->ticket || !post(p->all, call->shard, m))
    free(m);
}

void peer_forget(struct call *call)
{
  if (!call->ticket)
    return;
  LIST_REMOVE(call, link);
  call->ticket = 0;
}

/* The device may be ending and wait for its tasks: it is told, after the task
 * has had its turn. */
static void come_home(struct peer *p, struct letter *m)
{
  struct device *d;
  struct call *call;

  call = LIST_FIRST(&p->calls);
  while (call && call->ticket != m->ticket)
    call = LIST_NEXT(call, link);
  if (!call) {
    free(m);
    return;
  }
  peer_forget(call);
  call->letter = m;
  d = call->task->dev;
  task_wake(call->task, 0);
  device_quiet(d);
}

static void take(struct peer *p, struct letter *m)
{
  if (m->answered) {
    come_home(p, m);
  } else if (m->kind == LETTER_FIND) {
    peer_search(p, m);
    pass_on(p, m);
  } else if (m->kind == LETTER_HURRY) {
    peer_break_off(p, m);
    free(m);
  } else {
    peer_serve(p, m);
  }
}

static void on_mail(uv_async_t *h)
{
  struct peer *p = h->data;
  struct letter_queue mail = STAILQ_HEAD_INITIALIZER(mail);
  struct letter *m;

  pthread_mutex_lock(&p->all->mutex);
  STAILQ_CONCAT(&mail, &p->inbox);
  pthread_mutex_unlock(&p->all->mutex);
  while ((m = STAILQ_FIRST(&mail))) {
    STAILQ_REMOVE_HEAD(&mail, link);
    take(p, m);
  }
}

bool peer_has_mail(const struct shard *s)
{
  struct peers *all = s->peer->all;
  bool any = false;
  unsigned i;

  pthread_mutex_lock(&all->mutex);
  for (i = 0; i < all->count && !any; i++)
    any = all->ends[i] && !STAILQ_EMPTY(&all->ends[i]->inbox);
  pthread_mutex_unlock(&all->mutex);
  return any;
}

/* --- coming and going --------------------------------------------------- */

static struct peers *peers_new(void)
{
  struct peers *all = calloc(1, sizeof(*all));

  if (all)
    pthread_mutex_init(&all->mutex, NULL);
  return all;
}

static void peers_free(struct peers *all)
{
  pthread_mutex_destroy(&all->mutex);
  free(all);
}

int peer_join(struct shard *s, const struct shard *beside)
{
  struct peers *all = beside ? beside->peer->all : peers_new();
  struct peer *p = calloc(1, sizeof(*p));
  int rc = all && p ? 0 : -ENOMEM;

  if (!rc && all->count == PEERS_MAX)
    rc = -ENOSPC;
  if (!rc)
    rc = uv_async_init(&s->loop, &p->wake, on_mail);
  if (rc) {
    free(p);
    if (all && !all->users)
      peers_free(all);
    return rc;
  }
  STAILQ_INIT(&p->inbox);
  LIST_INIT(&p->calls);
  LIST_INIT(&p->served);
  p->wake.data = p;
  p->all = all;
  p->shard = s;
  pthread_mutex_lock(&all->mutex);
  p->index = all->count++;
  all->ends[p->index] = p;
  all->users++;
  pthread_mutex_unlock(&all->mutex);
  s->peer = p;
  return 0;
}

static void on_closed(uv_handle_t *h)
{
  free(h->data);
}

void peer_leave(struct shard *s)
{
  struct letter_queue mail = STAILQ_HEAD_INITIALIZER(mail);
  struct peer *p = s->peer;
  struct peers *all;
  struct letter *m;
  bool last;

  if (!p)
    return;
  s->peer = NULL;
  all = p->all;
  pthread_mutex_lock(&all->mutex);
  all->ends[p->index] = NULL;
  STAILQ_CONCAT(&mail, &p->inbox);
  pthread_mutex_unlock(&all->mutex);
  while ((m = STAILQ_FIRST(&mail))) {
    STAILQ_REMOVE_HEAD(&mail, link);
    if (m->answered || m->kind == LETTER_HURRY)
      free(m);
    else if (m->kind == LETTER_FIND)
      pass_on(p, m);
    else
      peer_answer(p, m, -ENODEV);
  }
  pthread_mutex_lock(&all->mutex);
  last = --all->users == 0;
  pthread_mutex_unlock(&all->mutex);
  if (last)
    peers_free(all);
  uv_close((uv_handle_t *)&p->wake, on_closed);
}
