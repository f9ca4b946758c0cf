/* timer.h - the deadlines and sleeps of one shard.
 *
 * A heap of intrusive timers over one uv_timer_t, with a clock that can be
 * virtual: then nothing sleeps, and timers_advance() jumps to the next one.
 * That is how the simulator runs an hour of waiting in a millisecond.
 */
#ifndef TIMER_H
#define TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct timer {
  uint64_t due;                 /* ns on the clock of its table */
  void (*fired)(struct timer *t);       /* set by the caller */
  void *arg;                    /* the caller's */
  size_t slot;                  /* 1.. while armed, 0 otherwise */
  uint64_t turn;                /* private: order among those due together */
};

struct timers {
  uv_timer_t uv;
  struct timer **heap;          /* 1-based */
  size_t count, room;
  bool is_virtual;
  uint64_t now;                 /* of the virtual clock */
  uint64_t turns;               /* how often a timer was armed */
  uint64_t wake;                /* when `uv` fires, if it is active */
};

/* `is_virtual`: time stands still until timers_advance(). */
int timers_init(struct timers *ts, uv_loop_t *loop, bool is_virtual);

/* Disarms all and closes the uv_timer_t; run the loop once more before freeing
 * `ts`. */
void timers_close(struct timers *ts);

/* Nanoseconds; the loop's own notion of now, so free of system calls, and as
 * old as this turn of the loop. */
uint64_t timers_now(const struct timers *ts);

/* The same, but as late as it is. */
uint64_t timers_clock(const struct timers *ts);

/* Arms `t` to fire `after` ns from now, never earlier, up to 2 ms later (libuv
 * counts in milliseconds), or with 0 in the next turn of the loop; arming again
 * moves it.  Timers fire in the order in which they are due, those due together
 * in the order of arming; each may start and stop any timer, and free its own.
 * Returns 0 or -ENOMEM. */
int timer_start(struct timers *ts, struct timer *t, uint64_t after);

/* Disarms; harmless on a timer that is not armed. */
void timer_stop(struct timers *ts, struct timer *t);

/* Virtual clock only: moves to the next timer and fires what is due.  False
 * if none is armed. */
bool timers_advance(struct timers *ts);

/* The same to a time that is known, if it is not over already. */
void timers_advance_to(struct timers *ts, uint64_t now);

/* When the next timer fires; UINT64_MAX if none is armed. */
uint64_t timers_next(const struct timers *ts);

#endif
