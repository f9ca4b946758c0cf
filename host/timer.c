/* timer.c - the deadlines and sleeps of one shard.
 *
 * A binary heap of pointers, each timer knowing its slot, so that one is found
 * and removed without a search.  The uv_timer_t is left alone while it fires
 * no later than the first timer: stopping a deadline that was not reached
 * costs the heap only, and at worst one idle turn of the loop.
 */
#include "timer.h"

#include <errno.h>
#include <stdlib.h>

enum { MS = 1000000 };          /* ns */

static bool before(const struct timer *a, const struct timer *b)
{
  return a->due != b->due ? a->due < b->due : a->turn < b->turn;
}

static void put(struct timers *ts, size_t slot, struct timer *t)
{
  ts->heap[slot] = t;
  t->slot = slot;
}

/* Finds the place of `t` in a heap that has a gap at `slot`. */
static void settle(struct timers *ts, size_t slot, struct timer *t)
{
  size_t child;

  for (; slot > 1 && before(t, ts->heap[slot / 2]); slot /= 2)
    put(ts, slot, ts->heap[slot / 2]);
  for (; (child = slot * 2) <= ts->count; slot = child) {
    if (child < ts->count && before(ts->heap[child + 1], ts->heap[child]))
      child++;
    if (!before(ts->heap[child], t))
      break;
    put(ts, slot, ts->heap[child]);
  }
  put(ts, slot, t);
}

static void take_out(struct timers *ts, struct timer *t)
{
  struct timer *last = ts->heap[ts->count--];

  if (last != t)
    settle(ts, t->slot, last);
  t->slot = 0;
}

/* Those armed from now on are for the next time, else a timer that arms itself
 * with 0 would never let go. */
static void fire_due(struct timers *ts, uint64_t now)
{
  uint64_t turns = ts->turns;

  while (ts->count && ts->heap[1]->due <= now && ts->heap[1]->turn <= turns) {
    struct timer *t = ts->heap[1];

    take_out(ts, t);
    t->fired(t);
  }
}

static void on_uv(uv_timer_t *uv);

/* Makes the uv_timer_t fire in time for the first timer, and not at all while
 * there is none, since it keeps the loop alive. */
static void schedule(struct timers *ts)
{
  uint64_t now, due;

  if (ts->is_virtual)
    return;
  if (!ts->count) {
    uv_timer_stop(&ts->uv);
    return;
  }
  due = ts->heap[1]->due;
  if (uv_is_active((uv_handle_t *)&ts->uv) && ts->wake <= due)
    return;
  now = timers_now(ts);
  uv_timer_start(&ts->uv, on_uv,
                 due > now ? (due - now - 1) / MS + 1 : 0, 0);
  ts->wake = due;
}

static void on_uv(uv_timer_t *uv)
{
  struct timers *ts = uv->data;

  fire_due(ts, timers_now(ts));
  schedule(ts);
}

int timers_init(struct timers *ts, uv_loop_t *loop, bool is_virtual)
{
  *ts = (struct timers){ .is_virtual = is_virtual };
  ts->uv.data = ts;
  return uv_timer_init(loop, &ts->uv);
}

void timers_close(struct timers *ts)
{
  while (ts->count)
    ts->heap[ts->count--]->slot = 0;
  free(ts->heap);
  ts->heap = NULL;
  ts->room = 0;
  uv_close((uv_handle_t *)&ts->uv, NULL);
}

uint64_t timers_now(const struct timers *ts)
{
  return ts->is_virtual ? ts->now : uv_now(ts->uv.loop) * MS;
}

uint64_t timers_clock(const struct timers *ts)
{
  return ts->is_virtual ? ts->now : uv_hrtime();
}

int timer_start(struct timers *ts, struct timer *t, uint64_t after)
{
  /* the loop's time may be old by now, and a sleep must not be short; but what
   * only lets others go first need not wait for the next millisecond */
  uint64_t now = after ? timers_clock(ts) : timers_now(ts);

  timer_stop(ts, t);
  if (ts->count + 1 >= ts->room) {
    size_t room = ts->room ? ts->room * 2 : 16;
    struct timer **heap = realloc(ts->heap, room * sizeof(*heap));

    if (!heap)
      return -ENOMEM;
    ts->heap = heap;
    ts->room = room;
  }
  t->due = after < UINT64_MAX - now ? now + after : UINT64_MAX;
  t->turn = ++ts->turns;
  settle(ts, ++ts->count, t);
  schedule(ts);
  return 0;
}

void timer_stop(struct timers *ts, struct timer *t)
{
  if (!t->slot)
    return;
  take_out(ts, t);
  if (!ts->count)
    schedule(ts);
}

uint64_t timers_next(const struct timers *ts)
{
  return ts->count ? ts->heap[1]->due : UINT64_MAX;
}

void timers_advance_to(struct timers *ts, uint64_t now)
{
  if (now > ts->now)
    ts->now = now;
  fire_due(ts, ts->now);
}

bool timers_advance(struct timers *ts)
{
  if (!ts->count)
    return false;
  timers_advance_to(ts, ts->heap[1]->due);
  return true;
}
