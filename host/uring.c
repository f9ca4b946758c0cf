/* uring.c - see uring.h.  Built only where liburing is. */
#define _GNU_SOURCE 1
#include "uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "aio.h"

enum {
  COLLECTED_MAX = 256,          /* as many commands as one pass over a ring */
  LENGTH_MAX = 1 << 30,         /* in one iovec; the rest follows */
};

struct uring {
  struct io_uring ring;
  unsigned under_way, room;     /* calls that are not reaped yet */
  int event_fd;
  uv_poll_t poll;               /* referenced while calls are under way */
  void (*wake)(void *arg);
  void *arg;
};

/* Linux 6.18 sends a thread's workers home with its last ring, and a call that
 * the next ring makes at that moment is never carried out.  So a thread that has
 * had a ring keeps this one, which does nothing. */
static __thread int anchor = -1;

static void keep_workers(void)
{
  struct io_uring_params p = { .flags = 0 };

  if (anchor < 0)
    anchor = (int)syscall(SYS_io_uring_setup, 1, &p);
}

void uring_forget(void)
{
  if (anchor >= 0)
    close(anchor);
  anchor = -1;
}

static void on_event(uv_poll_t *h, int status, int events)
{
  struct uring *r = h->data;
  eventfd_t count;

  (void)status;
  (void)events;
  if (!eventfd_read(r->event_fd, &count))
    r->wake(r->arg);
}

/* Completions need not interrupt us: they are looked at in every turn. */
static int open_ring(struct io_uring *ring)
{
  struct io_uring_params p = {
    .flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
  };
  int rc = io_uring_queue_init_params(COLLECTED_MAX, ring, &p);

  if (rc == -EINVAL) {          /* Linux before 5.19 */
    p = (struct io_uring_params){ .flags = 0 };
    rc = io_uring_queue_init_params(COLLECTED_MAX, ring, &p);
  }
  return rc;
}

/* Linux 5.15 can be told how many workers there may be (before, a hung back
 * end could take them all), and has every feature that is needed here. */
static int open_event(struct uring *r)
{
  unsigned workers[2] = { URING_WORKERS, 0 };   /* 0: as they are */
  int rc = io_uring_register_iowq_max_workers(&r->ring, workers);

  if (rc)
    return rc;
  r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (r->event_fd < 0)
    return -errno;
  rc = io_uring_register_eventfd(&r->ring, r->event_fd);
  if (rc)
    close(r->event_fd);
  return rc;
}

int uring_open(uv_loop_t *loop, void (*wake)(void *arg), void *arg,
               struct uring **out)
{
  struct uring *r = calloc(1, sizeof(*r));
  int rc;

  *out = NULL;
  if (!r)
    return -ENOMEM;
  rc = open_ring(&r->ring);
  if (rc) {
    free(r);
    return rc;
  }
  rc = open_event(r);
  if (rc) {
    io_uring_queue_exit(&r->ring);
    free(r);
    return rc;
  }
  keep_workers();
  r->room = r->ring.cq.ring_entries;    /* every end finds a place */
  r->wake = wake;
  r->arg = arg;
  r->poll.data = r;
  uv_poll_init(loop, &r->poll, r->event_fd);
  uv_poll_start(&r->poll, UV_READABLE, on_event);
  uv_unref((uv_handle_t *)&r->poll);
  *out = r;
  return 0;
}

static void on_closed(uv_handle_t *h)
{
  struct uring *r = h->data;

  close(r->event_fd);
  free(r);
}

void uring_close(struct uring *r)
{
  if (!r)
    return;
  io_uring_queue_exit(&r->ring);
  uv_close((uv_handle_t *)&r->poll, on_closed);
}

bool uring_has_room(struct uring *r)
{
  return r->under_way < r->room && io_uring_sq_space_left(&r->ring);
}

bool uring_collected(struct uring *r)
{
  return io_uring_sq_ready(&r->ring);
}

/* A single iovec is spared the copy that the kernel makes of a list. */
static void prepare_move(struct io_uring_sqe *sqe, const struct aio_call *c)
{
  size_t n = c->iov->iov_len;

  if (c->verb == AIO_READ && c->iov_cnt == 1)
    io_uring_prep_read(sqe, c->fd, c->iov->iov_base,
                       n < LENGTH_MAX ? (unsigned)n : LENGTH_MAX, c->at);
  else if (c->verb == AIO_READ)
    io_uring_prep_readv(sqe, c->fd, c->iov, (unsigned)c->iov_cnt, c->at);
  else if (c->iov_cnt == 1)
    io_uring_prep_write(sqe, c->fd, c->iov->iov_base,
                        n < LENGTH_MAX ? (unsigned)n : LENGTH_MAX, c->at);
  else
    io_uring_prep_writev(sqe, c->fd, c->iov, (unsigned)c->iov_cnt, c->at);
  sqe->rw_flags = c->flags;
}

bool uring_put(struct uring *r, struct aio_call *c)
{
  struct io_uring_sqe *sqe = NULL;

  if (r->under_way < r->room)
    sqe = io_uring_get_sqe(&r->ring);
  if (!sqe)
    return false;
  switch (c->verb) {
  case AIO_READ:
  case AIO_WRITE:
    prepare_move(sqe, c);
    break;
  case AIO_SYNC:
    io_uring_prep_fsync(sqe, c->fd, IORING_FSYNC_DATASYNC);
    break;
  case AIO_ALLOCATE:
    io_uring_prep_fallocate(sqe, c->fd, c->flags, (off_t)c->at,
                            (off_t)c->length);
    break;
  }
  io_uring_sqe_set_data(sqe, c);
  if (!r->under_way++)
    uv_ref((uv_handle_t *)&r->poll);
  return true;
}

bool uring_submit(struct uring *r)
{
  while (io_uring_sq_ready(&r->ring))
    if (io_uring_submit(&r->ring) <= 0)
      return false;
  return true;
}

void uring_reap(struct uring *r)
{
  struct io_uring_cqe *cqe;

  while (r->under_way && !io_uring_peek_cqe(&r->ring, &cqe)) {
    struct aio_call *c = io_uring_cqe_get_data(cqe);
    int rc = cqe->res;

    io_uring_cqe_seen(&r->ring, cqe);
    if (!--r->under_way)
      uv_unref((uv_handle_t *)&r->poll);
    aio_done(c, rc);
  }
}
