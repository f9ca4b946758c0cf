/* shards.h - the shards' threads, and how control talks to them.
 *
 * Each shard runs in a thread of its own.  Control sends messages into its
 * inbox (uv_async) and takes reports out of one common outbox, whose eventfd
 * control can poll.  Nothing else is shared.
 */
#ifndef SHARDS_H
#define SHARDS_H

#include <stdbool.h>
#include <stddef.h>

#include "poller.h"

struct message;
struct shards;

struct shards_options {
  unsigned count;               /* threads */
  size_t memory_limit;          /* bytes for each Lua state; 0: none */
  bool no_fast_path;
  bool third_party;             /* devices may have each other read, written */
  struct poll_options poll;     /* the cost is measured */
};

/* Starts the threads.  Returns 0 or -errno. */
int shards_start(const struct shards_options *options, struct shards **out);

/* Ends them; false, and nothing is freed, if devices are still there. */
bool shards_stop(struct shards *s);

unsigned shards_count(const struct shards *s);

/* Readable while reports wait. */
int shards_fd(const struct shards *s);

/* Hands a message to shard `index` (from 0), which frees it. */
void shards_send(struct shards *s, unsigned index, struct message *m);

/* The next report, to be freed by the caller; NULL: none. */
struct message *shards_receive(struct shards *s);

#endif
