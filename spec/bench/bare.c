/* bare.c - a consumer that does the least, and checks nothing: what a loop in
 * C costs that only advances the ring and moves the data.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "consumer.h"

struct bare {
  struct kernel *kernel;
  uint32_t cursor;
  int epoll;
  int file;                     /* -1: blocks are in memory */
  unsigned char *memory;        /* NULL: commands have no data */
};

static uint64_t address(const unsigned char *cdb)
{
  return ((uint64_t)cdb[2] << 24 | (uint64_t)cdb[3] << 16 |
          (uint64_t)cdb[4] << 8 | cdb[5]) * 512;
}

static void move(const struct bare *b, const struct abi_cmd *e)
{
  const struct abi_iov *iov =
    (const struct abi_iov *)((const unsigned char *)e + ABI_IOV_OFF);
  const unsigned char *cdb = b->kernel->map + e->req.cdb_off;
  struct iovec v = { b->kernel->map + iov->base, iov->len };
  uint64_t at = address(cdb);

  if (b->file >= 0)
    (void)!preadv(b->file, &v, 1, (off_t)at);
  else if (cdb[0] == 0x2a)
    memcpy(b->memory + at, v.iov_base, v.iov_len);
  else
    memcpy(v.iov_base, b->memory + at, v.iov_len);
}

static void drain(struct bare *b)
{
  struct kernel *k = b->kernel;
  uint32_t head = __atomic_load_n(&k->mb->cmd_head, __ATOMIC_ACQUIRE);

  while (b->cursor != head) {
    struct abi_cmd *e = (struct abi_cmd *)(k->cmdr + b->cursor);

    if ((e->head.len_op & (ABI_ALIGN - 1)) == ABI_OP_CMD) {
      if (b->memory || b->file >= 0)
        move(b, e);
      e->head.uflags = 0;
      e->rsp.status = 0;
    }
    b->cursor += e->head.len_op & ~(ABI_ALIGN - 1u);
    if (b->cursor == k->cmdr_size)
      b->cursor = 0;
  }
  __atomic_store_n(&k->mb->cmd_tail, head, __ATOMIC_RELEASE);
}

static void turn(void *arg)
{
  struct bare *b = arg;
  struct epoll_event event;
  uint32_t value = 0;

  (void)!epoll_wait(b->epoll, &event, 1, -1);
  (void)!read(b->kernel->fd, &value, sizeof(value));
  drain(b);
  (void)!write(b->kernel->fd, &value, sizeof(value));
}

/* bench.bare(kernel, load, { memory = bytes, file = path }): as shard:run().
 * The memory is made for the call and written to before time is taken. */
int bench_bare(lua_State *L)
{
  struct bare b = { .kernel = bench_kernel(L, 1), .epoll = -1, .file = -1 };
  struct load l = bench_load(L, 2);
  struct epoll_event event = { .events = EPOLLIN };
  struct load_result r;
  const char *path;
  size_t size;
  int rc;

  luaL_checktype(L, 3, LUA_TTABLE);
  size = (size_t)bench_field(L, 3, "memory", 0);
  lua_getfield(L, 3, "file");
  path = luaL_optstring(L, -1, NULL);
  if (path) {
    b.file = open(path, O_RDONLY | O_CLOEXEC);
    if (b.file < 0)
      return luaL_error(L, "%s: %s", path, strerror(errno));
  } else if (size) {
    b.memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.memory == MAP_FAILED)
      return luaL_error(L, "no memory");
    madvise(b.memory, size, MADV_HUGEPAGE);     /* as the store's is */
    memset(b.memory, 1, size);
  }
  b.cursor = b.kernel->head;
  b.epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_ctl(b.epoll, EPOLL_CTL_ADD, b.kernel->fd, &event);
  rc = load_alone(b.kernel, &l, turn, &b, &r);
  close(b.epoll);
  if (b.file >= 0)
    close(b.file);
  if (b.memory)
    munmap(b.memory, size);
  if (rc)
    return luaL_error(L, "the ring is broken");
  return bench_push(L, &r, 0);
}
