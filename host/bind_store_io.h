/* bind_store_io.h - between bind_store.c, which opens and closes stores in Lua,
 * and bind_store_io.c, whose methods wait for them.
 */
#ifndef BIND_STORE_IO_H
#define BIND_STORE_IO_H

#include <lauxlib.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "store.h"

struct device;
struct io;

/* Closed when the device in whose task it was opened has gone and no other
 * device serves from it; by the collector if there is no such device. */
struct store_ud {
  const char *is;               /* the class, see bind_check() */
  LIST_ENTRY(store_ud) link;    /* of the device in whose task it was opened */
  struct store *store;          /* NULL: closed */
  struct device *dev;           /* NULL: none, or gone */
  unsigned serving;             /* devices whose store it is */
  bool orphan;                  /* to be closed when nobody uses it */
  SLIST_HEAD(io_list, io) idle; /* as many as were ever under way at a time */
};

/* The store at `arg`; raises if it is none, or closed. */
struct store_ud *store_ud_check(lua_State *L, int arg);

/* Closes it if its device has gone, or somebody else has let go of it, and it
 * is not in use.  To be called when an operation has ended. */
void store_ud_unused(struct store_ud *ud);

/* A number of bytes; raises if it is negative. */
lua_Integer store_check_bytes(lua_State *L, int arg);

/* The methods read, write, discard, zero and flush. */
extern const luaL_Reg store_io_methods[];

/* Frees what the operations of a store have left for the next ones. */
void store_io_free(struct store_ud *ud);

/* Raises { message =, errno =, verb = } with the metatable core.io_error. */
int store_io_raise(lua_State *L, enum store_verb verb, int rc);

#endif
