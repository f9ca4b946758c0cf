/* sim_ring.h - inside the simulated kernel: commands, data blocks, ring.
 *
 *   submit -> [waiting] -> on the ring -> finished -> sim_done() -> idle
 *
 * A command is always on one of these lists; idle ones keep their memory.  An
 * expired command leaves a copy among the finished and stays on the ring until
 * the consumer completes it.  Private to sim.c and sim_ring.c.
 */
#ifndef SIM_RING_H
#define SIM_RING_H

#include "abi.h"
#include "bits.h"
#include "ring.h"
#include "sim.h"

enum { SIM_IDS = 65535 };

/* SAM-5 5.3.1: status codes. */
enum {
  GOOD = 0x00, CHECK_CONDITION = 0x02, BUSY = 0x08, TASK_SET_FULL = 0x28,
  TASK_ABORTED = 0x40,
};

/* Sense key, additional sense code and qualifier that the kernel makes up. */
struct sim_sense {
  uint8_t key, asc, ascq;
};

extern const struct sim_sense sim_communication_failure;

/* Neighbouring data blocks: one iovec. */
struct run {
  uint32_t first, count;
};

struct cmd {
  struct cmd *prev, *next;
  uint64_t tag;
  uint16_t id;
  bool expired;
  uint8_t status;
  bool has_sense;
  size_t out_len, in_len, data_len;
  struct run *runs;
  uint32_t out_runs, all_runs, runs_room;       /* Data-Out comes first */
  unsigned char *buf;           /* Data-Out while it waits, then Data-In */
  size_t buf_room;
  size_t cdb_len;
  unsigned char cdb[RING_CDB_MAX];
  unsigned char sense[RING_SENSE_MAX];
};

struct cmd_list {
  struct cmd *first, *last;
};

struct tmr {
  struct tmr *next;
  uint32_t len, count;
  uint8_t type;
  uint16_t ids[];
};

struct sim {
  struct abi_mailbox *mb;
  unsigned char *map, *cmdr;
  size_t size, block;
  uint32_t cmdr_size;
  uint32_t head, cleaned;       /* where to write, where to look next */
  unsigned caps;
  int memfd, fd, kernel_fd;

  struct bits ids, blocks;
  struct cmd **by_id;
  struct cmd_list waiting, on_ring, finished, idle;
  struct cmd *shown;            /* what the last sim_done() gave */
  size_t finished_count;
  struct tmr *tmrs, **tmrs_end; /* waiting for space */

  uint64_t tag, writes;
  bool mute;                    /* no events are sent */
  int poison;
  bool blocked, broken;
  bool news;                    /* something was queued since the last kick */
};

/* Ends a command that is on no list. */
void sim_finish(struct sim *s, struct cmd *c, uint8_t status);
void sim_refuse(struct sim *s, struct cmd *c, const struct sim_sense *why);

/* Puts a command with its data into the ring, or ends it if it can never go
 * there.  Returns false if there is no room now; then it is on no list. */
bool sim_place(struct sim *s, struct cmd *c, const void *out);

/* The same for what waits, in order, notifications first. */
void sim_place_waiting(struct sim *s);

/* Takes a command off the ring: its id and blocks are free. */
void sim_forget(struct sim *s, struct cmd *c);

/* Ends what the consumer completed, up to cmd_tail. */
void sim_reap(struct sim *s);

void sim_prepend(struct cmd_list *l, struct cmd *c);
void sim_append(struct cmd_list *l, struct cmd *c);
struct cmd *sim_extract(struct cmd_list *l, struct cmd *c);

#endif
