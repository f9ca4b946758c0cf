/* main.c - the benchmark's program: a Lua interpreter with the host's objects
 * and the C files of this directory in it.
 *
 *   build/bench/run SCRIPT [ARGUMENT...]
 *
 * Run from the top of the checkout.  Counts every allocation of the process.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bind.h"
#include "consumer.h"
#include "luv.h"

/* The C library's own, which stay behind the ones below. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static atomic_ullong allocations;

uint64_t bench_allocations(void)
{
  return allocations;
}

void *malloc(size_t n)
{
  atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
  return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
  atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
  return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
  atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
  return __libc_realloc(p, n);
}

static int traceback(lua_State *L)
{
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

/* A thousand devices have three descriptors each. */
static void raise_nofile(void)
{
  struct rlimit r;

  getrlimit(RLIMIT_NOFILE, &r);
  r.rlim_cur = r.rlim_max;
  setrlimit(RLIMIT_NOFILE, &r);
}

int main(int argc, char **argv)
{
  lua_State *L = luaL_newstate();
  int i;

  if (!L || argc < 2) {
    fprintf(stderr, "usage: build/bench/run SCRIPT [ARGUMENT...]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  raise_nofile();
  luaL_openlibs(L);
  preload(L, "tcmu.core", luaopen_tcmu_core);
  preload(L, "luv", luv_preload_plain);
  preload(L, "bench", luaopen_bench);
  if (luaL_dostring(L, "package.path = './lua/?.lua;./lua/?/init.lua;"
                       "./?.lua;' .. package.path"))
    return 1;
  bind_keep_paths(L);

  lua_createtable(L, argc, 0);
  for (i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_setglobal(L, "arg");
  lua_pushcfunction(L, traceback);
  if (luaL_loadfile(L, argv[1]) || lua_pcall(L, 0, 0, 1)) {
    fprintf(stderr, "bench: %s\n", lua_tostring(L, -1));
    return 1;
  }
  return 0;
}
