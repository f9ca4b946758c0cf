/* peer_serve.c - letters to the devices of this shard: see peer.h.
 *
 * A device answers in a task of its own, which has as much time as one of its
 * commands, and ends with the device or at a LUN RESET like them: so a letter
 * always goes home.  Lua sees a buffer of its own, never the letter: what a
 * handler keeps of it does no harm.
 */
#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "bind_buffer.h"
#include "device.h"
#include "hold.h"
#include "log.h"
#include "peer.h"
#include "state.h"
#include "task.h"

static bool is_there(const struct device *d)
{
  return d->phase == DEVICE_LIVE && !d->removing && !d->parked && !d->gone;
}

/* Designators as in page 83h: { code set, type, reserved, length, name }.  The
 * name in a letter is one as well. */
static bool has_name(const struct device *d, const char *name, size_t len)
{
  const char *at = d->designators;
  size_t left = d->designators_len, n;

  for (; left >= 4; at += n, left -= n) {
    n = 4 + (size_t)(unsigned char)at[3];
    if (n > left)
      return false;
    if (n == len && memcmp(at, name, n) == 0)
      return true;
  }
  return false;
}

void peer_search(struct peer *p, struct letter *m)
{
  struct device *d;

  LIST_FOREACH(d, &p->shard->devices, link)
    if (is_there(d) && has_name(d, m->text, m->text_len)) {
      m->found++;
      m->shard = p->index;
      m->device = d->id;
    }
}

static void too_late(struct timer *timer)
{
  struct letter *m = timer->arg;
  struct device *d = m->task->dev;

  log_warn(d->name, "it has not read or written for another device in time, "
           "whose copy ends");
  task_cancel(m->task);
  shard_settle(d->shard);
}

/* What the task has returned: a text, and whether it went well. */
static int result(struct letter *m, enum task_end how, lua_State *L,
                  const struct device *d)
{
  const char *text;
  size_t n;

  m->text_len = 0;
  if (how == TASK_CANCELLED)
    return is_there(d) ? -ECANCELED : -ENODEV;
  if (how == TASK_FAILED) {
    log_error(d->name, "in a read or write for another device: %s",
              lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?");
    return LETTER_REFUSED;
  }
  text = lua_tolstring(L, 2, &n);
  if (text) {
    m->text_len = n < sizeof(m->text) ? n : sizeof(m->text);
    memcpy(m->text, text, m->text_len);
  }
  return lua_toboolean(L, 1) ? 0 : LETTER_REFUSED;
}

static void served(struct task *t, enum task_end how, lua_State *L)
{
  struct device *d = t->dev;
  struct letter *m = t->arg;
  int rc = result(m, how, L, d);

  timer_stop(&d->shard->timers, &m->limit);
  if (m->kind == LETTER_READ && !rc)
    memcpy(m->data, m->bytes, m->len);
  luaL_unref(d->state->L, LUA_REGISTRYINDEX, m->buffer_ref);
  LIST_REMOVE(m, served);
  m->task = NULL;
  m->bytes = NULL;
  peer_answer(d->shard->peer, m, rc);
  device_quiet(d);
  hold_look(d);
}

static void begin(struct task *t)
{
  t->awaited = true;
  task_run(t, t->nargs);
}

/* A device that is held, but still waits for its commands to end, goes on: one
 * of them may be a copy that waits for a device which is held as well, and that
 * device for a copy that waits for this one. */
static bool may_begin(const struct device *d)
{
  return !d->held || d->holder;
}

void peer_serve(struct peer *p, struct letter *m)
{
  static const char *const verbs[] = {
    [LETTER_LOOK] = "look", [LETTER_READ] = "read", [LETTER_WRITE] = "write",
    [LETTER_DELETE] = "delete"
  };
  struct device *d = device_find(p->shard, m->device);
  struct task *t;

  if (!d || !is_there(d)) {
    peer_answer(p, m, -ENODEV);
    return;
  }
  t = task_new(d->state, d, NULL, served, m);
  if (!t) {
    peer_answer(p, m, -ENOMEM);
    return;
  }
  t->listed = true;
  LIST_INSERT_HEAD(&d->tasks, t, sibling);
  LIST_INSERT_HEAD(&p->served, m, served);
  m->task = t;
  m->limit = (struct timer){ .fired = too_late, .arg = m };
  if (d->time_out)
    timer_start(&p->shard->timers, &m->limit, d->time_out);

  state_push(d->state, t->co, "serve");
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->dev_ref);
  lua_pushstring(t->co, verbs[m->kind]);
  lua_pushinteger(t->co, (lua_Integer)m->offset);
  m->bytes = buffer_push(t->co, m->len);
  if (m->kind == LETTER_WRITE)
    memcpy(m->bytes, m->data, m->len);
  lua_pushvalue(t->co, -1);
  m->buffer_ref = luaL_ref(t->co, LUA_REGISTRYINDEX);
  lua_pushlstring(t->co, m->text, m->text_len);
  t->nargs = 5;
  if (may_begin(d))
    begin(t);
}

void peer_resume(struct device *d)
{
  struct letter *m, *next;

  if (!d->shard->peer)
    return;
  for (m = LIST_FIRST(&d->shard->peer->served); m; m = next) {
    next = LIST_NEXT(m, served);
    if (m->task->dev == d && !m->task->started)
      begin(m->task);
  }
}

void peer_break_off(struct peer *p, const struct letter *m)
{
  struct letter *other;

  LIST_FOREACH(other, &p->served, served)
    if (other->home == m->home && other->ticket == m->ticket) {
      task_cancel(other->task);
      return;
    }
}

void peer_reset(struct device *d)
{
  struct task *t, *next;

  for (t = LIST_FIRST(&d->tasks); t; t = next) {
    next = LIST_NEXT(t, sibling);
    if (t->done == served)
      task_cancel(t);
  }
}
