/* store.h - where blocks live, and what a store must offer.
 *
 * A store belongs to one shard and is used from its loop thread only.  Every
 * operation is a struct store_op that the caller keeps until it has ended.
 * What can be done at once is done inside store_submit(); the rest ends later
 * through op->done on the loop.  Data goes straight between the iovecs of the
 * caller and the store: nothing is copied on the way.  Operations under way at
 * the same time have no order among each other: overlaps are the caller's.
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <uv.h>

#include "aio.h"

struct store;
struct store_op;

enum store_verb {
  STORE_READ,                   /* fills the iovecs from `offset` */
  STORE_WRITE,                  /* writes them */
  STORE_FLUSH,                  /* all earlier ended writes become stable */
  STORE_DISCARD,                /* `length` bytes read as zeroes afterwards and
                                   give their space back where possible */
  STORE_ZERO,                   /* `length` bytes read as zeroes afterwards */
};

enum { STORE_VERBS = STORE_ZERO + 1 };

enum { STORE_PENDING = 1 };     /* store_submit(): `done` will be called */

struct store_op {
  enum store_verb verb;
  bool stable;                  /* WRITE, DISCARD, ZERO: on stable storage
                                   before it ends (FUA, or no write cache) */
  struct iovec *iov;            /* READ, WRITE: may be changed by the store
                                   (the caller lends it until the end) */
  int iov_cnt;
  uint64_t offset;              /* bytes */
  uint64_t length;              /* bytes; the iovecs' sum for READ and WRITE */
  void (*done)(struct store_op *op, int rc);    /* 0 or -errno */
  /* True: nobody needs it any more, and its iovecs are somebody else's: what is
   * not under way by then does not happen, and it ends with an error.  NULL:
   * that is never so. */
  bool (*lapsed)(const struct store_op *op);
  void *arg;                    /* the caller's */

  struct store *store;          /* the rest is the store's own */
  struct iovec *iov_now;        /* what is left of the iovecs */
  int iov_left;
  uint64_t at, left;

  STAILQ_ENTRY(store_op) link;  /* the rest is store_file.c's */
  struct aio_call call;
  bool dsync;                   /* the call under way is to be stable */
  bool alone;                   /* nothing else may be under way */
  int doubt;                    /* how a write with RWF_DSYNC failed */
  unsigned failures;            /* of syncs, when it began */
  unsigned step;
  struct iovec window;          /* the one iovec of a call */
  void *bounce;
};

/* What a store can say about itself. */
struct store_info {
  uint64_t size;                /* bytes */
  bool read_only;
  bool discards;                /* DISCARD gives space back (thin) */
  bool volatile_cache;          /* a write that is not `stable` can be lost */
  bool knows_used;
  uint64_t used;                /* bytes of space that it takes up, if known */
  uint32_t block;               /* preferred unit of change in bytes, or 0 */
};

/* Starts an operation; verb, stable, iov, iov_cnt, offset, length, done, lapsed
 * and arg are set by the caller.  Returns 0 or -errno when it ended already
 * (done is not called then), or STORE_PENDING.  A range beyond the end is
 * -ENXIO; a change to a read-only store is -EROFS; iovecs that do not add up
 * to `length` are -EINVAL; a READ never ends short: what is missing below the
 * end is -EIO.  After an error the bytes of the range are undefined, as on a
 * disk.  `done` may submit, and may close the store if nothing else is in
 * flight. */
int store_submit(struct store *s, struct store_op *op);

/* Fills in `out`.  Does not wait. */
void store_info(struct store *s, struct store_info *out);

/* True if byte `offset` takes up space, false if it only reads as zero; how
 * many bytes from there on are the same in *length, as far as can be told in
 * one step (0 only at the end of the store).  A store that cannot tell says
 * that all of it does.  Looks at tables, not at data, but a file system may
 * have to read them. */
bool store_mapped(struct store *s, uint64_t offset, uint64_t *length);

/* Makes the store `size` bytes long, for operations submitted from now on.  A
 * regular file grows; one that is longer keeps its length and shows less.  A
 * block device only checks (-ENOSPC).  Memory beyond the new end is forgotten.
 * Returns 0 or -errno.  Does not wait. */
int store_resize(struct store *s, uint64_t size);

/* Closes a store; harmless on NULL.  The caller guarantees that no operation
 * is in flight: none can be taken back once the kernel or a thread has it. */
void store_close(struct store *s);

/* Sparse memory: 64 KiB pages that exist once something has been written to
 * them, and whose memory goes back to the kernel when they are discarded.  A
 * WRITE that finds no memory ends with -ENOMEM. */
int store_memory_open(uv_loop_t *loop, uint64_t size, struct store **out);

/* Reads as zeroes, forgets what is written. */
int store_zero_open(uv_loop_t *loop, uint64_t size, struct store **out);

enum {
  STORE_FILE_READ_ONLY = 1 << 0,
  STORE_FILE_CREATE = 1 << 1,   /* make a sparse file of `size` if missing */
  STORE_FILE_DIRECT = 1 << 2,   /* O_DIRECT: past the page cache */
  STORE_FILE_READS_ASYNC = 1 << 3,      /* no READ on the loop */
  STORE_FILE_WRITES_ASYNC = 1 << 4,     /* no WRITE on the loop */
  STORE_FILE_WRITES_INLINE = 1 << 5,    /* every WRITE on the loop, which may
                                           have to wait for it */
  STORE_FILE_THREADS = 1 << 6,  /* by libuv's threads, not by io_uring */
};

/* A regular file or a block device.  A READ is answered on the loop if it comes
 * alone and the page cache has it, a WRITE if it would not wait, unless the
 * flags say otherwise; everything else is made beside the loop (aio.h).  `size`
 * is what the device needs, or 0 for the file's own; a smaller file is refused
 * with -ENOSPC, one that another device or process serves with -EBUSY.  Every
 * refusal leaves a sentence for people in `why`.  May wait: for the disk where
 * a file is created. */
int store_file_open(uv_loop_t *loop, const char *path, unsigned flags,
                    uint64_t size, char *why, size_t why_len,
                    struct store **out);

/* Makes what became of the name of a file survive a crash: that it is new, was
 * renamed or removed.  Waits for the disk.  Returns 0 or -errno. */
int store_sync_directory(const char *path);

/* -- For implementations ------------------------------------------------- */

/* One implementation.  submit: as store_submit(), with the range checked and
 * iov_now, iov_left, at and left set; never with nothing to do, except for
 * FLUSH.  resize may be NULL where any size will do, mapped (offset inside the
 * store; the length is cut at its end for it) where all is mapped.  expect, or
 * NULL: what is at `offset`, if that is inside, may be wanted soon. */
struct store_type {
  const char *name;
  int (*submit)(struct store *s, struct store_op *op);
  void (*expect)(struct store *s, uint64_t offset);
  void (*info)(struct store *s, struct store_info *out);
  int (*resize)(struct store *s, uint64_t size);
  bool (*mapped)(struct store *s, uint64_t offset, uint64_t *length);
  void (*close)(struct store *s);
};

/* The head of every store; the opener sets the first four. */
struct store {
  const struct store_type *type;
  uv_loop_t *loop;
  uint64_t size;
  bool read_only;
  unsigned in_flight;           /* operations that returned STORE_PENDING */
};

/* `n` bytes of a READ or WRITE have been moved. */
static inline void store_advance(struct store_op *op, size_t n)
{
  op->at += n;
  op->left -= n;
  while (op->iov_left && n >= op->iov_now->iov_len) {   /* empty ones too */
    n -= op->iov_now->iov_len;
    op->iov_now++;
    op->iov_left--;
  }
  if (n) {
    op->iov_now->iov_base = (char *)op->iov_now->iov_base + n;
    op->iov_now->iov_len -= n;
  }
}

/* Ends an operation that returned STORE_PENDING; the store may be gone
 * afterwards. */
void store_end(struct store_op *op, int rc);

#endif
