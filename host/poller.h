/* poller.h - waits for the next command awake, where sleeping would cost more.
 *
 * To wake a sleeping thread takes a few microseconds on hardware and up to a
 * millisecond on an emulated processor; an initiator that waits for each answer
 * pays that for every command.  So after an answer the shard looks at the ring
 * for a while before it sleeps:
 *
 *   answers told --> awake --window without a command--> asleep
 *                    ^   |                                  |
 *                    +---+ command             event of uio +--> ...
 *
 * The window follows what a wake-up costs on this machine, which is measured
 * once.  In POLL_AUTO a shard stays awake only as long as that pays.
 */
#ifndef POLLER_H
#define POLLER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

struct device;

TAILQ_HEAD(device_queue, device);

enum poll_mode {
  POLL_OFF,                     /* asleep between commands */
  POLL_ON,                      /* awake for `limit` after every answer */
  POLL_AUTO,                    /* awake where that has paid before */
};

struct poll_options {
  enum poll_mode mode;
  uint64_t limit;               /* ns; the longest window */
  uint64_t cost;                /* ns; of a wake-up, see poll_measure() */
};

struct poller {
  uv_idle_t spin;               /* active while awake */
  struct device_queue awaited;  /* they had an answer lately */
  bool on, automatic, awake;
  uint64_t window, slice;       /* ns */
  uint64_t last;                /* when the last answer was told */
  bool waits;                   /* has looked in vain since */
  int most;                     /* shards that may be awake at a time: one
                                   processor is left to the initiators */
  int credit;                   /* what staying awake has brought lately */
};

/* What it takes to wake a thread that sleeps in this process, in ns: a median,
 * from threads that live for some milliseconds.  0: there is one processor
 * only, so that nobody may stay awake, or nothing could be measured. */
uint64_t poll_measure(void);

/* Sets up a poller that never stays awake, on zeroed memory. */
void poll_init(struct poller *p, uv_loop_t *loop);

/* How long a shard with these options waits awake after an answer, in ns. */
uint64_t poll_window(const struct poll_options *options);

/* Before the loop runs.  A cost of 0 leaves it off. */
void poll_enable(struct poller *p, const struct poll_options *options);

void poll_close(struct poller *p);

/* An event has told of commands: would they have been worth a wait awake? */
void poll_woken(struct poller *p);

/* The kernel has been told of answers of `d`: the next command may be close. */
void poll_told(struct poller *p, struct device *d);

/* The ring of `d` is not to be looked at any more. */
void poll_forget(struct poller *p, struct device *d);

#endif
