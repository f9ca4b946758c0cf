/* bind_names.c - what became of a file's name, to survive a crash.
 *
 * Renaming and removing are a matter of memory; to be certain of them takes the
 * disk, whose time the loop does not have.  So a thread of libuv's waits for it.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "bind.h"
#include "device.h"
#include "state.h"
#include "store.h"
#include "task.h"

struct sync {
  uv_work_t work;
  struct task *task;
  int rc;
  char path[];
};

static void work(uv_work_t *w)
{
  struct sync *s = w->data;

  s->rc = store_sync_directory(s->path);
}

static void worked(uv_work_t *w, int status)
{
  struct sync *s = w->data;
  struct task *t = s->task;

  (void)status;                 /* nothing here is ever cancelled */
  t->rc = s->rc;
  free(s);
  task_wake(t, 0);
  if (--t->dev->ops == 0)
    device_quiet(t->dev);
}

static int go_on(lua_State *L, int status, lua_KContext ctx)
{
  int rc = ((struct task *)ctx)->rc;

  (void)status;
  return rc ? luaL_error(L, "cannot sync the directory of %s: %s",
                         lua_tostring(L, 1), strerror(-rc)) : 0;
}

/* core.sync_directory(path): what became of the name of this file, that it is
 * new, was renamed or removed, is on stable storage.  Waits; raises. */
static int l_sync_directory(lua_State *L)
{
  size_t len;
  const char *path = luaL_checklstring(L, 1, &len);
  struct task *t = task_waiter(L, "sync_directory");
  struct sync *s;

  if (!t->dev)
    return luaL_error(L, "sync_directory: there is no device yet");
  s = malloc(sizeof(*s) + len + 1);
  if (!s)
    return luaL_error(L, "sync_directory: out of memory");
  s->work.data = s;
  s->task = t;
  memcpy(s->path, path, len + 1);
  /* fails only without a function to run */
  uv_queue_work(&t->state->shard->loop, &s->work, work, worked);
  t->dev->ops++;
  lua_settop(L, 1);
  return task_wait(L, t, NULL, go_on);
}

static const luaL_Reg functions[] = {
  { "sync_directory", l_sync_directory },
  { NULL, NULL }
};

void bind_names(lua_State *L)
{
  luaL_setfuncs(L, functions, 0);
}
