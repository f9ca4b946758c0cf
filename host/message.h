/* message.h - a flat table that travels between two Lua states.
 *
 * Control and shards share no data: what one tells the other is copied into a
 * message.  Keys are strings; values are strings, integers and booleans.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <lua.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum { MESSAGE_VERB_MAX = 24 };

struct message {
  STAILQ_ENTRY(message) link;
  int64_t device;
  char verb[MESSAGE_VERB_MAX];
  size_t len;
  unsigned char fields[];       /* key, NUL, type, value */
};

STAILQ_HEAD(message_queue, message);

/* Copies the table at `arg` (none or nil: no fields).  Raises on other keys or
 * values, and when memory is short. */
struct message *message_from(lua_State *L, int64_t device, const char *verb,
                             int arg);

/* The report of a device: { status =, why = }.  NULL: out of memory. */
struct message *message_report(int64_t device, const char *verb, int status,
                               const char *why);

/* Pushes a table with all fields. */
void message_push(lua_State *L, const struct message *m);

/* One field, or `fallback` where it is absent or of another type. */
const char *message_string(const struct message *m, const char *key,
                           const char *fallback);
int64_t message_integer(const struct message *m, const char *key,
                        int64_t fallback);

#endif
