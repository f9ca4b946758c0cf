/* store_pool.h - the operations of one store in libuv's thread pool.
 *
 * The pool belongs to the whole process, so a store may have two operations
 * in it and no more; the rest queue here.  One back end that hangs then cannot
 * take all threads.  Loop thread only, except for `run`.
 */
#ifndef STORE_POOL_H
#define STORE_POOL_H

#include "store.h"

enum { STORE_POOL_WIDTH = 2 };

struct store_pool {
  /* Does the operation in a thread of the pool and may wait; 0 or -errno.
   * `slot`, below STORE_POOL_WIDTH, is no other running operation's. */
  int (*run)(struct store *s, struct store_op *op, unsigned slot);

  struct store_op *first, *last;        /* private: those that queue */
  bool busy[STORE_POOL_WIDTH];
};

/* Takes an operation whose `store` is set; always STORE_PENDING.  It ends
 * through store_end(). */
int store_pool_submit(struct store_pool *p, struct store_op *op);

#endif
