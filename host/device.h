/* device.h - the life of one TCMU device on its shard.
 *
 * Owns the descriptor, the mapping, the ring, the commands in flight and the
 * Lua side of the device.
 *
 *   device_add --> OPENING --> LIVE --> CLOSING --> (freed)
 *                     |          |         ^
 *                     +-refused--+-parked--+
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "lock.h"
#include "ring.h"
#include "shard.h"
#include "task.h"
#include "timer.h"

struct cmd;
struct message;
struct state;
struct store;

enum device_phase {
  DEVICE_OPENING,               /* the handler's open is running */
  DEVICE_LIVE,
  DEVICE_DRAINING,              /* a clean stop: waits for what is in flight */
  DEVICE_CLOSING,               /* the handler's close is running */
};

/* Who answers an opcode first. */
enum route {
  ROUTE_LUA,                    /* routes[opcode] of the device's Lua side */
  ROUTE_READY,                  /* GOOD, at once: TEST UNIT READY */
  ROUTE_STORE,                  /* fast.c, from the store */
  ROUTE_READ,                   /* the handler's read, entered directly */
  ROUTE_WRITE,                  /* the handler's write, likewise */
};

TAILQ_HEAD(cmd_queue, cmd);

/* What a device reports, once for each request.  status: 0 or -errno; `last`:
 * the device does not exist any more. */
typedef void device_report(void *arg, int64_t id, const char *verb,
                           int status, const char *why, bool last);

struct device {
  LIST_ENTRY(device) link;              /* of the shard */
  LIST_ENTRY(device) dirty_link;
  TAILQ_ENTRY(device) unfinished_link;
  TAILQ_ENTRY(device) awaited_link;
  bool dirty, unfinished, awaited;
  bool listening;               /* events of its ring are of interest */
  bool draining;                /* device_drain() is at work */

  struct shard *shard;
  struct state *state;
  int64_t id;                   /* control's */
  char *name;                   /* "user_0/disk1", for the log */
  enum device_phase phase;
  bool parked;                  /* the ring is broken */
  bool gone;                    /* the kernel has removed it: no completions */
  bool settling;                /* commands that a reset of the ring has dropped
                                   were at work since, or are: none is begun */
  device_report *report;
  void *report_arg;

  int fd;
  void *map;
  size_t map_len;
  struct ring *ring;
  uv_poll_t poll;
  unsigned long writes;         /* write() calls made */
  uint64_t untold;              /* bytes of data of commands that were answered
                                   since */
  unsigned ops;                 /* store operations in flight */

  uint64_t size;                /* bytes */
  uint32_t block_size;
  unsigned block_shift;
  uint64_t max_blocks;          /* in one READ or WRITE */
  uint64_t max_unmap, max_same; /* blocks in one UNMAP or WRITE SAME */
  bool read_only, write_cache, descriptor_sense;
  char *designators;            /* page 83h, by which others find it */
  size_t designators_len;
  bool has_flush;               /* the handler's, after stable writes */
  unsigned long resets;         /* LUN RESETs that the kernel told of */
  bool held;                    /* what comes waits: see hold.h */
  struct task *holder;          /* waits until what came before is over */
  bool attention;               /* the next command goes through Lua, which
                                   has a unit attention to raise */
  struct store *store;          /* NULL: Lua serves the data */
  unsigned char route[256];
  struct device **handle;       /* what Lua holds; revoked at the end */
  int handle_ref;
  int dev_ref, routes_ref, read_ref, write_ref, self_ref, store_ref;
  uint64_t binding;             /* of those to it; another one if they change */

  struct cmd **by_id;           /* outstanding commands by cmd_id */
  uint32_t by_id_room;
  struct cmd_queue outstanding; /* oldest first: also the order of deadlines */
  struct cmd_queue free_cmds;
  struct lock_table locks;
  LIST_HEAD(lua_lock_list, lock_ud) lua_locks;  /* Lua code has taken them */
  struct task_list tasks;       /* tcmu.spawn and the like */
  LIST_HEAD(open_store_list, store_ud) stores; /* opened for this device */
  struct task *busy;            /* the open, close or change that runs */
  const char *busy_verb;
  struct job next_change;
  STAILQ_HEAD(change_list, message) changes;      /* waiting for it to end */
  uint64_t time_out;            /* ns for a command; 0: no limit */
  struct timer deadline;
  struct timer stop_limit;
  bool removing;                /* "remove" or "stop" was asked for */
  const char *end_verb;         /* how the end is reported */
  int end_rc;
  char *end_why;
};

/* Starts to open the device that `m` describes ("add"): maps the ring and runs
 * the handler's open.  `fd` is the device's descriptor, or -1 to open the path
 * in the message.  Reports "add" in any case. */
void device_add(struct shard *s, struct message *m, int fd,
                device_report *report, void *arg);

/* The device with control's number, or NULL. */
struct device *device_find(struct shard *s, int64_t id);

/* Another request for a device: "remove", "stop", "size", "config",
 * "write_cache", "wwn", "prepare", "reload" and others.  Takes the message over and reports its verb. */
void device_change(struct device *d, struct message *m);

/* The kernel gives up a command after so many seconds; 0: never.  We end it
 * just before. */
void device_set_time_out(struct device *d, unsigned seconds);

/* While it is being drained or removed: the last command has been answered, or
 * a store operation has ended. */
void device_quiet(struct device *d);

/* Tells control; the device lives on. */
void device_report_to(struct device *d, const char *verb, int rc,
                      const char *why);

/* -- device_ring.c ------------------------------------------------------- */

/* Takes what comes from now on; nothing any more. */
void device_listen(struct device *d);
void device_ignore(struct device *d);

/* Takes what is in the ring, a bounded part of it.  Returns the most that was
 * there together: what comes once an answer was told counts anew. */
int device_drain(struct device *d);

/* The ring was reset, or the device is gone: nothing that was taken is to be
 * answered. */
void device_orphan_all(struct device *d);

/* Publishes completions and tells the kernel. */
void device_flush(struct device *d);
void device_enlist_dirty(struct device *d);

static inline void device_mark_dirty(struct device *d)
{
  if (!d->dirty)
    device_enlist_dirty(d);
}

#endif
