/* bind_store.h - the store behind a Lua object. */
#ifndef BIND_STORE_H
#define BIND_STORE_H

#include <lua.h>
#include <uv.h>

struct device;
struct store;

#define STORE_ERROR "tcmu.io_error"     /* metatable of error objects */

/* The store at `arg`; raises if it is none, or closed. */
struct store *store_check(lua_State *L, int arg);

/* Pushes a new store, which is still closed: the caller opens it on `loop`, the
 * shard's or libuv's default one, into what is returned. */
struct store **store_push(lua_State *L, uv_loop_t **loop);

/* tcmu.store.file, in bind_store_file.c. */
int store_file_new(lua_State *L);

/* From now on `d` serves from the store at `arg`: d->store, and whoever had one
 * before says anew which opcodes it serves without Lua.  Raises likewise.  The
 * store stays open while a device serves from it. */
void store_serve(lua_State *L, int arg, struct device *d);

/* `d` serves from no store any more; it is closed if its device has gone, but
 * not before what it is doing has ended. */
void store_unserve(struct device *d);

/* The device goes: it serves no more, and every store that was opened for it
 * is closed as soon as no other device uses it. */
void store_close_all(struct device *d);

#endif
