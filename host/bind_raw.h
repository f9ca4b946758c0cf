/* bind_raw.h - what bind_sim.c and bind_ring.c share. */
#ifndef BIND_RAW_H
#define BIND_RAW_H

#include <lauxlib.h>
#include <lua.h>
#include <stddef.h>

/* The non-negative integer `name` of the table at `table`, or `otherwise` if
 * it is absent or there is no table.  Raises; cuts the stack to `table`. */
lua_Integer raw_field(lua_State *L, int table, const char *name,
                      lua_Integer otherwise);

/* Checks that `n` bytes from the offset in argument `arg` lie inside a mapping
 * of `size` bytes. */
size_t raw_span(lua_State *L, int arg, size_t n, size_t size);

/* Registers a userdata type with its methods. */
void raw_type(lua_State *L, const char *name, const luaL_Reg *meta,
              const luaL_Reg *methods);

/* raw.ring(s) -> ring, or nil and why the mailbox is refused */
int raw_ring(lua_State *L);
void raw_ring_type(lua_State *L);

#endif
