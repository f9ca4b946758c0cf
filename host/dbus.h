/* dbus.h - the handlers on the system bus, where targetcli looks for them.
 *
 * One object per handler at org.kernel.TCMUService1.  Calls of CheckConfig are
 * kept until somebody answers them.  Control thread only, and nothing here
 * waits.  Without libsystemd all of it is empty, and opening says so.
 */
#ifndef DBUS_H
#define DBUS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dbus;

/* Whose the bus name is; see dbus_name(). */
enum dbus_name { DBUS_NOT_ASKED, DBUS_QUEUED, DBUS_OURS, DBUS_REFUSED };

/* A CheckConfig; the texts live until it is answered. */
struct dbus_call {
  int64_t id;
  const char *subtype;
  const char *config;           /* "SUBTYPE/options" */
};

#ifdef HAVE_LIBSYSTEMD

/* Connects to the system bus.  Returns 0 or -errno; -EOPNOTSUPP if built
 * without libsystemd. */
int dbus_open(struct dbus **out);

/* Leaves the bus; unanswered calls fail at their callers.  Harmless on NULL. */
void dbus_close(struct dbus *d);

/* Exports a handler; both texts are UTF-8.  Returns 0 or -errno, -EINVAL if
 * the subtype has characters that an object path cannot have. */
int dbus_add(struct dbus *d, const char *subtype, const char *description);

/* Asks for the bus name, or a place in its queue.  Returns 0 or -errno. */
int dbus_ask_name(struct dbus *d);

/* How that stands.  It changes in dbus_process() only. */
enum dbus_name dbus_name(const struct dbus *d);

/* What to poll for, anew after every call of this header: a descriptor, of
 * poll(2) the events, and the milliseconds after which to process anyway, or
 * -1.  Return -errno if the connection is lost. */
int dbus_fd(struct dbus *d);
int dbus_events(struct dbus *d);
int64_t dbus_timeout(struct dbus *d);

/* Handles all that has come.  Returns 0 or -errno: the bus is gone. */
int dbus_process(struct dbus *d);

/* Takes one call; false when none waits to be taken. */
bool dbus_next(struct dbus *d, struct dbus_call *out);

/* Answers a call; `text` is UTF-8.  Returns 0 or -errno, -ENOENT if there is
 * no such call. */
int dbus_answer(struct dbus *d, int64_t id, bool valid, const char *text);

#else

static inline int dbus_open(struct dbus **out)
{
  *out = NULL;
  return -EOPNOTSUPP;
}

static inline void dbus_close(struct dbus *d) { (void)d; }

static inline int dbus_add(struct dbus *d, const char *subtype,
                           const char *description)
{
  (void)d, (void)subtype, (void)description;
  return -EOPNOTSUPP;
}

static inline int dbus_ask_name(struct dbus *d)
{
  (void)d;
  return -EOPNOTSUPP;
}

static inline enum dbus_name dbus_name(const struct dbus *d)
{
  (void)d;
  return DBUS_NOT_ASKED;
}

static inline int dbus_fd(struct dbus *d)
{
  (void)d;
  return -EOPNOTSUPP;
}

static inline int dbus_events(struct dbus *d)
{
  (void)d;
  return -EOPNOTSUPP;
}

static inline int64_t dbus_timeout(struct dbus *d)
{
  (void)d;
  return -1;
}

static inline int dbus_process(struct dbus *d)
{
  (void)d;
  return -EOPNOTSUPP;
}

static inline bool dbus_next(struct dbus *d, struct dbus_call *out)
{
  (void)d, (void)out;
  return false;
}

static inline int dbus_answer(struct dbus *d, int64_t id, bool valid,
                              const char *text)
{
  (void)d, (void)id, (void)valid, (void)text;
  return -EOPNOTSUPP;
}

#endif
#endif
