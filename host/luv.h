/* luv.h - luv for one Lua state, on an event loop of its own.
 *
 * Closing a state must close just what its handler has left open, and a
 * handler must not reach the shard's own handles.  So every state that asks
 * for luv has a uv_loop_t, and the shard's loop watches that loop's epoll
 * descriptor and next timer.
 */
#ifndef LUV_H
#define LUV_H

#include <lua.h>
#include <stdbool.h>

struct luv;
struct state;

/* package.preload.luv of a handler's state: finds the module, gives it the
 * inner loop, and takes out of it what would stop the shard or the process. */
int luv_preload(lua_State *L);

/* package.preload.luv of a state that runs its own default loop: luv as it is,
 * but an error in a callback is logged and does not end the process. */
int luv_preload_plain(lua_State *L);

/* Runs what is due on the inner loop and arms the outer one for the rest. */
void luv_turn(struct luv *l);

/* True while a handle or request on the inner loop is active. */
bool luv_alive(const struct luv *l);

/* Closes every handle and runs the inner loop until all callbacks have been
 * dropped.  False: a request is stuck in the thread pool, try again later. */
bool luv_drain(struct luv *l);

/* The shard's loop may end although the inner one is not drained. */
void luv_abandon(struct luv *l);

/* At the very end of lua_close(): closes what __gc methods have opened, and
 * waits for it, since nothing may call back later. */
void luv_drain_now(struct luv *l);

/* After lua_close().  Frees `l` when the outer handles are closed. */
void luv_free(struct luv *l);

#endif
