/* device.c - see device.h. */
#define _GNU_SOURCE             /* asprintf */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bind_device.h"
#include "bind_store.h"
#include "bind_wait.h"
#include "cmd.h"
#include "hold.h"
#include "log.h"
#include "message.h"
#include "state.h"

enum {
  STOP_LIMIT_S = 10,            /* a clean stop waits so long for commands, and
                                   every end for the handler's close */
};

#define SECOND 1000000000ULL

static void end(struct device *d);
static void next_change(struct job *j);

void device_report_to(struct device *d, const char *verb, int rc,
                      const char *why)
{
  d->report(d->report_arg, d->id, verb, rc, why, false);
}

struct device *device_find(struct shard *s, int64_t id)
{
  struct device *d;

  LIST_FOREACH(d, &s->devices, link)
    if (d->id == id)
      return d;
  return NULL;
}

/* --- the end ------------------------------------------------------------ */

static void unref_all(struct device *d)
{
  lua_State *L = d->state->L;

  luaL_unref(L, LUA_REGISTRYINDEX, d->dev_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, d->routes_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, d->read_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, d->write_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, d->self_ref);
  luaL_unref(L, LUA_REGISTRYINDEX, d->store_ref);
  task_pool_empty(d->state);
}

/* All that does not need the loop any more.  The end is reported last: the
 * device may be added again at once, by another shard even. */
static void free_device(struct device *d)
{
  struct message *m;

  if (d->state) {
    device_handle_revoke(d);
    cmd_pool_free(d);
    wait_release_locks(d, NULL);
    store_close_all(d);
    unref_all(d);
    if (--d->state->users == 0)
      state_close(d->state);
  }
  while ((m = STAILQ_FIRST(&d->changes))) {
    STAILQ_REMOVE_HEAD(&d->changes, link);
    device_report_to(d, m->verb, -ENODEV, "the device is gone");
    free(m);
  }
  ring_free(d->ring);
  if (d->map)
    munmap(d->map, d->map_len);
  if (d->fd >= 0)
    close(d->fd);
  d->report(d->report_arg, d->id, d->end_verb, d->end_rc, d->end_why, true);
  free(d->by_id);
  free(d->designators);
  free(d->end_why);
  free(d->name);
  free(d);
}

static void on_closed(uv_handle_t *h)
{
  free_device(h->data);
}

/* Nothing of the device is in flight. */
static void destroy(struct device *d)
{
  struct shard *s = d->shard;

  device_flush(d);
  LIST_REMOVE(d, link);
  if (d->dirty)
    LIST_REMOVE(d, dirty_link);
  if (d->unfinished)
    TAILQ_REMOVE(&s->unfinished, d, unfinished_link);
  shard_forget(s, &d->next_change);
  timer_stop(&s->timers, &d->deadline);
  timer_stop(&s->timers, &d->stop_limit);
  d->gone = true;
  uv_close((uv_handle_t *)&d->poll, on_closed);
}

static void closed(struct task *t, enum task_end how, lua_State *L)
{
  struct device *d = t->arg;

  if (how == TASK_FAILED)
    log_error(d->name, "in the handler's close: %s",
              lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?");
  d->busy = NULL;
  shard_later(d->shard, &d->next_change);
}

static void stop_over(struct timer *timer);

static void limit_end(struct device *d)
{
  d->stop_limit.fired = stop_over;
  d->stop_limit.arg = d;
  timer_start(&d->shard->timers, &d->stop_limit, STOP_LIMIT_S * SECOND);
}

/* True if something still uses the device that will call device_quiet(). */
static bool in_use(struct device *d)
{
  if (d->busy || !TAILQ_EMPTY(&d->outstanding))
    return true;
  if (d->draining || (d->unfinished && !d->gone && !d->parked))
    return true;                /* a clean stop: the ring is not empty yet */
  task_cancel_all(&d->tasks);
  return d->ops || !LIST_EMPTY(&d->tasks);
}

/* Once nothing is in flight: the handler's close, then the end. */
static void end(struct device *d)
{
  struct task *t;

  if (!d->removing || in_use(d))
    return;
  if (d->phase == DEVICE_CLOSING) {
    destroy(d);
    return;
  }
  t = task_new(d->state, d, NULL, closed, d);
  if (!t) {
    shard_later(d->shard, &d->next_change);
    return;
  }
  d->phase = DEVICE_CLOSING;
  d->busy = t;
  limit_end(d);
  state_push(d->state, t->co, "close");
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->dev_ref);
  task_run(t, 1);
}

void device_quiet(struct device *d)
{
  if (d->removing)
    shard_later(d->shard, &d->next_change);
}

static void stop_over(struct timer *timer)
{
  struct device *d = timer->arg;
  struct cmd *c, *next;

  log_warn(d->name, "%s not ended after %d s and is cancelled",
           d->phase == DEVICE_CLOSING ? "the handler's close has"
                                      : "something that runs has",
           STOP_LIMIT_S);
  for (c = TAILQ_FIRST(&d->outstanding); c; c = next) {
    next = TAILQ_NEXT(c, link);
    cmd_abort(c);
  }
  task_cancel(d->busy);
  shard_settle(d->shard);
}

/* "remove": the kernel has let go of it.  "stop": it goes on elsewhere. */
static void begin_end(struct device *d, bool gone)
{
  if (d->removing && (d->gone || !gone)) {
    device_report_to(d, gone ? "remove" : "stop", -EALREADY, "the device ends already");
    return;
  }
  if (d->removing)
    device_report_to(d, "stop", -ENODEV, "the kernel has removed the device");
  device_ignore(d);
  if (!gone && d->phase == DEVICE_LIVE) {
    device_drain(d);            /* what came before the kernel blocked it */
    d->phase = DEVICE_DRAINING;
  }
  d->removing = true;
  if (gone) {
    d->gone = true;
    d->end_verb = "remove";
    device_orphan_all(d);
    if (d->phase != DEVICE_CLOSING)
      task_cancel(d->busy);
  } else {
    d->end_verb = "stop";
    limit_end(d);
  }
  shard_later(d->shard, &d->next_change);
}

/* --- requests ----------------------------------------------------------- */

/* What a failed open or change says: the text is copied by the caller's
 * report, the errno is the error object's, or EINVAL. */
static int reason(struct device *d, lua_State *L, char *why, size_t n)
{
  int rc = -EINVAL;

  state_push(d->state, L, "reason");
  lua_pushvalue(L, -3);
  lua_pushvalue(L, -3);
  if (state_call(d->state, 2, 2) == LUA_OK) {
    snprintf(why, n, "%s", lua_tostring(L, -2));
    rc = -(int)lua_tointeger(L, -1);
    lua_pop(L, 2);
  } else {
    snprintf(why, n, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return rc;
}

static void changed(struct task *t, enum task_end how, lua_State *L)
{
  struct device *d = t->arg;
  char why[512];
  int rc;

  d->busy = NULL;
  if (how == TASK_FAILED) {
    rc = reason(d, L, why, sizeof(why));
    device_report_to(d, d->busy_verb, rc, why);
  } else {
    device_report_to(d, d->busy_verb, how == TASK_OK ? 0 : -EINTR, NULL);
  }
  shard_later(d->shard, &d->next_change);
}

/* "prepare": as when a handler is loaded, nothing here may wait. */
static void prepare(struct device *d, const struct message *m)
{
  char *why;
  int rc = state_prepare(d->state, d->dev_ref, m, &why);

  device_report_to(d, m->verb, rc, why);
  free(why);
}

static void change(struct device *d, struct message *m)
{
  static const char *const verbs[] = {
    "size", "config", "write_cache", "wwn", "alua", "time_out", "reload", NULL
  };
  struct task *t;
  int i;

  if (strcmp(m->verb, "prepare") == 0) {
    prepare(d, m);
    return;
  }
  for (i = 0; verbs[i] && strcmp(verbs[i], m->verb) != 0;)
    i++;
  d->busy_verb = verbs[i];
  t = verbs[i] ? task_new(d->state, d, NULL, changed, d) : NULL;
  if (!t) {
    device_report_to(d, m->verb, -EINVAL, "not a request that a device knows");
    return;
  }
  d->busy = t;
  state_push(d->state, t->co, "change");
  lua_rawgeti(t->co, LUA_REGISTRYINDEX, d->dev_ref);
  lua_pushstring(t->co, m->verb);
  message_push(t->co, m);
  task_run(t, 3);
}

/* The next request, or the end, once the one before is over. */
static void next_change(struct job *j)
{
  struct device *d;
  struct message *m;

  d = (struct device *)((char *)j - offsetof(struct device, next_change));
  if (!d->busy)
    hold_end(d);
  while (!d->busy && !d->removing && (m = STAILQ_FIRST(&d->changes))) {
    STAILQ_REMOVE_HEAD(&d->changes, link);
    change(d, m);
    free(m);
  }
  end(d);
}

void device_change(struct device *d, struct message *m)
{
  bool remove = strcmp(m->verb, "remove") == 0;

  if (remove || strcmp(m->verb, "stop") == 0) {
    free(m);
    begin_end(d, remove);
    return;
  }
  STAILQ_INSERT_TAIL(&d->changes, m, link);
  shard_later(d->shard, &d->next_change);
}

/* --- the beginning ------------------------------------------------------ */

/* The device ends with the report that it could not be added. */
static void refuse(struct device *d, int rc, const char *why)
{
  d->removing = true;
  d->phase = DEVICE_CLOSING;
  d->end_verb = "add";
  d->end_rc = rc;
  d->end_why = strdup(why);
}

static void opened(struct task *t, enum task_end how, lua_State *L)
{
  struct device *d = t->arg;
  char why[512] = "the device was removed while its handler opened it";
  int rc = -EINTR;

  d->busy = NULL;
  if (how == TASK_OK && !d->removing) {
    d->phase = DEVICE_LIVE;
    device_listen(d);
    device_report_to(d, "add", 0, NULL);
    device_drain(d);
    shard_later(d->shard, &d->next_change);
    return;
  }
  if (how == TASK_FAILED)
    rc = reason(d, L, why, sizeof(why));
  if (d->removing)              /* its end is reported under another verb */
    device_report_to(d, "add", rc, why);
  else
    refuse(d, rc, why);
  d->phase = how == TASK_OK ? DEVICE_LIVE : DEVICE_CLOSING;
  shard_later(d->shard, &d->next_change);
}

static int map_ring(struct device *d, const struct message *m, int fd,
                    char *why, size_t n)
{
  const char *path = message_string(m, "uio", "");
  int rc;

  d->fd = fd >= 0 ? fd : open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (d->fd < 0) {
    rc = -errno;
    snprintf(why, n, "%s cannot be opened: %s%s", path, strerror(errno),
             errno == EBUSY ? " (another program serves it)" : "");
    return rc;
  }
  d->map_len = (size_t)message_integer(m, "map_size", 0);
  d->map = mmap(NULL, d->map_len, PROT_READ | PROT_WRITE, MAP_SHARED,
                fd >= 0 ? (int)message_integer(m, "map_fd", -1) : d->fd, 0);
  if (d->map == MAP_FAILED) {
    d->map = NULL;
    rc = -errno;
    snprintf(why, n, "%s cannot be mapped: %s", path, strerror(errno));
    return rc;
  }
  return ring_new(d->map, d->map_len, why, n, &d->ring);
}

static int attach_state(struct device *d, const char *path, char *why,
                        size_t n)
{
  char *text = NULL;
  int rc;

  d->state = state_find(d->shard, path);
  if (!d->state) {
    rc = state_new(d->shard, path, &d->state, &text);
    if (rc) {
      snprintf(why, n, "%s", text ? text : strerror(-rc));
      free(text);
      return rc;
    }
  }
  d->state->users++;
  return 0;
}

/* A tenth of the time, at most a second, is left for the answer to arrive. */
void device_set_time_out(struct device *d, unsigned seconds)
{
  d->time_out = seconds * SECOND;
  d->time_out -= d->time_out / 10 < SECOND ? d->time_out / 10 : SECOND;
}

/* The part of a device that does not need its Lua state. */
static struct device *make(struct shard *s, const struct message *m)
{
  struct device *d = calloc(1, sizeof(*d));

  if (!d)
    return NULL;
  d->shard = s;
  d->id = m->device;
  d->fd = -1;
  if (asprintf(&d->name, "%s/%s", message_string(m, "hba", "user"),
               message_string(m, "name", "device")) < 0)
    d->name = NULL;
  d->dev_ref = d->routes_ref = d->read_ref = d->write_ref = LUA_NOREF;
  d->self_ref = d->store_ref = LUA_NOREF;
  d->next_change.run = next_change;
  d->deadline.fired = cmd_deadline;
  d->deadline.arg = d;
  device_set_time_out(d, (unsigned)message_integer(m, "cmd_time_out", 0));
  TAILQ_INIT(&d->outstanding);
  TAILQ_INIT(&d->free_cmds);
  LIST_INIT(&d->tasks);
  LIST_INIT(&d->stores);
  LIST_INIT(&d->lua_locks);
  STAILQ_INIT(&d->changes);
  if (!d->name) {
    free(d);
    return NULL;
  }
  return d;
}

void device_add(struct shard *s, struct message *m, int fd,
                device_report *report_fn, void *arg)
{
  struct device *d = make(s, m);
  char why[512] = "";
  struct task *t = NULL;
  int rc;

  place_leave(&s->place);       /* a handler's libraries may make threads */
  if (!d) {
    report_fn(arg, m->device, "add", -ENOMEM, "out of memory", true);
    free(m);
    return;
  }
  d->report = report_fn;
  d->report_arg = arg;
  rc = map_ring(d, m, fd, why, sizeof(why));
  if (!rc)
    rc = attach_state(d, message_string(m, "handler", ""), why, sizeof(why));
  if (!rc) {
    rc = uv_poll_init(&s->loop, &d->poll, d->fd);
    if (rc)
      snprintf(why, sizeof(why), "cannot be polled: %s", uv_strerror(rc));
  }
  if (rc) {
    refuse(d, rc, why);
    free(m);
    free_device(d);
    return;
  }
  d->poll.data = d;
  LIST_INSERT_HEAD(&s->devices, d, link);

  t = task_new(d->state, d, NULL, opened, d);
  if (!t) {
    free(m);
    refuse(d, -ENOMEM, "out of memory");
    shard_later(s, &d->next_change);
    return;
  }
  d->busy = t;
  state_push(d->state, t->co, "open");
  device_handle_push(t->co, d);
  message_push(t->co, m);
  free(m);
  task_run(t, 2);
}
