/* shard.h - one event loop and all that lives on it.
 *
 * A shard owns its devices, their Lua states, their commands and their store
 * I/O completely: nothing here is locked.  It is run by a thread of its own
 * (shards.c) or by whoever calls shard_turn() (the simulator, specs).
 *
 * Work that becomes possible while something else is going on is queued as a
 * job, so that no Lua code is ever entered from inside other Lua code and no
 * completion recurses into the next command.
 */
#ifndef SHARD_H
#define SHARD_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "gather.h"
#include "place.h"
#include "poller.h"
#include "timer.h"

struct device;
struct peer;
struct state;

/* A piece of work for later on the same shard. */
struct job {
  TAILQ_ENTRY(job) link;
  void (*run)(struct job *j);
  bool queued;
};

TAILQ_HEAD(job_list, job);
LIST_HEAD(device_list, device);
LIST_HEAD(state_list, state);

/* Bytes.  Of 4 KiB commands so many that a system call, or a wake-up, for all
 * of them is what counts; next to a copy of this size neither does. */
enum { SHARD_MUCH_DATA = 1 << 19 };

struct shard {
  uv_loop_t loop;
  struct timers timers;
  uv_prepare_t prepare;         /* settles before the loop sleeps */
  uv_idle_t busy;               /* keeps the loop from sleeping */
  struct poller poller;
  struct place place;
  struct gather gather;
  int brought;                  /* commands, by the events of this turn */
  unsigned alone;               /* wake-ups since one has brought several */
  uint64_t served;              /* commands in all */
  bool unanswered;              /* not all that were taken lately have ended */
  uint64_t told;                /* bytes of data of the answers lately */
  struct job_list jobs;
  struct device_list devices;
  struct device_list dirty;     /* completions to be told to the kernel */
  struct device_queue unfinished;       /* rings left by a bounded drain */
  struct state_list states;
  bool stirred;                 /* a state's luv loop wants a turn */
  size_t memory_limit;          /* bytes for each Lua state; 0: none */
  bool no_fast_path;
  void *scratch;                /* fast.c's, made when it is needed */
  bool third_party;             /* a device may have others read and written */
  struct peer *peer;            /* its end of what shards write to each other */
};

/* Sets the shard up on zeroed memory.  Returns 0 or -errno. */
int shard_init(struct shard *s, bool is_virtual);

/* Closes the loop; every device and state must be gone. */
void shard_fini(struct shard *s);

/* Runs `j` once, soon, on this shard; harmless if it is queued already. */
void shard_later(struct shard *s, struct job *j);

/* Takes `j` out of the queue; harmless if it is not in it. */
void shard_forget(struct shard *s, struct job *j);

/* Runs the jobs, a bounded number of them, the luv loops that want it, and
 * then tells the kernel of every completion that it does not know of: one
 * write() per device. */
void shard_settle(struct shard *s);

/* An event has told of commands: so many that were there together. */
void shard_woken(struct shard *s, int together);

/* What an event has told of is served: whoever wants this processor has it for a
 * moment, if commands have come several at a time lately. */
void shard_give_way(struct shard *s);

/* The ring of `d` holds more: go on with it in a later turn of the loop. */
void shard_unfinished(struct shard *s, struct device *d);

/* One turn of the loop, for a shard without a thread.  `wait`: sleep until
 * something happens.  Returns false if nothing is under way but what the
 * virtual clock will end. */
bool shard_turn(struct shard *s, bool wait);

#endif
