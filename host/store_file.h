/* store_file.h - a file being served: shared by its opening and its serving.
 *
 * What differs between file systems is found out when the file is opened and
 * kept here as data.
 */
#ifndef STORE_FILE_H
#define STORE_FILE_H

#include <stdatomic.h>

#include "store_pool.h"

enum { FILE_NEVER = -1 };

struct file {
  struct store base;
  struct store_pool pool;

  /* One open file description per slot of the pool, since the kernel tells of
   * lost writes once per description: of two syncs at the same time on a
   * shared one, the second would hear that all is well.  The loop uses the
   * first.  In memory there is only that. */
  int fd[STORE_POOL_WIDTH];

  /* How each verb is tried on the loop before it goes to the pool: 0, it ends
   * there; RWF_NOWAIT, unless it would wait; FILE_NEVER, not at all. */
  int inline_flags[STORE_VERBS];

  bool is_device;
  bool in_memory;               /* tmpfs: never waits, nothing to be stable */
  bool discards;
  uint32_t block;

  atomic_bool no_dsync;         /* RWF_DSYNC is refused here */
  atomic_bool lost;             /* a sync failed: see sync_failed() */
};

/* Serving, by store_file.c.  The opener has filled in the rest. */
extern const struct store_type store_file_type;
int store_file_run(struct store *s, struct store_op *op, unsigned slot);

#endif
