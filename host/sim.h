/* sim.h - the kernel's half of a TCMU device, in process.
 *
 * A memfd stands for the memory behind /dev/uioN and one end of a socket pair
 * for the file itself: it is polled for input, a read() of four bytes takes an
 * event, a write() of four bytes announces completions.  The rules are the
 * kernel's (ids and data blocks lowest first, PAD at the wrap, commands that
 * wait for space, expired ones that stay in the ring, ...), so that a consumer
 * cannot tell the difference.  No clock: the caller says what expires.
 * One thread; the consumer may be another.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

struct sim_options {
  size_t ring_size;             /* mailbox and ring, bytes, whole pages */
  size_t data_size;             /* bytes, whole blocks */
  unsigned block_pages;         /* pages of 4 KiB in a data block */
  unsigned caps;                /* RING_CAP_* that the mailbox shows */
  unsigned version;             /* that the mailbox shows */
};

/* 8 MiB of ring as in the kernel, 64 MiB of data, all capabilities. */
extern const struct sim_options sim_defaults;

/* What an initiator sends.  Both lengths set: a bidirectional command. */
struct sim_request {
  const unsigned char *cdb;
  size_t cdb_len;               /* cut or filled up to what the opcode says */
  const void *out;              /* Data-Out; NULL: whatever the blocks hold */
  size_t out_len;
  size_t in_len;                /* expected length of Data-In */
};

/* What it gets.  The pointers hold until the next sim_done(). */
struct sim_result {
  uint64_t tag;
  uint8_t status;               /* SAM status byte */
  const unsigned char *sense;   /* 96 bytes with CHECK CONDITION, or NULL */
  const unsigned char *data;
  size_t data_len;
};

/* Returns 0, -EINVAL for sizes that are no whole pages or blocks, or what
 * memfd_create(), mmap() or socketpair() failed with. */
int sim_new(const struct sim_options *options, struct sim **out);
void sim_free(struct sim *s);   /* closes its descriptors; harmless on NULL */

/* In place of /dev/uioN, non-blocking.  It stays the sim's: dup() it to keep
 * it longer.  After sim_free() a write() to it raises SIGPIPE. */
int sim_fd(const struct sim *s);

/* The memory behind it, to be mapped with sim_size() bytes from offset 0. */
int sim_memfd(const struct sim *s);
size_t sim_size(const struct sim *s);
unsigned char *sim_map(const struct sim *s);    /* the sim's own mapping */

/* Queues a command and returns its tag, or 0 when memory is out.  One that is
 * refused (blocked, broken, too large) finishes at once. */
uint64_t sim_submit(struct sim *s, const struct sim_request *q);

/* Tells the consumer about what was queued: one event for any number. */
void sim_kick(struct sim *s);

/* Takes in the completions that the consumer has announced and queues commands
 * that waited for space (and kicks).  Returns how many commands sim_done() has
 * to give.  Never waits. */
size_t sim_collect(struct sim *s);

/* The next finished command, in the order in which they ended. */
bool sim_done(struct sim *s, struct sim_result *out);

/* Queues a task management notification (and kicks) that names those of the
 * `n` tags that are in the ring; tags == NULL: all that are.  They still have
 * to be answered.  Commands that wait for space end with TASK ABORTED.
 * Without RING_CAP_TMR there is no notification.  Returns 0 or -ENOMEM. */
int sim_tmr(struct sim *s, uint8_t type, const uint64_t *tags, size_t n);

/* The time of a command is over: the initiator has its answer, while the
 * entry keeps id and data until it is completed.  Returns 0 or -ENOENT. */
int sim_expire(struct sim *s, uint64_t tag);

/* action/reset_ring: 1 ends what is outstanding with BUSY, 2 with CHECK
 * CONDITION. */
void sim_reset(struct sim *s, int kind);

/* action/block_dev: BUSY for all that is not in the ring yet. */
void sim_block(struct sim *s, bool on);

/* While `mute` no event tells of a command: it is on its way, as it may be on
 * a real machine for as long as a processor takes to wake up. */
void sim_mute(struct sim *s, bool mute);

/* From now on every block is filled with `byte` before a command gets it, so
 * that stale data shows; -1: blocks keep what they held, as in the kernel. */
void sim_poison(struct sim *s, int byte);

/* True after the consumer completed something unknown: nothing is accepted
 * until sim_reset(). */
bool sim_broken(const struct sim *s);

/* write() calls of the consumer that sim_collect() has seen. */
uint64_t sim_writes(const struct sim *s);

#endif
