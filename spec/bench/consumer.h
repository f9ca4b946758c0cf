/* consumer.h - the host's shard with devices on kernels of the benchmark, and
 * what its other half can do; in Lua the table `bench`.
 */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <lauxlib.h>
#include <lua.h>

#include "kernel.h"
#include "load.h"
#include "shard.h"

struct device;

struct bench_shard {
  struct shard shard;
  uv_async_t stop;              /* ends uv_run(), from another thread */
  uv_check_t check;             /* counts turns of the loop */
  uint64_t turns;
  int64_t next_id;
  int64_t answered;             /* device of the last report */
  int status;
  char why[512];
};

int luaopen_bench(lua_State *L);

/* Arguments of the functions; all raise if there is something else. */
struct kernel *bench_kernel(lua_State *L, int arg);
struct bench_shard *bench_shard(lua_State *L, int arg);
struct device *bench_device(lua_State *L, struct bench_shard *b, int arg);
struct load bench_load(lua_State *L, int arg);
lua_Integer bench_field(lua_State *L, int arg, const char *name,
                        lua_Integer fallback);
bool bench_flag(lua_State *L, int arg, const char *name);

/* Makes the metatable `name` with these methods. */
void bench_class(lua_State *L, const char *name, const luaL_Reg *methods);

/* One turn of a loop, as load_alone() wants it.  Instructions are counted
 * inside of it, and of bench_bare_turn(). */
void bench_turn(void *loop);

/* Pushes { ns =, cpu_ns =, commands =, turns =, writes =, allocations = }. */
int bench_push(lua_State *L, const struct load_result *r,
               uint64_t allocations);

/* malloc() and its relatives: calls by all threads up to now. */
uint64_t bench_allocations(void);

/* -- consumer.c ------------------------------------------------------------ */

void bench_shard_class(lua_State *L);
int bench_new_shard(lua_State *L);

/* -- bare.c: consumers that do the least ---------------------------------- */

int bench_bare(lua_State *L);

/* -- rings.c: ring functions alone ----------------------------------------- */

int bench_ring(lua_State *L);
int bench_libtcmu(lua_State *L);

/* -- entry.c: ways into Lua ------------------------------------------------ */

int bench_entries(lua_State *L);
int bench_teach(lua_State *L);

/* -- threads.c ------------------------------------------------------------- */

int bench_beside(lua_State *L);
int bench_pair(lua_State *L);
int bench_quiet(lua_State *L);
int bench_idle(lua_State *L);

#endif
