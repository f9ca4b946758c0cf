/* rings.c - our ring functions and libtcmu's, if it is installed: get every
 * no-op with its CDB, answer it with GOOD, no system calls.
 *
 * The library has no header in Debian.  Its ring functions use the first four
 * members of its device.
 */
#include <dlfcn.h>
#include <lauxlib.h>

#include "consumer.h"
#include "ring_short.h"

/* --- ours ---------------------------------------------------------------- */

/* As cmd_take() answers what needs no data. */
__attribute__((noinline)) static void ring_turn(void *arg)
{
  unsigned char cdb[RING_CDB_COMMON];
  struct ring *r = arg;
  union ring_entry e;

  while (ring_has_cmd(r, &e.cmd) || ring_find(r, &e) == RING_CMD) {
    if (!ring_cdb_common(r, &e.cmd, cdb) ||
        abi_cdb_len(cdb[0], cdb[7]) > sizeof(cdb))
      return;
    ring_good_at_once(r, &e.cmd);
  }
  ring_publish(r);
}

/* bench.ring(kernel, load), as shard:run() */
int bench_ring(lua_State *L)
{
  struct kernel *k = bench_kernel(L, 1);
  struct load l = bench_load(L, 2);
  struct load_result result;
  struct ring *r;
  char why[160];
  int rc;

  if (ring_new(k->map, k->size, why, sizeof(why), &r))
    return luaL_error(L, "%s", why);
  l.silent = true;
  rc = load_alone(k, &l, ring_turn, r, &result);
  ring_free(r);
  if (rc)
    return luaL_error(L, "the ring is broken");
  return bench_push(L, &result, 0);
}

/* --- theirs -------------------------------------------------------------- */

/* As libtcmu 1.5 lays it out, with room for the members behind. */
struct tcmu_device {
  int fd;
  void *map;
  size_t map_len;
  uint32_t cmd_tail;
  unsigned char rest[4096];
};

struct tcmulib_cmd;

static struct {
  struct tcmulib_cmd *(*next)(struct tcmu_device *d, int extra);
  void (*complete)(struct tcmu_device *d, struct tcmulib_cmd *c, int result);
} lib;

enum { RESULT_OK = 0 };         /* TCMU_STS_OK, which becomes GOOD */

__attribute__((noinline)) static void libtcmu_turn(void *arg)
{
  struct tcmu_device *d = arg;
  struct tcmulib_cmd *c;

  while ((c = lib.next(d, 0)))
    lib.complete(d, c, RESULT_OK);
}

/* bench.libtcmu(kernel, load) as shard:run(); nil if there is no libtcmu */
int bench_libtcmu(lua_State *L)
{
  struct kernel *k = bench_kernel(L, 1);
  struct load l = bench_load(L, 2);
  void *dl = dlopen("libtcmu.so.2", RTLD_NOW);
  static struct tcmu_device d;
  struct load_result r;

  if (!dl)
    return 0;
  *(void **)&lib.next = dlsym(dl, "tcmulib_get_next_command");
  *(void **)&lib.complete = dlsym(dl, "tcmulib_command_complete");
  if (!lib.next || !lib.complete)
    return 0;
  l.silent = true;
  d.fd = -1;
  d.map = k->map;
  d.map_len = k->size;
  d.cmd_tail = k->head;
  if (load_alone(k, &l, libtcmu_turn, &d, &r))
    return luaL_error(L, "libtcmu: a command was not answered with GOOD");
  return bench_push(L, &r, 0);
}
