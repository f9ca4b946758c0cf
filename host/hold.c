/* hold.c - see hold.h. */
#include "hold.h"

#include "cmd.h"
#include "device.h"
#include "peer.h"
#include "task.h"

/* Held commands are the youngest: if the first is one, all are. */
static bool quiet(const struct device *d)
{
  const struct cmd *c = TAILQ_FIRST(&d->outstanding);
  const struct task *t;

  LIST_FOREACH(t, &d->tasks, sibling)
    if (t->awaited)
      return false;
  return !c || c->held;
}

bool hold_begin(struct device *d, struct task *t)
{
  d->held = true;
  if (quiet(d))
    return true;
  d->holder = t;
  return false;
}

void hold_forget(struct device *d, struct task *t)
{
  if (d->holder == t)
    d->holder = NULL;
}

void hold_look(struct device *d)
{
  struct task *t = d->holder;

  if (!t || !quiet(d))
    return;
  d->holder = NULL;
  task_wake(t, 0);
}

void hold_end(struct device *d)
{
  struct cmd *c, *next;

  if (!d->held)
    return;
  d->held = false;
  for (c = TAILQ_FIRST(&d->outstanding); c; c = next) {
    next = TAILQ_NEXT(c, link);
    if (c->held)
      cmd_release(c);
  }
  peer_resume(d);
}
