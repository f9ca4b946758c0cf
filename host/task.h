/* task.h - one coroutine of the host: a command, an open, a spawned job.
 *
 * A task runs a Lua function until it returns, fails or is cancelled, and
 * reports exactly once.  This is the only door into a handler's code that may
 * wait.  Every wait is the same four steps: check the arguments, arm, tell
 * task_wait() how to disarm, yield.
 *
 *   task_run --> RUNNING --> OK, FAILED
 *                 |   ^
 *       task_wait v   | task_wake
 *                WAITING --task_cancel--> CANCELLED
 *
 * A wait that cannot be broken off, for a store that is at work on the task's
 * bytes or for the task's own children, delays the cancellation until it is
 * over; so does a request of luv's that the task has begun.  What a task holds,
 * a range lock for instance, it holds that long.
 *
 * A starter who often calls with the same values may leave them at the bottom
 * of the coroutine's stack, from where copying them costs least; see
 * task_again().
 */
#ifndef TASK_H
#define TASK_H

#include <lua.h>

#include "shard.h"
#include "state.h"
#include "timer.h"

struct cmd;
struct device;
struct task;

enum task_end { TASK_OK, TASK_FAILED, TASK_CANCELLED };

LIST_HEAD(task_list, task);

/* Something that goes on by itself and that a task has begun. */
struct task_request {
  LIST_ENTRY(task_request) link;
  struct task *task;            /* NULL: over, or its task has ended */
};

/* Runs once per task.  `co` holds t->nres results (TASK_OK), above what was
 * kept, the error object and a traceback or nil (TASK_FAILED), or nothing. */
typedef void task_done(struct task *t, enum task_end how, lua_State *co);

struct task {
  struct job job;
  LIST_ENTRY(task) sibling;     /* among the parent's, or the device's own */
  struct task_list children;
  struct task *parent;
  struct state *state;
  struct device *dev;
  struct cmd *cmd;              /* the command it works for, or NULL */
  lua_State *co;
  int co_ref;

  task_done *done;
  void *arg;                    /* the starter's */
  int nargs;                    /* values to resume with */
  int nres;                     /* results of a task that has ended well */
  int kept;                     /* values that stay at the bottom of the stack */
  const void *kept_for;         /* NULL: none; see task_keep() */
  uint64_t kept_when;
  bool started, waiting, listed;
  bool cancelled;               /* ends as soon as its wait lets go of it */
  bool locks;                   /* has taken range locks, for no command */
  bool awaited;                 /* a hold of the device waits for its end */
  void (*disarm)(struct task *t);
  void (*hurry)(struct task *t);        /* cancelled, and cannot be disarmed */
  void *wait;                   /* what it waits for; the wait's own */
  int rc;                       /* how the wait ended; the wait's own */
  struct timer timer;
  LIST_HEAD(task_request_list, task_request) requests;  /* under way */
  struct task *next_idle;
};

/* A task for `dev` and `cmd` (or NULL); push the function and its arguments on
 * t->co and call task_run().  NULL: out of memory. */
struct task *task_new(struct state *st, struct device *dev, struct cmd *cmd,
                      task_done *done, void *arg);

/* Leaves the values that lie on the stack of a new task there when it has ended
 * well: task_again() finds them by two numbers of the starter's. */
void task_keep(struct task *t, const void *kept_for, uint64_t kept_when);

/* The same task once more, for the device, command and starter that it had,
 * with what it keeps; NULL: another one is to be made. */
static inline struct task *task_again(struct state *st, const void *kept_for,
                                      uint64_t kept_when)
{
  struct task *t = st->idle;

  if (!t || t->kept_for != kept_for || t->kept_when != kept_when)
    return NULL;
  st->idle = t->next_idle;
  st->idle_count--;
  return t;
}

/* What idle tasks keep is out of date. */
void task_pool_empty(struct state *st);

/* Runs it now, as far as it goes without waiting.  `done` may be called. */
void task_run(struct task *t, int nargs);

/* The same for a command's first step.  True: it has ended well, `done` is not
 * called, and the starter takes the results and lets go with task_over(). */
bool task_try(struct task *t, int nargs);
void task_over(struct task *t);

/* The same from the shard's queue: for callers inside Lua. */
void task_run_later(struct task *t, int nargs);

/* In a binding: the running task, which must be L itself; raises if L may not
 * wait ("sleep: only inside a command ..."). */
struct task *task_waiter(lua_State *L, const char *what);

/* In a binding, last thing: `return task_wait(L, t, disarm, k)`.  `disarm`
 * breaks the wait off; NULL: that is not possible, and task_wake() is certain
 * to come.  `k`, if any, continues with what task_wake() left on the stack. */
int task_wait(lua_State *L, struct task *t, void (*disarm)(struct task *),
              lua_KFunction k);

/* Ends the wait; `nargs` values were pushed on t->co.  The task goes on from
 * the shard's queue. */
void task_wake(struct task *t, int nargs);

/* Ends a waiting task, its children first: <close> variables run, `done` gets
 * TASK_CANCELLED, at once or when its wait lets go of it.  Harmless on NULL. */
void task_cancel(struct task *t);
void task_cancel_all(struct task_list *list);

/* A task that is cancelled does not end before the request is over. */
void task_request_begin(struct task *t, struct task_request *r);

/* Returns the task, to be given to task_let_end() once what follows from the
 * request has been done, or NULL. */
struct task *task_request_over(struct task_request *r);

/* Lets a cancelled task without requests end, from the shard's queue. */
void task_let_end(struct task *t);

/* The task whose Lua code is running on this thread, or NULL. */
struct task *task_running(void);

/* True if `co` is a task's, so not for a handler to resume or close. */
bool task_owns(lua_State *co);

/* Frees the pool of a state that is being closed. */
void task_pool_free(struct state *st);

#endif
