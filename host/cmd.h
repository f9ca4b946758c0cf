/* cmd.h - one SCSI command from the ring to its answer.
 *
 *   cmd_take --> (waits for its range) --> store or Lua --> cmd_finish
 *
 * A command is answered exactly once, and never while a store operation still
 * uses its data: the kernel gives the pages to another command the moment it
 * learns of the answer.  The range lock is held as long, so that a write that
 * was aborted or ran out of time cannot land after a newer one.
 */
#ifndef CMD_H
#define CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "lock.h"
#include "ring.h"
#include "scsi.h"
#include "shard.h"
#include "store.h"
#include "timer.h"

struct device;
struct task;

enum { CMD_IOV_INLINE = 8 };

struct cmd {
  TAILQ_ENTRY(cmd) link;        /* outstanding or free commands */
  struct job job;               /* goes on when its range is granted */
  struct device *dev;
  uint32_t token;               /* of the ring entry */
  uint16_t id;
  int cdb_len;
  unsigned char cdb[RING_CDB_MAX];

  struct iovec *iov;            /* Data-Out or Data-In */
  struct iovec *bidi;           /* Data-In of a bidirectional command */
  uint32_t iov_cnt, bidi_cnt;
  uint64_t data_len, bidi_len;
  char *first;                  /* byte of the data; stores change iovecs */
  struct iovec *iov_big;        /* room for more than the inline ones */
  uint32_t iov_room;
  struct iovec iov_inline[CMD_IOV_INLINE];

  struct scsi_range range;
  uint64_t offset, length;      /* bytes, where range.ranged */
  bool in_range;                /* they lie on the device */
  bool data_out;                /* known to be Data-Out: never zeroed */
  struct range_lock lock;

  struct task *task;            /* the coroutine that works on it */
  struct store_op op;           /* the fast path's */
  bool zeroed;                  /* Data-In was cleared before a part was set */
  bool touched;                 /* Data-In was written to */
  bool exact;                   /* a reply has to fill Data-In */
  uint64_t moved;               /* bytes of Data-In that are valid */
  uint64_t with_sense;          /* as many go out with CHECK CONDITION */
  int ud_ref;                   /* the Lua object, made on first need */
  bool swapped;                 /* its `data` is not the view at the moment */

  bool locks;                   /* its Lua code has taken range locks */

  bool expired, orphaned;
  int sense_len;
  unsigned char sense[RING_SENSE_MAX];
  uint64_t due;                 /* ns; deadline */
};

/* Takes an entry of the ring and gets it going. */
void cmd_take(struct device *d, const struct ring_cmd *entry);

/* Gives the final answer; c->moved says how much of Data-In is valid.  The
 * command is over on return. */
void cmd_finish(struct cmd *c, uint8_t status);

/* The same with CHECK CONDITION and sense made here; for what cannot be left
 * to Lua. */
void cmd_fail(struct cmd *c, int key, int asc, int ascq);

/* Hands the command to Lua's general answer for its opcode. */
void cmd_to_lua(struct cmd *c);

/* Lets Lua turn an errno of a store into sense, and finishes. */
void cmd_store_error(struct cmd *c, int rc);

/* Ends a command early: its coroutine is cancelled; it is answered as soon as
 * no store operation uses its data.  What the fast path does it finishes. */
void cmd_abort(struct cmd *c);

/* The ring was reset or the device is gone: nothing is to be answered. */
void cmd_orphan(struct cmd *c);

/* True if nothing about the CDB, its range and its size needs a closer look. */
bool cmd_is_plain(const struct cmd *c);

/* The command with this cmd_id, or NULL. */
struct cmd *cmd_by_id(struct device *d, uint16_t id);

/* The device's timer: ends what has run out of time. */
void cmd_deadline(struct timer *t);

/* Frees the pool of a device without outstanding commands. */
void cmd_pool_free(struct device *d);

/* fast.c: serves a plain READ, WRITE or SYNCHRONIZE CACHE from the store.
 * False: it is not that plain, Lua has to answer. */
bool fast_start(struct cmd *c);

#endif
