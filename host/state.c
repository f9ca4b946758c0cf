/* state.c - see state.h.
 *
 * The memory limit is soft: luv and parts of Lua's API allocate outside of any
 * protected call, where a refusal would end the process.  So only a large
 * block is refused; for the rest a hook is set that raises the error where it
 * can be caught.
 */
#include "state.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "log.h"
#include "luv.h"
#include "message.h"
#include "task.h"
#include "watchdog.h"

enum {
  LARGE = 64 * 1024,            /* bytes: a block that may be refused */
  LOADING = 200,                /* watchdog budgets for a handler's file and
                                   the further modules of ours that it is the
                                   first to need */
  RELOADING = 40,               /* for the file alone */
};

static const char state_key;    /* registry: the struct state */

static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
  struct state *st = ud;
  void *p;

  if (!ptr)
    osize = 0;                  /* it was a type tag */
  if (!nsize) {
    free(ptr);
    st->used -= osize;
    return NULL;
  }
  if (nsize > osize && st->inside && st->limit &&
      st->used + (nsize - osize) > st->limit) {
    if (nsize - osize > LARGE)
      return NULL;
    if (!st->over_limit)
      watchdog_short_of_memory(st);
  }
  p = realloc(ptr, nsize);
  if (p)
    st->used += nsize - osize;
  return p;
}

/* __gc of the first object that the state has made, and so the last to run
 * when it is closed: others may still have used luv. */
static int last_words(lua_State *L)
{
  struct state *st = *(struct state **)lua_touserdata(L, 1);

  if (st->luv)
    luv_drain_now(st->luv);
  return 0;
}

static void arm_last_words(struct state *st)
{
  lua_State *L = st->L;

  *(struct state **)lua_newuserdatauv(L, sizeof(st), 0) = st;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, last_words);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Only a true failure of malloc outside of any protected call gets here. */
static int panic(lua_State *L)
{
  (void)L;
  return 0;
}

struct state *state_of(lua_State *L)
{
  struct state *st;

  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  st = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return st;
}

int state_traceback(lua_State *L)
{
  const char *text = NULL;

  if (lua_type(L, 1) == LUA_TTABLE) {   /* an I/O error, for instance */
    lua_pushliteral(L, "message");
    lua_rawget(L, 1);
    lua_replace(L, 1);
  }
  if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER)
    text = lua_tostring(L, 1);
  luaL_traceback(L, L, text ? text : "(error object is not a string)", 1);
  return 1;
}

int state_call(struct state *st, int nargs, int nresults)
{
  lua_State *L = st->L;
  int base = lua_gettop(L) - nargs, rc;
  struct watchdog_mark mark;

  lua_pushcfunction(L, state_traceback);
  lua_insert(L, base);
  mark = watchdog_enter(st, L);
  rc = lua_pcall(L, nargs, nresults, base);
  watchdog_leave(st, mark);
  lua_remove(L, base);
  state_stir(st);
  return rc;
}

void state_push(struct state *st, lua_State *L, const char *member)
{
  lua_rawgeti(L, LUA_REGISTRYINDEX, st->program);
  lua_getfield(L, -1, member);
  lua_remove(L, -2);
}

/* The libraries of Lua and of ours -> the function tcmu.device.load. */
static int boot(lua_State *L)
{
  luaL_openlibs(L);
  bind_sandbox(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "tcmu.device");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "load");
  return 1;
}

/* Leaves the handler's program or what was raised.  Its limits are for what is
 * the handler's. */
static int load(struct state *st, const char *path)
{
  lua_State *L = st->L;
  int rc;

  lua_pushcfunction(L, state_traceback);
  lua_pushcfunction(L, boot);
  rc = lua_pcall(L, 0, 1, -2);
  lua_remove(L, -2);
  if (rc != LUA_OK)
    return rc;
  lua_pushstring(L, path);
  st->patience = LOADING;
  rc = state_call(st, 1, 1);
  st->patience = 1;
  return rc;
}

/* What is for people; the traceback below it is for whoever debugs. */
static char *first_sentence(const char *text)
{
  const char *end = text ? strstr(text, "\nstack traceback:") : NULL;

  log_debug("load", "%s", text ? text : "(no text)");
  if (!end)
    return strdup(text ? text : "the handler cannot be loaded");
  return strndup(text, (size_t)(end - text));
}

int state_new(struct shard *s, const char *path, struct state **out,
              char **why)
{
  struct state *st = calloc(1, sizeof(*st));
  int rc;

  *out = NULL;
  *why = NULL;
  if (!st)
    return -ENOMEM;
  st->shard = s;
  st->limit = s->memory_limit;
  st->program = LUA_NOREF;
  st->path = strdup(path);
  snprintf(st->name, sizeof(st->name), "%.*s", (int)strcspn(path, "\n"), path);
  st->L = lua_newstate(allocate, st);
  if (!st->path || !st->L) {
    if (st->L)
      lua_close(st->L);
    free(st->path);
    free(st);
    return -ENOMEM;
  }
  lua_atpanic(st->L, panic);
  *(void **)lua_getextraspace(st->L) = NULL;    /* no task: see task.c */
  lua_pushlightuserdata(st->L, st);
  lua_rawsetp(st->L, LUA_REGISTRYINDEX, &state_key);
  arm_last_words(st);
  LIST_INSERT_HEAD(&s->states, st, link);

  rc = load(st, path);
  if (rc != LUA_OK) {
    *why = first_sentence(lua_tostring(st->L, -1));
    state_close(st);
    return -EINVAL;
  }
  st->program = luaL_ref(st->L, LUA_REGISTRYINDEX);
  *out = st;
  return 0;
}

int state_prepare(struct state *st, int dev_ref, const struct message *m,
                  char **why)
{
  lua_State *L = st->L;
  int rc;

  *why = NULL;
  state_push(st, L, "prepare");
  lua_rawgeti(L, LUA_REGISTRYINDEX, dev_ref);
  message_push(L, m);
  st->patience = RELOADING;
  rc = state_call(st, 2, 0);
  st->patience = 1;
  if (rc != LUA_OK) {
    *why = first_sentence(lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  state_push(st, L, "settle");
  lua_pushboolean(L, rc == LUA_OK);
  if (state_call(st, 1, 0) != LUA_OK) {
    log_error(st->name, "after a reload: %s", lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return rc == LUA_OK ? 0 : -EINVAL;
}

struct state *state_find(struct shard *s, const char *path)
{
  struct state *st;

  LIST_FOREACH(st, &s->states, link)
    if (st->path && strcmp(st->path, path) == 0)
      return st;
  return NULL;
}

bool state_awaits_luv(const struct state *st)
{
  return st->luv && luv_alive(st->luv);
}

/* The end of a state; false while a request of luv is still in flight. */
static bool finish(struct state *st)
{
  struct luv *luv = st->luv;

  if (luv && !luv_drain(luv))
    return false;
  task_pool_free(st);
  lua_close(st->L);
  if (luv)
    luv_free(luv);
  LIST_REMOVE(st, link);
  free(st);
  return true;
}

void state_close(struct state *st)
{
  free(st->path);
  st->path = NULL;              /* closing: not to be found any more */
  if (!finish(st))
    st->shard->stirred = true;
}

void state_abandon_all(struct shard *s)
{
  struct state *st;

  LIST_FOREACH(st, &s->states, link)
    if (st->luv) {
      log_warn(st->name, "a request that the handler gave to luv is stuck, and "
               "is not waited for");
      luv_abandon(st->luv);
    }
}

void state_turn_all(struct shard *s)
{
  struct state *st, *next;

  s->stirred = false;
  for (st = LIST_FIRST(&s->states); st; st = next) {
    next = LIST_NEXT(st, link);
    if (!st->path)
      finish(st);
    else if (st->luv)
      luv_turn(st->luv);
  }
}
