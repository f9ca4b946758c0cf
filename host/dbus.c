/* dbus.c - dbus.h over sd-bus; only compiled where libsystemd is.
 *
 * The interface is what targetcli knows from tcmu-runner: an object manager
 * with one object per handler, each with the property ConfigDesc and the method
 * CheckConfig.  Who may call it is root (sd-bus sees to that, for the method is
 * not marked as unprivileged): a check runs a handler's code as root, and
 * another program's bus policy may let everybody through.
 */
#include "dbus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <time.h>

#define NAME "org.kernel.TCMUService1"
#define PATH "/org/kernel/TCMUService1"

/* Calls that wait for an answer; more are refused. */
#define CALLS_MAX 16

/* Microseconds for an answer of the bus itself.  To learn who a caller is,
 * sd-bus waits for one; a bus that has brought the call gives it at once. */
#define BUS_TIMEOUT 10000000

struct exported {
  struct dbus *dbus;
  char *subtype;
  char *description;            /* the vtable has its offset */
  SLIST_ENTRY(exported) link;
};

struct waiting {
  int64_t id;
  struct exported *to;
  sd_bus_message *message;
  bool taken;
  TAILQ_ENTRY(waiting) link;
};

struct dbus {
  sd_bus *bus;
  enum dbus_name name;
  int64_t last_id;
  int calls;
  SLIST_HEAD(exported_list, exported) exported;
  TAILQ_HEAD(waiting_list, waiting) waiting;
};

static int check_config(sd_bus_message *m, void *arg, sd_bus_error *error)
{
  struct exported *to = arg;
  struct dbus *d = to->dbus;
  struct waiting *w;

  if (d->calls == CALLS_MAX)
    return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                            "too many checks at once: try again later");
  w = calloc(1, sizeof(*w));
  if (!w)
    return -ENOMEM;
  w->id = ++d->last_id;
  w->to = to;
  w->message = sd_bus_message_ref(m);
  TAILQ_INSERT_TAIL(&d->waiting, w, link);
  d->calls++;
  return 1;
}

static const sd_bus_vtable vtable[] = {
  SD_BUS_VTABLE_START(0),
  SD_BUS_PROPERTY("ConfigDesc", "s", NULL,
                  offsetof(struct exported, description),
                  SD_BUS_VTABLE_PROPERTY_CONST),
  SD_BUS_METHOD_WITH_NAMES("CheckConfig", "s", SD_BUS_PARAM(config), "bs",
                           SD_BUS_PARAM(valid) SD_BUS_PARAM(message),
                           check_config, 0),
  SD_BUS_VTABLE_END
};

/* The answer of the bus to the request for the name: 1 ours, 2 in the queue
 * (D-Bus specification, RequestName). */
static int name_answered(sd_bus_message *m, void *arg, sd_bus_error *error)
{
  struct dbus *d = arg;
  uint32_t answer = 0;

  (void)error;
  if (sd_bus_message_is_method_error(m, NULL) ||
      sd_bus_message_read(m, "u", &answer) < 0)
    d->name = DBUS_REFUSED;
  else
    d->name = answer == 1 ? DBUS_OURS : DBUS_QUEUED;
  return 0;
}

/* NameAcquired also tells the name ":1.N" that every connection has. */
static int name_acquired(sd_bus_message *m, void *arg, sd_bus_error *error)
{
  struct dbus *d = arg;
  const char *name;

  (void)error;
  if (sd_bus_message_read(m, "s", &name) >= 0 && strcmp(name, NAME) == 0)
    d->name = DBUS_OURS;
  return 0;
}

int dbus_open(struct dbus **out)
{
  struct dbus *d = calloc(1, sizeof(*d));
  int rc;

  *out = NULL;
  if (!d)
    return -ENOMEM;
  SLIST_INIT(&d->exported);
  TAILQ_INIT(&d->waiting);
  rc = sd_bus_open_system(&d->bus);
  if (rc >= 0)
    rc = sd_bus_set_method_call_timeout(d->bus, BUS_TIMEOUT);
  if (rc >= 0)
    rc = sd_bus_add_object_manager(d->bus, NULL, PATH);
  if (rc >= 0)
    rc = sd_bus_match_signal_async(d->bus, NULL, "org.freedesktop.DBus",
                                   "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "NameAcquired",
                                   name_acquired, NULL, d);
  if (rc < 0) {
    dbus_close(d);
    return rc;
  }
  *out = d;
  return 0;
}

static void drop(struct dbus *d, struct waiting *w)
{
  TAILQ_REMOVE(&d->waiting, w, link);
  sd_bus_message_unref(w->message);
  free(w);
  d->calls--;
}

void dbus_close(struct dbus *d)
{
  struct exported *e;
  struct waiting *w;

  if (!d)
    return;
  while ((w = TAILQ_FIRST(&d->waiting)))
    drop(d, w);
  sd_bus_close_unref(d->bus);
  while ((e = SLIST_FIRST(&d->exported))) {
    SLIST_REMOVE_HEAD(&d->exported, link);
    free(e->subtype);
    free(e->description);
    free(e);
  }
  free(d);
}

int dbus_add(struct dbus *d, const char *subtype, const char *description)
{
  struct exported *e = calloc(1, sizeof(*e));
  char path[512];
  int rc = -ENOMEM;

  if (!e)
    return rc;
  e->dbus = d;
  e->subtype = strdup(subtype);
  e->description = strdup(description);
  if (!e->subtype || !e->description)
    goto fail;
  rc = -EINVAL;
  if ((size_t)snprintf(path, sizeof(path), PATH "/%s", subtype) >=
      sizeof(path) || strchr(subtype, '/'))
    goto fail;
  rc = sd_bus_add_object_vtable(d->bus, NULL, path, NAME, vtable, e);
  if (rc < 0)
    goto fail;
  SLIST_INSERT_HEAD(&d->exported, e, link);
  return 0;

fail:
  free(e->subtype);
  free(e->description);
  free(e);
  return rc;
}

int dbus_ask_name(struct dbus *d)
{
  int rc = sd_bus_request_name_async(d->bus, NULL, NAME, SD_BUS_NAME_QUEUE,
                                     name_answered, d);

  return rc < 0 ? rc : 0;
}

enum dbus_name dbus_name(const struct dbus *d)
{
  return d->name;
}

int dbus_fd(struct dbus *d)
{
  return sd_bus_get_fd(d->bus);
}

int dbus_events(struct dbus *d)
{
  return sd_bus_get_events(d->bus);
}

int64_t dbus_timeout(struct dbus *d)
{
  struct timespec now;
  uint64_t until;
  int64_t ms;

  if (sd_bus_get_timeout(d->bus, &until) < 0 || until == UINT64_MAX)
    return -1;
  clock_gettime(CLOCK_MONOTONIC, &now);
  ms = (int64_t)(until / 1000) - now.tv_sec * 1000 - now.tv_nsec / 1000000;
  return ms > 0 ? ms + 1 : 0;
}

int dbus_process(struct dbus *d)
{
  int rc;

  do {
    rc = sd_bus_process(d->bus, NULL);
  } while (rc > 0);
  return rc;
}

bool dbus_next(struct dbus *d, struct dbus_call *out)
{
  struct waiting *w;

  TAILQ_FOREACH(w, &d->waiting, link) {
    if (w->taken)
      continue;
    w->taken = true;
    out->id = w->id;
    out->subtype = w->to->subtype;
    out->config = "";
    sd_bus_message_read(w->message, "s", &out->config);
    return true;
  }
  return false;
}

int dbus_answer(struct dbus *d, int64_t id, bool valid, const char *text)
{
  struct waiting *w;
  int rc;

  TAILQ_FOREACH(w, &d->waiting, link) {
    if (w->id != id)
      continue;
    rc = sd_bus_reply_method_return(w->message, "bs", (int)valid, text);
    drop(d, w);
    return rc < 0 ? rc : 0;
  }
  return -ENOENT;
}
