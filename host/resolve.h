/* resolve.h - luv's getaddrinfo for several threads.
 *
 * luv's own calls getprotobynumber() in every callback, whose static buffer
 * all threads share.  This one gives the same tables.
 */
#ifndef RESOLVE_H
#define RESOLVE_H

#include <lua.h>
#include <uv.h>

struct resolver {
  uv_loop_t *loop;
  /* Calls the function below `nargs` arguments, protected; runs nothing and
   * pops them where callbacks are dropped. */
  void (*call)(lua_State *L, int nargs);
};

/* Pushes getaddrinfo(host, service, hints, callback) for the loop.  `r` must
 * outlive the loop. */
void resolve_push(lua_State *L, const struct resolver *r);

#endif
