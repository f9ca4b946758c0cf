/* bind_buffer.h - bytes that Lua and C share without copying.
 *
 * A buffer is either memory of its own or a view on the data of a command.
 * A view works only while its command is the one that runs: afterwards the
 * bytes belong to somebody else.
 */
#ifndef BIND_BUFFER_H
#define BIND_BUFFER_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct cmd;

/* Names the metatable, and is the first member of a buffer. */
extern const char buffer_class[];

/* Pushes a buffer of n zeroed bytes, its own, and returns them. */
void *buffer_push(lua_State *L, size_t n);

/* Pushes a view on the data of `c`; `bidi`: on the Data-In of a bidirectional
 * command. */
void buffer_push_view(lua_State *L, struct cmd *c, bool bidi);

/* The slot of the view at `index` is freed: the next command at its address is
 * not the view's. */
void buffer_revoke(lua_State *L, int index);

#define BUFFER_REST UINT64_MAX

/* The iovecs of the buffer at `arg` from byte `at` on for *n bytes, at most
 * `room` of them into `out`; returns how many there are (more than `room`:
 * call again with more).  BUFFER_REST: *n becomes what there is to the end.
 * `change`: the bytes will be overwritten, all of them, whatever happens.
 * Raises on another's command and on a span outside. */
int buffer_span(lua_State *L, int arg, uint64_t at, uint64_t *n, bool change,
                struct iovec *out, int room);

/* A store could not fill these bytes: they must not keep what was in them.
 * `arg` is a buffer that was checked; does not raise. */
void buffer_clear(lua_State *L, int arg, uint64_t at, uint64_t n);

/* Takes the string or buffer at `index` of a coroutine that has ended for the
 * Data-In of its command and sets c->moved.  False: it is neither, or another
 * command's.  Does not raise. */
bool buffer_reply(lua_State *L, int index, struct cmd *c);

#endif
