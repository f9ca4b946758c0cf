/* libtcmu.c - the ring functions of libtcmu, if it is installed, on a kernel
 * of the benchmark: get every command, answer it with GOOD, no system calls.
 *
 * The library has no header in Debian.  Its ring functions use the first four
 * members of its device, and of a command what is declared here.
 */
#include <dlfcn.h>
#include <lauxlib.h>

#include "consumer.h"

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
