/* floor.c - the least that a consumer of a TCMU ring can do: a measuring stick.
 *
 * One thread serves one device from memory or from a file.  It trusts what it
 * finds on the ring, knows only the commands that Linux needs to attach a disk
 * and to use it, and ends when the device does.  What the program proper costs
 * more than this, it costs for checks, for Lua, and for many devices at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/magic.h>

#include "abi.h"

enum {
  BLOCK = 512,
  IOVS = 512,                   /* 1 MiB in single pages, twice over */
  CHECK_CONDITION = 2,
  LOOKS = 32,                   /* at the ring, for one at the clock */
};

static struct abi_mailbox *mailbox;
static char *ring;              /* where the entries start */
static char *memory;            /* the disk, unless it is a file */
static int disk = -1;
static uint64_t size;
static bool cached;             /* there is something to be flushed */

static void fail(const char *what)
{
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t big_endian(const uint8_t *p, int n)
{
  uint64_t v = 0;

  while (n--)
    v = v << 8 | *p++;
  return v;
}

static void put_big_endian(uint8_t *p, uint64_t v, int n)
{
  while (n--) {
    p[n] = (uint8_t)v;
    v >>= 8;
  }
}

/* The kernel's iovecs count from the start of the mapping. */
static int gather(const struct abi_cmd *c, struct iovec *iov)
{
  const struct abi_iov *from =
    (const void *)((const char *)c + ABI_IOV_OFF);
  int n = (int)c->req.iov_cnt;

  for (int i = 0; i < n; i++) {
    iov[i].iov_base = (char *)mailbox + from[i].base;
    iov[i].iov_len = from[i].len;
  }
  return n;
}

static bool move(const struct abi_cmd *c, uint64_t lba, bool out)
{
  struct iovec iov[IOVS];
  int n = gather(c, iov);
  off_t at = (off_t)(lba * BLOCK);

  if (!memory)
    return (out ? pwritev(disk, iov, n, at) : preadv(disk, iov, n, at)) >= 0;
  for (int i = 0; i < n; i++) {
    if (out)
      memcpy(memory + at, iov[i].iov_base, iov[i].iov_len);
    else
      memcpy(iov[i].iov_base, memory + at, iov[i].iov_len);
    at += (off_t)iov[i].iov_len;
  }
  return true;
}

/* Short answers: as much as there is room for, in the first iovec. */
static bool answer(const struct abi_cmd *c, const void *data, size_t len)
{
  struct iovec iov[IOVS];

  if (gather(c, iov) == 0)
    return true;
  memset(iov[0].iov_base, 0, iov[0].iov_len);
  memcpy(iov[0].iov_base, data, len < iov[0].iov_len ? len : iov[0].iov_len);
  return true;
}

static bool inquiry(const struct abi_cmd *c, const uint8_t *cdb)
{
  /* a disk of SPC-4 that queues commands, SPC-4 table 139 */
  uint8_t data[36] = { 0, 0, 6, 2, 31, 0, 0, 2 };

  if (cdb[1] & 1)               /* no vital product data */
    return false;
  memcpy(data + 8, "TCMULUA Floor           0001", 28);
  return answer(c, data, sizeof(data));
}

static bool capacity(const struct abi_cmd *c, bool is_long)
{
  uint8_t data[32] = { 0 };
  uint64_t last = size / BLOCK - 1;

  if (is_long) {                /* SBC-3 5.16 */
    put_big_endian(data, last, 8);
    put_big_endian(data + 8, BLOCK, 4);
    return answer(c, data, 32);
  }
  put_big_endian(data, last < UINT32_MAX ? last : UINT32_MAX, 4);
  put_big_endian(data + 4, BLOCK, 4);
  return answer(c, data, 8);
}

/* The caching page with WCE, whatever page is asked for: SBC-3 table 173. */
static bool mode_sense(const struct abi_cmd *c)
{
  const uint8_t data[24] = { 23, 0, 0x10, 0, 0x08, 18, cached ? 0x04 : 0 };

  return answer(c, data, sizeof(data));
}

static bool serve(const struct abi_cmd *c)
{
  const uint8_t *cdb = (const uint8_t *)mailbox + c->req.cdb_off;

  switch (cdb[0]) {
  case 0x28: return move(c, big_endian(cdb + 2, 4), false);
  case 0x2a: return move(c, big_endian(cdb + 2, 4), true);
  case 0x88: return move(c, big_endian(cdb + 2, 8), false);
  case 0x8a: return move(c, big_endian(cdb + 2, 8), true);
  case 0x35: return memory || fdatasync(disk) == 0;
  case 0x00: return true;
  case 0x12: return inquiry(c, cdb);
  case 0x1a: return mode_sense(c);
  case 0x25: return capacity(c, false);
  case 0x9e: return (cdb[1] & 31) == 0x10 && capacity(c, true);
  default: return false;
  }
}

/* ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE in fixed format. */
static void complete(struct abi_cmd *c, bool good)
{
  static const uint8_t sense[18] = { 0x70, 0, 5, [7] = 10, [12] = 0x20 };

  c->rsp.status = good ? 0 : CHECK_CONDITION;
  if (!good)
    memcpy(c->rsp.sense, sense, sizeof(sense));
}

static uint32_t head(void)
{
  return __atomic_load_n(&mailbox->cmd_head, __ATOMIC_ACQUIRE);
}

/* Serves what there is, and tells the kernel once.  Returns whether there was
 * anything. */
static bool drain(int fd)
{
  uint32_t tail = mailbox->cmd_tail, end = head();
  int32_t any = 0;

  if (tail == end)
    return false;
  do {
    struct abi_cmd *c = (void *)(ring + tail);

    if ((c->head.len_op & 7) == ABI_OP_CMD)
      complete(c, serve(c));
    tail += c->head.len_op & ~7u;
    if (tail >= mailbox->cmdr_size)
      tail -= mailbox->cmdr_size;
    if (tail == end)            /* more may have come meanwhile */
      end = head();
  } while (tail != end);
  __atomic_store_n(&mailbox->cmd_tail, tail, __ATOMIC_RELEASE);
  if (write(fd, &any, sizeof(any)) < 0)
    fail("the device takes no completions");
  return true;
}

static int64_t now(void)
{
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Looks at the ring for so many ns.  Returns whether something has come. */
static bool spin(int64_t window)
{
  int64_t end = now() + window;

  do {
    for (int i = 0; i < LOOKS; i++) {
      if (head() != mailbox->cmd_tail)
        return true;
      __builtin_ia32_pause();
    }
  } while (now() < end);
  return false;
}

static void run(int fd, int64_t window)
{
  struct pollfd p = { .fd = fd, .events = POLLIN };
  int32_t count;

  for (;;) {
    while (drain(fd))
      ;
    if (window && spin(window))
      continue;
    if (poll(&p, 1, -1) < 0 || read(fd, &count, sizeof(count)) < 0)
      return;                   /* the device is gone */
  }
}

static uint64_t map_size(const char *uio)
{
  char path[128];
  uint64_t n = 0;
  FILE *f;

  snprintf(path, sizeof(path), "/sys/class/uio/%s/maps/map0/size", uio);
  f = fopen(path, "r");
  if (!f || fscanf(f, "%" SCNx64, &n) != 1)
    fail(path);
  fclose(f);
  return n;
}

static void open_disk(const char *path)
{
  struct statfs fs;

  if (path) {
    disk = open(path, O_RDWR | O_CLOEXEC);
    if (disk < 0 || fstatfs(disk, &fs) < 0)
      fail(path);
    cached = fs.f_type != TMPFS_MAGIC;
    return;
  }
  memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED)
    fail("memory");
}

int main(int argc, char **argv)
{
  char path[64];
  int fd;

  if (argc < 4) {
    fprintf(stderr, "Usage: floor uioN BYTES POLL-MICROSECONDS [FILE]\n");
    return 2;
  }
  size = strtoull(argv[2], NULL, 10);
  open_disk(argc > 4 ? argv[4] : NULL);
  snprintf(path, sizeof(path), "/dev/%s", argv[1]);
  fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0)
    fail(path);
  mailbox = mmap(NULL, map_size(argv[1]), PROT_READ | PROT_WRITE, MAP_SHARED,
                 fd, 0);
  if (mailbox == MAP_FAILED)
    fail(path);
  ring = (char *)mailbox + mailbox->cmdr_off;
  run(fd, strtoll(argv[3], NULL, 10) * 1000);
  return 0;
}
