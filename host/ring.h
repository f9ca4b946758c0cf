/* ring.h - the consumer's half of a TCMU mailbox and command ring.
 *
 * Pure memory: no system call, no allocation in the steady state, no clock.
 * The kernel (or sim.c) produces entries at cmd_head; this reads them from a
 * private cursor, validates every length and offset before use, and releases
 * them at cmd_tail.  One thread per ring.
 *
 *      cmd_tail                 cursor                  cmd_head
 *   ------+-------------------------+-----------------------+------
 *         | taken, not yet released | written by the kernel |
 *   ------+-------------------------+-----------------------+------
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
  RING_VERSION = 2,             /* the only mailbox version that we speak */
  RING_CDB_MAX = 260,           /* opcode 7Fh: 8 + ADDITIONAL CDB LENGTH */
  RING_SENSE_MAX = 96,
};

/* Capability bits of the mailbox. */
enum {
  RING_CAP_OOOC = 1 << 0,       /* completions in any order */
  RING_CAP_READ_LEN = 1 << 1,   /* short data-in can be told */
  RING_CAP_TMR = 1 << 2,
  RING_CAP_KEEP_BUF = 1 << 3,
};

/* What ring_next() found. */
enum ring_event {
  RING_EMPTY,                   /* nothing new */
  RING_CMD,                     /* a command: `out` describes it */
  RING_TMR,                     /* a task management notification */
  RING_RESET,                   /* somebody reset the ring: every command that
                                   was taken before is void, the ring has been
                                   synchronised again */
  RING_BROKEN,                  /* not to be trusted any more, see ring_why();
                                   stays so until RING_RESET */
};

/* One command as the kernel wrote it.  `at` points into shared memory: fetch
 * CDB and iovecs with the calls below before anything else is completed. */
struct ring_cmd {
  uint32_t token;               /* names the entry to ring_complete() */
  uint32_t len;                 /* of the entry */
  uint16_t id;                  /* cmd_id; unique only while outstanding */
  uint32_t iov_cnt;             /* data (Data-Out of a bidirectional command) */
  uint32_t bidi_cnt;            /* Data-In of a bidirectional command */
  const unsigned char *at;
};

struct ring_tmr {
  uint8_t type;                 /* 1 ABORT TASK, 5 LUN RESET, ... */
  uint32_t count;
  const unsigned char *ids;     /* in shared memory, until ring_publish() */
};

union ring_entry {
  struct ring_cmd cmd;
  struct ring_tmr tmr;
};

/* How a command ended. */
struct ring_result {
  uint8_t status;               /* SAM status byte */
  bool has_read_len;            /* read_len counts; needs RING_CAP_READ_LEN */
  uint32_t read_len;            /* bytes of Data-In, not 0 */
  const unsigned char *sense;   /* for CHECK CONDITION; NULL: none */
  size_t sense_len;             /* cut to RING_SENSE_MAX */
};

struct ring;

/* Reads the mailbox at `map` (`len` bytes, mapped for the ring's life) and
 * makes a consumer that starts at cmd_tail.  Returns 0, or -ENOMEM or -EPROTO
 * with a sentence for people in `why` (an unknown version is named together
 * with ours; offsets or sizes that do not fit the mapping). */
int ring_new(void *map, size_t len, char *why, size_t why_len,
             struct ring **out);
void ring_free(struct ring *r);

/* RING_CAP_* of the mailbox. */
unsigned ring_caps(const struct ring *r);

/* Takes the next entry; looks at cmd_head (acquire) once all that was known is
 * taken.  PADs are skipped and unknown opcodes flagged UNKNOWN_OP in here. */
enum ring_event ring_next(struct ring *r, union ring_entry *out);

/* Copies the CDB, its length derived from the opcode as the kernel does
 * (SPC-4 4.2.5.1; vendor groups are 10 bytes).  Returns the length; of the 16
 * bytes that most have room in, those beyond it hold whatever lies behind.
 * -EPROTO: it does not lie inside the ring, which is broken from now on. */
int ring_cdb(struct ring *r, const struct ring_cmd *c,
             unsigned char cdb[RING_CDB_MAX]);

/* Copies `n` iovecs from number `first` on (Data-In of a bidirectional command
 * follows its Data-Out), turned into addresses.  Returns their total length.
 * -EPROTO: one reaches outside the data area, and the ring is broken from now
 * on.  -EINVAL: the command does not have so many. */
int64_t ring_iovecs(struct ring *r, const struct ring_cmd *c,
                    uint32_t first, uint32_t n, struct iovec *out);

/* The id at `i` (below `count`) of a TMR entry. */
uint16_t ring_tmr_id(const struct ring_tmr *t, uint32_t i);

/* Answers a command, exactly once for each that was taken: a second answer,
 * or one to a command taken before RING_RESET, changes nothing.  Becomes
 * visible with ring_publish(). */
void ring_complete(struct ring *r, uint32_t token, uint16_t id,
                   const struct ring_result *res);

/* Stores cmd_tail (release) past all that is finished.  Returns true if it
 * moved, so that one write() to the device is due; false also if the ring was
 * reset meanwhile, which the next ring_next() tells. */
bool ring_publish(struct ring *r);

/* Commands taken and not completed.  Counts them, for specs. */
uint32_t ring_outstanding(const struct ring *r);

/* True if the kernel has written entries that were not taken yet: one load,
 * for polling. */
bool ring_pending(const struct ring *r);

/* Bytes of the entries that were not taken yet.  A guess, to choose by and never
 * to reach by: cmd_head is taken at its word. */
uint32_t ring_backlog(const struct ring *r);

/* The cause of RING_BROKEN, to be followed by what to do about it. */
const char *ring_why(const struct ring *r);

#endif
