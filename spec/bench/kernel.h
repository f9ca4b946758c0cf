/* kernel.h - the kernel's half of a TCMU device for measuring: the least that
 * keeps the rules of the mailbox.
 *
 * host/sim.c is the faithful one and copies data, keeps lists and waits for
 * space; its own cost would hide what is measured here.  This one writes
 * entries (PAD at the wrap, ids in any order, head released after the entry)
 * and takes completions back, and nothing else.  A command's data lies where
 * its id says.  One thread; the consumer may be another, or a process that
 * maps the memfd (shim.c).
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct kernel {
  struct abi_mailbox *mb;
  unsigned char *map, *cmdr;
  size_t size;                  /* of the memfd */
  uint32_t cmdr_size, head, cleaned;
  int memfd;
  int fd;                       /* in place of /dev/uioN, not blocking */
  int kernel_fd;                /* the other end, blocking */

  size_t io_max;                /* bytes of data of one command */
  uint32_t ids, idle;           /* how many, and how many of them are free */
  uint16_t *idle_ids;
  bool *out;                    /* by id: given to the consumer */
  uint64_t done, failed;        /* answers, and those that were not GOOD */
  uint64_t writes;              /* write() calls of the consumer */
  bool broken;                  /* an answer to something unknown */
};

struct kernel_options {
  size_t ring_size;             /* mailbox and ring, bytes, whole pages */
  size_t io_max;                /* bytes, whole pages */
  uint32_t depth;               /* commands that may be out at once */
};

/* Returns 0 or -errno. */
int kernel_new(const struct kernel_options *o, struct kernel **out);
void kernel_free(struct kernel *k);

/* Drops the own mapping: the device will stay idle, and its memory is to be
 * counted without the kernel's. */
void kernel_forget(struct kernel *k);

/* Puts a command with `len` bytes of data into the ring; false: no id or no
 * room. */
bool kernel_put(struct kernel *k, const unsigned char *cdb, size_t cdb_len,
                size_t len);

/* Tells the consumer.  `merge`: not if it has an event to read yet, as with
 * the counter of a real UIO device. */
void kernel_kick(struct kernel *k, bool merge);

/* Takes what cmd_tail says is answered; returns how many commands that were. */
uint32_t kernel_reap(struct kernel *k);

/* Waits for a write() of the consumer and takes it. */
void kernel_wait(struct kernel *k);

/* Takes up to `most` of those that are there. */
void kernel_hear(struct kernel *k, unsigned most);

#endif
