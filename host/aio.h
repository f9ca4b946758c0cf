/* aio.h - system calls of stores that may wait, made beside the loop.
 *
 * All stores of a loop share a struct aio.  It makes the calls through
 * io_uring, those that one pass over the rings has brought together with one
 * system call; where io_uring is not to be had, libuv's threads make them.
 *
 * A lane is what one store has of it: so many calls at a time and no more, the
 * rest queue there, so that a back end that hangs cannot take from others what
 * their calls need (a thread of the pool, or a worker of the kernel's).
 *
 * Loop thread only.
 */
#ifndef AIO_H
#define AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <uv.h>

struct aio;
struct aio_call;
struct aio_lane;

enum aio_verb {
  AIO_READ,                     /* preadv2() */
  AIO_WRITE,                    /* pwritev2() */
  AIO_SYNC,                     /* fdatasync() */
  AIO_ALLOCATE,                 /* fallocate() */
};

struct aio_call {
  enum aio_verb verb;
  int fd;
  int flags;                    /* READ, WRITE: RWF_*; ALLOCATE: the mode */
  const struct iovec *iov;      /* lent until the end, at most IOV_MAX */
  int iov_cnt;
  uint64_t at, length;          /* length: ALLOCATE only */
  /* Asked just before the call is made, which may be long after it was started;
   * true: it is not made, and ends with -ECANCELED.  NULL: it always is. */
  bool (*lapsed)(const struct aio_call *call);
  /* What the system call returned, or -errno; never -EINTR. */
  void (*ended)(struct aio_call *call, ssize_t rc);

  struct aio_lane *lane;        /* the rest is private */
  STAILQ_ENTRY(aio_call) link;
  ssize_t rc;
  uv_work_t work;
};

/* Runs once, just before what was collected is submitted. */
struct aio_job {
  STAILQ_ENTRY(aio_job) link;
  void (*run)(struct aio_job *job);
};

STAILQ_HEAD(aio_calls, aio_call);

struct aio_lane {               /* private */
  struct aio *aio;
  struct aio_calls queue;
  unsigned running, width;
  bool threads;
  bool waiting;                 /* for room in the ring */
  TAILQ_ENTRY(aio_lane) link;
};

/* Joins the aio of `loop`, which the first lane makes.  `threads`: by libuv's
 * threads even if io_uring is to be had.  Returns 0 or -errno. */
int aio_open(struct aio_lane *lane, uv_loop_t *loop, bool threads);

/* Leaves; no call of the lane may be under way.  Harmless on a zeroed one. */
void aio_close(struct aio_lane *lane);

/* Starts a call; `ended` is called later, never from inside. */
void aio_start(struct aio_lane *lane, struct aio_call *call);

/* Runs `job` before the next submission. */
void aio_later(struct aio_lane *lane, struct aio_job *job);

/* The number of the turn that comes next; 0 if calls are not collected. */
unsigned aio_next_turn(const struct aio_lane *lane);

/* Submits what was collected on `loop` and ends what has been done; a few
 * instructions if there is nothing.  The loop does the same before it sleeps;
 * called earlier, its completions share in what the caller does next. */
void aio_turn(uv_loop_t *loop);

/* The calling thread, whose loop has ended, leaves for good. */
void aio_forget(void);

/* For the ring: `call` has been made, or declined. */
void aio_done(struct aio_call *call, ssize_t rc);

#endif
