/* threads.c - consumers and kernels in threads of their own, on processors
 * that are chosen.
 */
#define _GNU_SOURCE             /* CPU_SET */
#include <lauxlib.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "consumer.h"

/* Binds the calling thread to a processor, counted among those allowed; -1:
 * leaves it alone.  Returns what it could run on before. */
static cpu_set_t bind_to(lua_Integer cpu)
{
  cpu_set_t before, one;
  int i;

  sched_getaffinity(0, sizeof(before), &before);
  CPU_ZERO(&one);
  for (i = 0; i < CPU_SETSIZE && cpu >= 0; i++)
    if (CPU_ISSET(i, &before) && cpu-- == 0)
      CPU_SET(i, &one);
  if (CPU_COUNT(&one))
    sched_setaffinity(0, sizeof(one), &one);
  return before;
}

struct side {
  pthread_t thread;
  lua_Integer cpu;
  struct bench_shard *shard;
  struct kernel *kernel;
  struct load load;
  struct load_result result;
  int rc;
};

static void *run_kernel(void *arg)
{
  struct side *s = arg;

  bind_to(s->cpu);
  s->rc = load_beside(s->kernel, &s->load, &s->result);
  uv_async_send(&s->shard->stop);
  return NULL;
}

/* shard:beside(kernel, load, kernel's cpu, own cpu): the kernel in a thread of
 * its own; without numbers both run where they like.  As shard:run(). */
int bench_beside(lua_State *L)
{
  struct side s = {
    .shard = bench_shard(L, 1), .kernel = bench_kernel(L, 2),
    .load = bench_load(L, 3), .cpu = luaL_optinteger(L, 4, -1),
  };
  uint64_t allocations = bench_allocations();
  cpu_set_t before = bind_to(-1);

  if (pthread_create(&s.thread, NULL, run_kernel, &s))
    return luaL_error(L, "no thread");
  bind_to(luaL_optinteger(L, 5, -1));
  uv_run(&s.shard->shard.loop, UV_RUN_DEFAULT);
  pthread_join(s.thread, NULL);
  sched_setaffinity(0, sizeof(before), &before);
  if (s.rc)
    return luaL_error(L, "a command was not answered with GOOD");
  return bench_push(L, &s.result, bench_allocations() - allocations);
}

static void *run_alone(void *arg)
{
  struct side *s = arg;

  bind_to(s->cpu);
  s->rc = load_alone(s->kernel, &s->load, bench_turn, &s->shard->shard.loop,
                     &s->result);
  return NULL;
}

/* bench.pair(load, shard, kernel, shard, kernel): both at the same time, each
 * with its kernel in a thread and on a processor of its own; -> ns, ns */
int bench_pair(lua_State *L)
{
  struct side s[2] = {
    { .cpu = 0, .load = bench_load(L, 1), .shard = bench_shard(L, 2),
      .kernel = bench_kernel(L, 3) },
    { .cpu = 1, .load = bench_load(L, 1), .shard = bench_shard(L, 4),
      .kernel = bench_kernel(L, 5) },
  };
  int i;

  for (i = 0; i < 2; i++)
    if (pthread_create(&s[i].thread, NULL, run_alone, &s[i]))
      return luaL_error(L, "no thread");
  for (i = 0; i < 2; i++)
    pthread_join(s[i].thread, NULL);
  if (s[0].rc || s[1].rc)
    return luaL_error(L, "a command was not answered with GOOD");
  lua_pushinteger(L, (lua_Integer)s[0].result.ns);
  lua_pushinteger(L, (lua_Integer)s[1].result.ns);
  return 2;
}

/* --- is anybody else here? ---------------------------------------------- */

struct spinner {
  pthread_t thread;
  lua_Integer cpu;
  uint64_t ns;                  /* to spin */
  double share;                 /* of the processor that it got */
};

static uint64_t thread_time(void)
{
  struct timespec t;

  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *spin(void *arg)
{
  struct spinner *s = arg;
  uint64_t start, used;

  bind_to(s->cpu);
  start = load_now();
  used = thread_time();
  while (load_now() - start < s->ns)
    ;
  s->share = (double)(thread_time() - used) / (double)(load_now() - start);
  return NULL;
}

/* bench.quiet(ms): spins on two processors at once; -> the smaller share of
 * one that a thread got, 0 if there are no two */
int bench_quiet(lua_State *L)
{
  uint64_t ns = (uint64_t)luaL_checkinteger(L, 1) * 1000000;
  struct spinner s[2] = { { .cpu = 0, .ns = ns }, { .cpu = 1, .ns = ns } };
  cpu_set_t all = bind_to(-1);
  int i;

  if (CPU_COUNT(&all) >= 2)
    for (i = 0; i < 2; i++)
      if (pthread_create(&s[i].thread, NULL, spin, &s[i]))
        return luaL_error(L, "no thread");
  for (i = 0; i < 2 && CPU_COUNT(&all) >= 2; i++)
    pthread_join(s[i].thread, NULL);
  lua_pushnumber(L, s[0].share < s[1].share ? s[0].share : s[1].share);
  return 1;
}

/* --- is a shard idle? ----------------------------------------------------- */

static void *run_loop(void *arg)
{
  struct side *s = arg;

  uv_run(&s->shard->shard.loop, UV_RUN_DEFAULT);
  return NULL;
}

static void pause_ms(lua_Integer ms)
{
  struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

  nanosleep(&t, NULL);
}

/* How often the other threads of the process have woken up. */
static long woken(void)
{
  struct rusage all, own;

  getrusage(RUSAGE_SELF, &all);
  getrusage(RUSAGE_THREAD, &own);
  return all.ru_nvcsw - own.ru_nvcsw;
}

static uint64_t process_time(void)
{
  struct timespec t;

  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* bench.idle(shard, ms): lets the shard alone in a thread until everything
 * sleeps, for ten seconds at most, and then for so long; -> ns of CPU time of
 * the process, how often a thread woke up, turns of the loop */
int bench_idle(lua_State *L)
{
  struct side s = { .shard = bench_shard(L, 1) };
  lua_Integer ms = luaL_checkinteger(L, 2);
  int i, quiet = 0;
  uint64_t used, turns;
  long before;

  if (pthread_create(&s.thread, NULL, run_loop, &s))
    return luaL_error(L, "no thread");
  for (i = 0; i < 100 && quiet < 5; i++) {
    before = woken();
    pause_ms(100);
    quiet = woken() == before ? quiet + 1 : 0;
  }
  before = woken();
  turns = s.shard->turns;
  used = process_time();
  pause_ms(ms);
  lua_pushinteger(L, (lua_Integer)(process_time() - used));
  lua_pushinteger(L, woken() - before);
  lua_pushinteger(L, (lua_Integer)(s.shard->turns - turns));
  uv_async_send(&s.shard->stop);
  pthread_join(s.thread, NULL);
  return 3;
}
