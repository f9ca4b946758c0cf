/* bind_store.h - the store behind a Lua object. */
#ifndef BIND_STORE_H
#define BIND_STORE_H

#include <lua.h>

struct device;
struct store;

#define STORE_ERROR "tcmu.io_error"     /* metatable of error objects */

/* The store at `arg`; raises if it is none, or closed. */
struct store *store_check(lua_State *L, int arg);

/* Closes every store that was opened for this device. */
void store_close_all(struct device *d);

#endif
