/* cmd.h - one SCSI command from the ring to its answer.
 *
 *   cmd_take --+--> (waits for its range) --> store or Lua --> cmd_finish
 *              |
 *              +--> store, at once
 *
 * A command that the store or Lua answers at once is never enlisted: nobody
 * could ask for it.  A command is answered exactly once, and never while a
 * store operation still uses its data: the kernel gives the pages to another
 * command the moment it learns of the answer.  The range lock is held as long,
 * so that a write that was aborted or ran out of time cannot land after a newer
 * one.
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
  struct device *dev;
  uint32_t token;               /* of the ring entry */
  uint16_t id;
  bool in_range;                /* the range lies on the device */
  bool data_out;                /* known to be Data-Out: never zeroed */

  bool zeroed;                  /* Data-In was cleared before a part was set */
  bool touched;                 /* Data-In was written to */
  bool exact;                   /* a reply has to fill Data-In */
  bool locks;                   /* its Lua code has taken range locks */
  bool held;                    /* has not begun: its device is held */
  bool expired, orphaned;
  bool enlisted;                /* it waits, or is about to: can be found */
  int sense_len;
  uint64_t moved;               /* bytes of Data-In that are valid */
  uint64_t with_sense;          /* as many go out with CHECK CONDITION */

  struct scsi_range range;
  uint64_t offset, length;      /* bytes, where in_range */
  struct iovec *iov;            /* Data-Out or Data-In */
  struct iovec *bidi;           /* Data-In of a bidirectional command */
  uint32_t iov_cnt, bidi_cnt;
  uint64_t data_len, bidi_len;
  char *first;                  /* byte of the data; stores change iovecs */
  struct iovec iov_inline[CMD_IOV_INLINE];
  struct iovec *iov_big;        /* room for more than the inline ones */
  uint32_t iov_room;

  int cdb_len;
  unsigned char cdb[RING_CDB_MAX];
  unsigned char sense[RING_SENSE_MAX];

  struct store_op op;           /* the fast path's */
  struct range_lock lock;
  struct job job;               /* goes on when its range is granted */
  struct task *task;            /* the coroutine that works on it */
  int ud_ref;                   /* the Lua object, made on first need */
  uint64_t due;                 /* ns; deadline */
};

/* Begins with a command, now or once its range is free; in that case, or if it
 * has to wait for anything else, it is enlisted on return. */
void cmd_begin(struct cmd *c);

/* The same with one that was held. */
void cmd_release(struct cmd *c);

/* From now on the command can be found, and runs out of time. */
void cmd_enlist(struct cmd *c);

/* Answers a command that is not enlisted. */
void cmd_answer(struct cmd *c, uint8_t status);

/* Gives the final answer; c->moved says how much of Data-In is valid.  The
 * command is over on return. */
void cmd_finish(struct cmd *c, uint8_t status);

/* The same with CHECK CONDITION and sense made here; for what cannot be left
 * to Lua. */
void cmd_fail(struct cmd *c, int key, int asc, int ascq);

/* Ends a command early: its coroutine is cancelled; it is answered as soon as
 * no store operation uses its data.  What the fast path does it finishes. */
void cmd_abort(struct cmd *c);

/* The ring was reset or the device is gone: nothing is to be answered. */
void cmd_orphan(struct cmd *c);

/* True if the ring was reset, whether or not a drain has seen that yet: the
 * data may be another command's. */
bool cmd_is_void(const struct cmd *c);

/* The command with this cmd_id, or NULL. */
struct cmd *cmd_by_id(struct device *d, uint16_t id);

/* The device's timer: ends what has run out of time. */
void cmd_deadline(struct timer *t);

/* Frees the pool of a device without outstanding commands. */
void cmd_pool_free(struct device *d);

/* A store operation of fast_submit() has ended: 0 or -errno. */
void cmd_stored(struct cmd *c, int rc);

/* What fast_submit() has made of a command; false: nothing. */
bool cmd_served(struct cmd *c, int rc);

/* True if the range is the command's; it begins later by itself otherwise. */
bool cmd_hold_range(struct cmd *c);

/* One more slot for the pool; NULL: there is no memory. */
struct cmd *cmd_slot_new(struct device *d);

/* -- cmd_take.c ------------------------------------------------------------ */

/* The store has done what a command asked for. */
static inline void cmd_set_moved(struct cmd *c)
{
  c->moved = c->range.kind == SCSI_READ ? c->data_len : 0;
}

/* Takes up to `most` commands out of the ring, each as far as it goes at once,
 * and returns how many.  *event is RING_CMD if there may be more; otherwise it
 * is what has come instead, with *out, as ring_next() says. */
int cmd_take(struct device *d, int most, enum ring_event *event,
             union ring_entry *out);

/* -- cmd_lua.c ------------------------------------------------------------- */

/* Hands the command to Lua's general answer for its opcode.  It is enlisted on
 * return, or over. */
void cmd_to_lua(struct cmd *c);

/* Enters the handler's read or write without its Lua dispatcher; false if the
 * command is not plain enough for that. */
bool cmd_enter(struct cmd *c);

/* Lets Lua turn an errno of a store into sense, and finishes. */
void cmd_store_error(struct cmd *c, int rc);

/* -- fast.c ---------------------------------------------------------------- */

/* True if nothing about the CDB, its range and its size needs a closer look. */
bool cmd_is_plain(const struct cmd *c);

enum { FAST_NOT = 2 };          /* beside what store_submit() returns */

/* Lets the store do what a plain command asks for.  Returns what
 * store_submit() does, with cmd_stored() to come after STORE_PENDING; or
 * FAST_NOT: it is not that plain, Lua has to answer. */
int fast_submit(struct cmd *c);

/* Finds the range of an UNMAP with a single block descriptor and makes it the
 * command's; anything else is left for Lua. */
void fast_unmap_range(struct cmd *c);

#endif
