/* store_file.h - a file being served: shared by its opening and its serving.
 *
 * What differs between file systems is found out when the file is opened and
 * kept here as data.
 */
#ifndef STORE_FILE_H
#define STORE_FILE_H

#include <sys/stat.h>

#include "store.h"

/* How a READ or WRITE is tried on the loop. */
enum file_way {
  FILE_ASYNC,                   /* not at all */
  FILE_TRY,                     /* with RWF_NOWAIT */
  FILE_INLINE,                  /* its data move there */
};

STAILQ_HEAD(file_ops, store_op);

struct file {
  struct store base;
  struct aio_lane lane;

  /* Two open file descriptions, since the kernel tells of lost writes once per
   * description: of two syncs at the same time on a shared one, the second
   * would hear that all is well.  `data` reads and writes, and has at most one
   * write with RWF_DSYNC at a time; `fd` does the rest, and has at most one
   * fdatasync(). */
  int fd, data;

  enum file_way reads, writes;
  unsigned turn, reads_in_turn; /* of aio.h; how many came before it */
  bool collects;                /* so many that one call for all is cheaper */
  bool is_device;
  bool in_memory;               /* tmpfs: nothing to be stable */
  bool discards;
  uint32_t block;
  uint32_t page;                /* of a block device's page cache; else 0 */
  uint32_t align;               /* O_DIRECT: of ranges; else 0 */
  uint32_t align_memory;

  bool no_dsync;                /* RWF_DSYNC is refused here */
  bool lost;                    /* a sync failed: see file_sync_failed() */
  unsigned failures;            /* of syncs */

  struct file_ops synced, unsynced;     /* by the sync under way, by the next */
  bool syncing, sync_wanted;
  struct aio_call sync;
  struct aio_job sync_job;

  struct file_ops gate;         /* O_DIRECT: those that may not start yet */
  unsigned entered;
  bool alone;                   /* what has entered keeps all others out */
};

/* -- store_file.c: serving ----------------------------------------------- */

/* Zeroed memory becomes a file that can be closed; the opener fills it in. */
void file_init(struct file *f);

/* Starts an operation beside the loop, or goes on with it. */
void file_move_on(struct file *f, struct store_op *op);

/* True: nothing more is to be done for the operation that the call is of. */
bool file_lapsed(const struct aio_call *call);

/* `n` bytes of any operation are done. */
void file_advance(struct store_op *op, size_t n);

/* -- store_clear.c: DISCARD and ZERO ------------------------------------- */

/* Begins to clear what is left, or a part of it; false: that, or what comes
 * before more can be cleared, has to be written. */
bool file_clear(struct file *f, struct store_op *op);

/* Sets the iovecs of op->call to zeroes for that: in whole pieces, and then for
 * what is left. */
void file_fill_zeroes(const struct file *f, struct store_op *op);

/* -- store_file_look.c: what differs between file systems ---------------- */

/* Each fills in what it finds out about an opened file; 0 or -errno. */
int file_look_device(struct file *f, dev_t dev);
int file_look_file(struct file *f, const struct stat *st);
void file_look_direct(struct file *f, dev_t dev);
void file_look_ways(struct file *f, unsigned flags);

/* -- store_sync.c: what it takes to be stable ---------------------------- */

void file_sync_init(struct file *f);

/* The data part of an operation has ended; its sync may follow. */
void file_moved(struct file *f, struct store_op *op, int rc);

/* The data of an operation is there; it ends when a sync that begins from now
 * on has.  STORE_PENDING. */
int file_want_sync(struct file *f, struct store_op *op);

/* A sync has failed: what was not stable is lost. */
void file_sync_failed(struct file *f);

/* -- store_direct.c: what differs with O_DIRECT -------------------------- */

/* As submit() of a store. */
int direct_submit(struct file *f, struct store_op *op);

/* An operation leaves; others may start in its place. */
void direct_leave(struct file *f);

/* True if what is left cannot be moved as it is. */
bool direct_misaligned(const struct file *f, const struct store_op *op);

/* Moves it by way of memory that is aligned. */
void direct_bounce(struct file *f, struct store_op *op);

static inline struct store_op *file_op(struct aio_call *call)
{
  return (struct store_op *)((char *)call - offsetof(struct store_op, call));
}

#endif
