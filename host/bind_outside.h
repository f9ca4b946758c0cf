/* bind_outside.h - what the control thread's Lua opens outside of the process:
 * a bus, a socket, a deputy.
 *
 * Each is a userdata that closes itself, with a method `close`.  Failures are
 * nil, message, errno, as everywhere in Lua that asks the outside world.
 */
#ifndef BIND_OUTSIDE_H
#define BIND_OUTSIDE_H

#include <lauxlib.h>

/* Pushes a closed object of the class `name`; what is opened goes into what is
 * returned. */
void **outside_new(lua_State *L, const char *name);

/* What the object at 1 stands for; raises if it is closed. */
void *outside_check(lua_State *L, const char *name);

/* The same, to close it: the object is closed from now on.  NULL if it was. */
void *outside_take(lua_State *L, const char *name);

/* Returns nil, message, errno to Lua; `why` NULL: what errno says. */
int outside_fail(lua_State *L, int rc, const char *why);

/* Returns true to Lua, or, for a negative rc, nil, message, errno. */
int outside_outcome(lua_State *L, int rc);

/* Makes the class `name` unless there is one, whose `close` the collector calls
 * too, and returns the table { open = fn } to Lua. */
int outside_module(lua_State *L, const char *name, const luaL_Reg *methods,
                   lua_CFunction close, lua_CFunction open);

#endif
