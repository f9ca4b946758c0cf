/* uring.h - one io_uring on a loop, the better back end of aio.c.
 *
 * Its eventfd wakes the loop, and keeps it alive while calls are under way.
 * Built in where liburing is; elsewhere there is none, which is no error.
 */
#ifndef URING_H
#define URING_H

#include <stdbool.h>
#include <uv.h>

struct aio_call;
struct uring;

enum {
  URING_WORKERS = 128,          /* threads in the kernel, at most, for calls
                                   that wait there */
};

#ifdef HAVE_LIBURING

/* `wake` is called when calls have been made.  Returns 0, or -errno where the
 * kernel has no io_uring that is good enough, or refuses it. */
int uring_open(uv_loop_t *loop, void (*wake)(void *arg), void *arg,
               struct uring **out);

/* No call may be under way.  Harmless on NULL. */
void uring_close(struct uring *r);

/* Collects a call for the next submission.  False: there is no room. */
bool uring_put(struct uring *r, struct aio_call *call);
bool uring_has_room(struct uring *r);

/* True while something waits to be submitted. */
bool uring_collected(struct uring *r);

/* Submits all that was collected.  False: the kernel takes no more for now. */
bool uring_submit(struct uring *r);

/* Hands what the kernel has done to aio_done(). */
void uring_reap(struct uring *r);

/* The calling thread leaves for good. */
void uring_forget(void);

#else

static inline int uring_open(uv_loop_t *loop, void (*wake)(void *arg),
                             void *arg, struct uring **out)
{
  (void)loop;
  (void)wake;
  (void)arg;
  *out = NULL;
  return 0;
}

static inline void uring_close(struct uring *r)
{
  (void)r;
}

static inline bool uring_put(struct uring *r, struct aio_call *call)
{
  (void)r;
  (void)call;
  return false;
}

static inline bool uring_has_room(struct uring *r)
{
  (void)r;
  return false;
}

static inline bool uring_collected(struct uring *r)
{
  (void)r;
  return false;
}

static inline bool uring_submit(struct uring *r)
{
  (void)r;
  return true;
}

static inline void uring_reap(struct uring *r)
{
  (void)r;
}

static inline void uring_forget(void)
{
}

#endif

#endif
