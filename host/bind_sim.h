/* bind_sim.h - a simulated kernel that Lua holds, for the C that attaches a
 * device to it.
 */
#ifndef BIND_SIM_H
#define BIND_SIM_H

#include <lua.h>

struct sim;

/* The open sim at `arg`, or a Lua argument error.  It lives until the value
 * is closed or collected. */
struct sim *sim_check(lua_State *L, int arg);

#endif
