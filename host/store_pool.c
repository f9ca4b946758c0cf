/* store_pool.c - the operations of one store in libuv's thread pool.
 *
 *   store_pool_submit -> queue -> a free slot -> thread: run() -> loop: ended()
 *
 * The queue is first come first served and costs no memory: it runs through
 * the operations themselves.
 */
#include "store_pool.h"

/* In a thread of the pool. */
static void work(uv_work_t *w)
{
  struct store_op *op = (struct store_op *)
    ((char *)w - offsetof(struct store_op, work));
  struct store_pool *p = w->data;

  op->rc = p->run(op->store, op, op->slot);
}

static void ended(uv_work_t *w, int status);

static void start_next(struct store_pool *p)
{
  for (unsigned slot = 0; slot < STORE_POOL_WIDTH && p->first; slot++) {
    struct store_op *op = p->first;

    if (p->busy[slot])
      continue;
    p->busy[slot] = true;
    p->first = op->next;
    op->slot = slot;
    op->work.data = p;
    /* fails only without a function to run */
    uv_queue_work(op->store->loop, &op->work, work, ended);
  }
}

static void ended(uv_work_t *w, int status)
{
  struct store_op *op = (struct store_op *)
    ((char *)w - offsetof(struct store_op, work));
  struct store_pool *p = w->data;

  (void)status;                 /* nothing here is ever cancelled */
  p->busy[op->slot] = false;
  start_next(p);
  store_end(op, op->rc);        /* last: it may close the store, and us */
}

int store_pool_submit(struct store_pool *p, struct store_op *op)
{
  op->next = NULL;
  if (p->first)
    p->last->next = op;
  else
    p->first = op;
  p->last = op;
  start_next(p);
  return STORE_PENDING;
}
