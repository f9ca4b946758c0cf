/* state.h - one Lua state: one handler on one shard.
 *
 * All devices of the handler on the shard share it.  It has an allocator that
 * counts, the libraries without what would stop the whole shard, and, once a
 * handler asks for luv, an event loop of its own inside the shard's.
 */
#ifndef STATE_H
#define STATE_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard.h"
#include "watchdog.h"

struct luv;
struct message;
struct task;

struct state {
  LIST_ENTRY(state) link;
  lua_State *L;
  struct shard *shard;
  char *path;                   /* of the handler; NULL: it is closing */
  char name[64];                /* the same for the log */
  unsigned users;               /* devices */

  size_t used, limit;           /* bytes of Lua memory; limit 0: none */
  unsigned patience;            /* watchdog budgets that a step may use: more
                                   than 1 while loading and opening */
  bool inside;                  /* handler code is running: limit applies */
  bool over_limit;              /* a look at the memory is due */
  enum watchdog_stop volatile stop;     /* the running step is to end */

  struct task *idle;            /* pooled tasks with their coroutines */
  unsigned idle_count;
  uint64_t bindings;            /* how often a device was bound to it */
  struct luv *luv;              /* NULL until luv is required */

  int program;                  /* registry: what tcmu.device.load returned */
};

/* Makes a state and loads the handler at `path` (a file, or a name followed
 * by the handler's source after a newline, for specs).  0, or -EINVAL with a
 * text for people in *why (to be freed). */
int state_new(struct shard *s, const char *path, struct state **out,
              char **why);

/* The state of this handler on the shard, or NULL. */
struct state *state_find(struct shard *s, const char *path);

/* Closes it; no device may use it any more.  If a request of luv is stuck in
 * the thread pool, the rest happens when that has ended. */
void state_close(struct state *st);

/* The shard's thread ends: it does not wait for what luv requests of closed
 * states keep stuck in the thread pool.  Their memory stays. */
void state_abandon_all(struct shard *s);

/* Lua code of this state has run: its luv loop, if it has one, gets a turn in
 * the next shard_settle(), by state_turn_all(). */
static inline void state_stir(struct state *st)
{
  if (st->luv)
    st->shard->stirred = true;
}

void state_turn_all(struct shard *s);

/* True while a handle or request of luv is active. */
bool state_awaits_luv(const struct state *st);

/* A message handler for lua_pcall: turns any error object into a text with a
 * traceback, without calling what the handler may have put into it. */
int state_traceback(lua_State *L);

/* Calls the function below `nargs` arguments on st->L, protected, with
 * traceback and under the watchdog.  May not wait.  Returns a LUA_ code; on
 * failure one string is left instead of `nresults` values. */
int state_call(struct state *st, int nargs, int nresults);

/* Loads the handler's file once more, if the first device asks in this turn,
 * and checks it for the device whose dev table is at `dev_ref`.  The handler
 * that is in service stays.  0, or -EINVAL with a text for people in *why (to
 * be freed). */
int state_prepare(struct state *st, int dev_ref, const struct message *m,
                  char **why);

/* Pushes a member of the handler's program (open, close, change, fail). */
void state_push(struct state *st, lua_State *L, const char *member);

/* The state that L belongs to; NULL under a plain interpreter. */
struct state *state_of(lua_State *L);

#endif
