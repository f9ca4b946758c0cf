/* lock.c - range locks of one device, first come first served.
 *
 *   NONE -> WAITING -> GRANTED -> HELD -> NONE
 *     \____________________________^
 *
 * Each state has a list.  GRANTED is held already, only its owner has not
 * been told.  A waiting lock counts the locks in its way: those that overlap,
 * have another owner, and are held or wait before it.  So a lock is held if
 * and only if it counts none, and a release looks at each waiting lock once.
 */
#include "lock.h"

#include <stddef.h>

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b,
                    uint64_t b_length)
{
  if (!a_length || !b_length)
    return false;
  return a <= b ? b - a < a_length : a - b < b_length;
}

static bool conflict(const struct range_lock *a, const struct range_lock *b)
{
  return a->owner != b->owner &&
         overlap(a->offset, a->length, b->offset, b->length);
}

static void unlink_lock(struct lock_table *t, struct range_lock *l)
{
  struct lock_list *list = &t->in[l->state];

  *(l->prev ? &l->prev->next : &list->first) = l->next;
  *(l->next ? &l->next->prev : &list->last) = l->prev;
  l->state = LOCK_NONE;
}

/* NULL: at the end. */
static void link_before(struct lock_table *t, struct range_lock *l,
                        enum lock_state state, struct range_lock *before)
{
  struct lock_list *list = &t->in[state];

  l->state = state;
  l->next = before;
  l->prev = before ? before->prev : list->last;
  *(l->prev ? &l->prev->next : &list->first) = l;
  *(before ? &before->prev : &list->last) = l;
}

/* Held locks in the way of `l`, or, with the owner given, those of this owner
 * alone. */
static unsigned held_against(const struct lock_table *t,
                             const struct range_lock *l, const void *owner)
{
  unsigned n = 0;

  for (int s = LOCK_GRANTED; s <= LOCK_HELD; s++)
    for (const struct range_lock *h = t->in[s].first; h; h = h->next)
      n += conflict(h, l) && (!owner || h->owner == owner);
  return n;
}

static bool holds_any(const struct lock_table *t, const void *owner)
{
  for (int s = LOCK_GRANTED; s <= LOCK_HELD; s++)
    for (const struct range_lock *h = t->in[s].first; h; h = h->next)
      if (h->owner == owner)
        return true;
  return false;
}

void lock_watch(struct lock_table *t, struct lock_watch *w)
{
  w->broken = false;
  w->next = t->watches;
  w->prev = &t->watches;
  if (w->next)
    w->next->prev = &w->next;
  t->watches = w;
}

void lock_unwatch(struct lock_watch *w)
{
  if (!w->prev)
    return;
  *w->prev = w->next;
  if (w->next)
    w->next->prev = w->prev;
  w->prev = NULL;
}

static void break_watches(const struct lock_table *t,
                          const struct range_lock *l)
{
  struct lock_watch *w;

  for (w = t->watches; w; w = w->next)
    if (w->owner != l->owner &&
        overlap(w->offset, w->length, l->offset, l->length))
      w->broken = true;
}

/* Does `w` wait for what `owner` holds, if only by way of others? */
static bool is_behind(const struct lock_table *t, const struct range_lock *w,
                      const void *owner)
{
  const struct range_lock *x;

  if (w->owner == owner)
    return false;
  if (held_against(t, w, owner))
    return true;
  for (x = t->in[LOCK_WAITING].first; x; x = x->next)
    if (x->behind && held_against(t, w, x->owner))
      return true;
  for (x = w->prev; x; x = x->prev)
    if (x->behind && conflict(x, w))
      return true;
  return false;
}

static void mark_behind(const struct lock_table *t, const void *owner)
{
  struct range_lock *w;
  bool more;

  for (w = t->in[LOCK_WAITING].first; w; w = w->next)
    w->behind = false;
  do {
    more = false;
    for (w = t->in[LOCK_WAITING].first; w; w = w->next)
      if (!w->behind && is_behind(t, w, owner))
        w->behind = more = true;
  } while (more);
}

bool lock_acquire(struct lock_table *t, struct range_lock *l)
{
  bool ahead = holds_any(t, l->owner);
  struct range_lock *w;

  if (!l->harmless)
    break_watches(t, l);
  if (ahead)
    mark_behind(t, l->owner);
  l->blockers = held_against(t, l, NULL);
  for (w = t->in[LOCK_WAITING].first; w; w = w->next) {
    if (!conflict(w, l))
      continue;
    if (ahead && w->behind)
      break;                    /* waits for this owner: our place is here */
    l->blockers++;
  }

  link_before(t, l, l->blockers ? LOCK_WAITING : LOCK_HELD,
              l->blockers ? w : NULL);
  for (; w; w = w->next)
    w->blockers += conflict(w, l);
  return l->state == LOCK_HELD;
}

void lock_release(struct lock_table *t, struct range_lock *l)
{
  struct range_lock *w, *next;

  if (l->state == LOCK_NONE)
    return;
  w = l->state == LOCK_WAITING ? l->next : t->in[LOCK_WAITING].first;
  unlink_lock(t, l);
  for (; w; w = next) {
    next = w->next;
    if (!conflict(w, l) || --w->blockers)
      continue;
    unlink_lock(t, w);
    link_before(t, w, LOCK_GRANTED, NULL);
  }

  /* One at a time, from the outermost call: what is told here may release, so
   * neither a pointer into the list nor a deep stack may be kept. */
  if (t->telling)
    return;
  t->telling = true;
  while ((w = t->in[LOCK_GRANTED].first)) {
    unlink_lock(t, w);
    link_before(t, w, LOCK_HELD, NULL);
    w->granted(w);
  }
  t->telling = false;
}
