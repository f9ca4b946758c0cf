/* luv_file.h - whose luv's requests for files are.
 *
 * A request that has begun cannot be called back, and a write that lands after
 * its command was answered may hit newer data.  So a request is noted with the
 * task that has begun it, and a task that is cancelled ends after it: what its
 * command holds, a range lock for instance, it holds that long.  A callback
 * may begin the next request for the same task.
 */
#ifndef LUV_FILE_H
#define LUV_FILE_H

#include <lua.h>

struct task;

/* Of one state with luv.  All zero at first. */
struct luv_files {
  struct task *task;            /* the callback that runs is of its request */
};

/* Has the file functions of the luv module on top of the stack note what they
 * begin.  `f` must outlive the state. */
void luv_file_watch(lua_State *L, struct luv_files *f);

/* A callback of luv has returned or failed. */
void luv_file_settle(struct luv_files *f);

#endif
