/* bind.h - what Lua sees of the host: the module tcmu.core.
 *
 * Each file bind_*.c adds its functions to the table on top of the stack.
 */
#ifndef BIND_H
#define BIND_H

#include <lauxlib.h>

/* Opens tcmu.core; also the one symbol that core.so exports. */
int luaopen_tcmu_core(lua_State *L);

/* Takes out of a handler's state what would stop its shard or escape its
 * limits, and sets package.path and preload.  See sandbox in bind_sandbox.c. */
void bind_sandbox(lua_State *L);

/* Where new handler states look for modules: kept from `L`, the state that
 * starts shards or simulators. */
void bind_keep_paths(lua_State *L);

/* Pushes a table of raw rings and simulated kernels (bind_sim.c). */
int bind_sim(lua_State *L);

/* Pushes a table with the netlink socket of the control thread. */
int bind_netlink(lua_State *L);

/* Pushes a table with the thread that touches configfs for it. */
int bind_deputy(lua_State *L);

/* Pushes a table of what devices ask of others of the process. */
int bind_peer(lua_State *L);

/* Pushes a table with the connection to the system bus. */
int bind_dbus(lua_State *L);

/* luaL_checkudata() for userdata that say in their first member what they are:
 * a pointer to `name`, the one string that names their metatable.  So the names
 * need not be compared, which costs more than most of our methods. */
static inline void *bind_check(lua_State *L, int arg, const char *name)
{
  void *p = lua_touserdata(L, arg);

  if (p && lua_rawlen(L, arg) > sizeof(name) && *(const char **)p == name)
    return p;
  return luaL_checkudata(L, arg, name);
}

void bind_buffer(lua_State *L);
void bind_cmd(lua_State *L);
void bind_device(lua_State *L);
void bind_names(lua_State *L);
void bind_shards(lua_State *L);
void bind_store(lua_State *L);
void bind_system(lua_State *L);
void bind_wait(lua_State *L);

#endif
