/* luv.c - see luv.h. */
#include "luv.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "log.h"
#include "luv_file.h"
#include "resolve.h"
#include "state.h"
#include "watchdog.h"

struct luv {
  struct state *state;
  uv_loop_t inner;
  uv_poll_t poll;               /* on the shard's loop: inner descriptors */
  uv_timer_t timer;             /* the inner loop's next timer */
  struct resolver resolver;
  struct luv_files files;
  unsigned handles;             /* of the two above, not yet closed */
  bool closing;                 /* callbacks are dropped */
};

typedef int luv_callback(lua_State *L, int nargs, int nresults, int flags);
typedef void set_loop(lua_State *L, uv_loop_t *loop);
typedef void set_callback(lua_State *L, luv_callback *cb);

/* Not for handlers: these stop the loop, leave the state's limits or change
 * the whole process. */
static const char *const removed[] = {
  "run", "stop", "loop_close", "loop_configure", "new_thread", "new_work",
  "queue_work", "new_signal", "kill", "sleep", "chdir", "os_setenv",
  "os_unsetenv", "set_process_title", "setuid", "setgid", "os_setpriority",
  "disable_stdio_inheritance", "walk",
  NULL
};

/* luaopen_luv writes to statics: one state at a time. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

/* Calls back into Lua; an error costs a line in the log and nothing else. */
static int guarded(lua_State *L, int nargs, int nresults, const char *who)
{
  int base = lua_gettop(L) - nargs, rc;

  lua_pushcfunction(L, state_traceback);
  lua_insert(L, base);
  rc = lua_pcall(L, nargs, nresults, base);
  lua_remove(L, base);
  if (rc != LUA_OK) {
    log_error(who, "error in a luv callback: %s", lua_tostring(L, -1));
    lua_pop(L, 1);
    return -rc;
  }
  return nresults == LUA_MULTRET ? lua_gettop(L) - base + 1 : nresults;
}

static int on_callback(lua_State *L, int nargs, int nresults, int flags)
{
  struct state *st = state_of(L);
  struct watchdog_mark mark;
  int rc;

  (void)flags;
  if (st->luv && st->luv->closing) {
    lua_pop(L, nargs + 1);
    return 0;
  }
  st->patience = 1;
  mark = watchdog_enter(st, L);
  rc = guarded(L, nargs, nresults, st->name);
  watchdog_leave(st, mark);
  if (st->luv)
    luv_file_settle(&st->luv->files);
  return rc;
}

static void on_address(lua_State *L, int nargs)
{
  on_callback(L, nargs, 0, 0);
}

static int on_plain_callback(lua_State *L, int nargs, int nresults, int flags)
{
  (void)flags;
  return guarded(L, nargs, nresults, "control");
}

static void on_poll(uv_poll_t *h, int status, int events)
{
  (void)status;
  (void)events;
  state_stir(((struct luv *)h->data)->state);
}

static void on_timer(uv_timer_t *h)
{
  state_stir(((struct luv *)h->data)->state);
}

void luv_turn(struct luv *l)
{
  int timeout;

  uv_run(&l->inner, UV_RUN_NOWAIT);
  timeout = uv_backend_timeout(&l->inner);
  if (timeout >= 0)
    uv_timer_start(&l->timer, on_timer, (uint64_t)timeout, 0);
  else
    uv_timer_stop(&l->timer);
  if (uv_loop_alive(&l->inner))
    uv_ref((uv_handle_t *)&l->poll);
  else
    uv_unref((uv_handle_t *)&l->poll);
}

bool luv_alive(const struct luv *l)
{
  return uv_loop_alive(&l->inner);
}

static int make(struct state *st)
{
  struct luv *l = calloc(1, sizeof(*l));
  uv_loop_t *outer = &st->shard->loop;
  int rc;

  if (!l)
    return UV_ENOMEM;
  place_bar(&st->shard->place);
  l->state = st;
  rc = uv_loop_init(&l->inner);
  if (rc) {
    free(l);
    return rc;
  }
  uv_poll_init(outer, &l->poll, uv_backend_fd(&l->inner));
  uv_timer_init(outer, &l->timer);
  l->resolver = (struct resolver){ &l->inner, on_address };
  l->poll.data = l->timer.data = l;
  l->handles = 2;
  uv_poll_start(&l->poll, UV_READABLE, on_poll);
  uv_unref((uv_handle_t *)&l->poll);
  st->luv = l;
  return 0;
}

/* Pushes what the shared object's opener returns.  luv calls back on the
 * coroutine that opened it, which so has to be the main one. */
static void open_on_main(lua_State *L, void *so, const char *path,
                         uv_loop_t *loop, luv_callback *cb)
{
  set_loop *loop_setter;
  set_callback *cb_setter;
  lua_CFunction open;
  lua_State *main;
  int rc;

  *(void **)&loop_setter = dlsym(so, "luv_set_loop");
  *(void **)&cb_setter = dlsym(so, "luv_set_callback");
  *(void **)&open = dlsym(so, "luaopen_luv");
  if (!loop_setter || !cb_setter || !open)
    luaL_error(L, "%s is not luv 1.44 or newer", path);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  main = lua_tothread(L, -1);
  if (loop)
    loop_setter(main, loop);
  cb_setter(main, cb);
  lua_checkstack(main, 1);
  pthread_mutex_lock(&opening);
  lua_pushcfunction(main, open);
  rc = lua_pcall(main, 0, 1, 0);
  pthread_mutex_unlock(&opening);
  lua_xmove(main, L, 1);
  if (rc != LUA_OK)
    lua_error(L);
}

/* Finds luv, tells it the loop and the callback, and leaves the module on the
 * stack. */
static void load(lua_State *L, uv_loop_t *loop, luv_callback *cb)
{
  const char *path;
  void *so;

  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchpath");
  lua_pushliteral(L, "luv");
  lua_getfield(L, -3, "cpath");
  lua_call(L, 2, 1);
  path = lua_tostring(L, -1);
  if (!path)
    luaL_error(L, "luv is not installed: apt-get install lua-luv");
  so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!so)
    luaL_error(L, "luv cannot be loaded: %s", dlerror());
  open_on_main(L, so, path, loop, cb);

  lua_getfield(L, -1, "version");
  lua_call(L, 0, 1);
  if (lua_tointeger(L, -1) != (lua_Integer)uv_version())
    luaL_error(L, "luv uses another libuv than this program");
  lua_pop(L, 1);
}

int luv_preload_plain(lua_State *L)
{
  load(L, NULL, on_plain_callback);
  return 1;
}

int luv_preload(lua_State *L)
{
  struct state *st = state_of(L);
  int rc, i;

  if (!st->luv && (rc = make(st)))
    luaL_error(L, "no event loop for luv: %s", uv_strerror(rc));
  load(L, &st->luv->inner, on_callback);
  for (i = 0; removed[i]; i++) {
    lua_pushnil(L);
    lua_setfield(L, -2, removed[i]);
  }
  resolve_push(L, &st->luv->resolver);
  lua_setfield(L, -2, "getaddrinfo");
  luv_file_watch(L, &st->luv->files);
  return 1;
}

static void close_handle(uv_handle_t *h, void *arg)
{
  (void)arg;
  if (!uv_is_closing(h))
    uv_close(h, NULL);
}

bool luv_drain(struct luv *l)
{
  int turns = 0;

  l->closing = true;
  uv_walk(&l->inner, close_handle, NULL);
  while (uv_loop_alive(&l->inner) && turns++ < 100)
    uv_run(&l->inner, UV_RUN_NOWAIT);
  if (!uv_loop_alive(&l->inner))
    return true;
  uv_ref((uv_handle_t *)&l->poll);      /* tells of what is awaited */
  return false;
}

void luv_abandon(struct luv *l)
{
  uv_unref((uv_handle_t *)&l->poll);
  uv_unref((uv_handle_t *)&l->timer);
}

void luv_drain_now(struct luv *l)
{
  uv_walk(&l->inner, close_handle, NULL);
  uv_run(&l->inner, UV_RUN_DEFAULT);
}

static void on_outer_closed(uv_handle_t *h)
{
  struct luv *l = h->data;

  if (--l->handles == 0)
    free(l);
}

void luv_free(struct luv *l)
{
  uv_close((uv_handle_t *)&l->poll, on_outer_closed);
  uv_close((uv_handle_t *)&l->timer, on_outer_closed);
  if (uv_loop_close(&l->inner))
    log_warn("luv", "a handler's event loop could not be closed cleanly");
}
