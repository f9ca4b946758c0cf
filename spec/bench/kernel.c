/* kernel.c - see kernel.h. */
#define _GNU_SOURCE              /* memfd_create */
#include "kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ring.h"

static int open_fds(struct kernel *k)
{
  int fd[2];

  k->memfd = memfd_create("tcmu-bench", MFD_CLOEXEC);
  if (k->memfd < 0 || ftruncate(k->memfd, (off_t)k->size))
    return -errno;
  k->map = mmap(NULL, k->size, PROT_READ | PROT_WRITE, MAP_SHARED, k->memfd,
                0);
  if (k->map == MAP_FAILED)
    return -errno;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd))
    return -errno;
  k->fd = fd[0];
  k->kernel_fd = fd[1];
  return ioctl(k->fd, FIONBIO, &(int){ 1 }) ? -errno : 0;
}

int kernel_new(const struct kernel_options *o, struct kernel **out)
{
  struct kernel *k = calloc(1, sizeof(*k));
  uint32_t i;
  int rc;

  *out = NULL;
  if (!k)
    return -ENOMEM;
  k->memfd = k->fd = k->kernel_fd = -1;
  k->map = MAP_FAILED;
  k->size = o->ring_size + o->depth * o->io_max;
  k->io_max = o->io_max;
  k->ids = k->idle = o->depth;
  k->idle_ids = calloc(k->ids, sizeof(*k->idle_ids));
  k->out = calloc(k->ids + 1ul, sizeof(*k->out));
  rc = k->idle_ids && k->out ? open_fds(k) : -ENOMEM;
  if (rc) {
    kernel_free(k);
    return rc;
  }
  for (i = 0; i < k->ids; i++)  /* the lowest is taken first */
    k->idle_ids[i] = (uint16_t)(k->ids - i);
  k->mb = (struct abi_mailbox *)k->map;
  k->cmdr = k->map + ABI_RING_OFF;
  k->cmdr_size = (uint32_t)o->ring_size - ABI_RING_OFF;
  *k->mb = (struct abi_mailbox) {
    .version = RING_VERSION, .cmdr_off = ABI_RING_OFF,
    .cmdr_size = k->cmdr_size,
    .flags = RING_CAP_OOOC | RING_CAP_READ_LEN | RING_CAP_TMR,
  };
  *out = k;
  return 0;
}

void kernel_forget(struct kernel *k)
{
  munmap(k->map, k->size);
  k->map = MAP_FAILED;
  k->mb = NULL;
}

void kernel_free(struct kernel *k)
{
  if (!k)
    return;
  if (k->map != MAP_FAILED)
    munmap(k->map, k->size);
  if (k->memfd >= 0)
    close(k->memfd);
  if (k->fd >= 0)
    close(k->fd);
  if (k->kernel_fd >= 0)
    close(k->kernel_fd);
  free(k->idle_ids);
  free(k->out);
  free(k);
}

static void publish(struct kernel *k, uint32_t head)
{
  k->head = head == k->cmdr_size ? 0 : head;
  __atomic_store_n(&k->mb->cmd_head, k->head, __ATOMIC_RELEASE);
}

/* Room for `len` bytes at the head, after a PAD where the ring ends; one byte
 * stays free, to tell full from empty. */
static struct abi_cmd *make_room(struct kernel *k, uint32_t len)
{
  uint32_t to_end = k->cmdr_size - k->head;
  uint32_t used = k->head >= k->cleaned ? k->head - k->cleaned
                                        : k->head + k->cmdr_size - k->cleaned;

  if (k->cmdr_size - used <= (to_end >= len ? len : len + to_end))
    return NULL;
  if (to_end < len) {
    *(struct abi_entry *)(k->cmdr + k->head) =
      (struct abi_entry) { .len_op = to_end | ABI_OP_PAD };
    publish(k, 0);
  }
  return memset(k->cmdr + k->head, 0, len);
}

bool kernel_put(struct kernel *k, const unsigned char *cdb, size_t cdb_len,
                size_t len)
{
  uint32_t cdb_at = sizeof(struct abi_cmd);
  uint32_t size = cdb_at + (uint32_t)((cdb_len + 7) & ~7ul);
  struct abi_iov *iov;
  struct abi_cmd *e;
  uint16_t id;

  if (!k->idle)
    return false;
  e = make_room(k, size);
  if (!e)
    return false;
  id = k->idle_ids[--k->idle];
  k->out[id] = true;
  e->head.len_op = size | ABI_OP_CMD;
  e->head.cmd_id = id;
  if (len) {
    iov = (struct abi_iov *)((unsigned char *)e + ABI_IOV_OFF);
    e->req.iov_cnt = 1;
    iov->base = k->size - (size_t)id * k->io_max;
    iov->len = len;
  }
  e->req.cdb_off = (uint64_t)((unsigned char *)e - k->map) + cdb_at;
  memcpy((unsigned char *)e + cdb_at, cdb, cdb_len);
  publish(k, k->head + size);
  return true;
}

void kernel_kick(struct kernel *k, bool merge)
{
  static const uint32_t event = 1;
  int unread;

  /* The consumer reads the event before it looks at cmd_head. */
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (merge && !ioctl(k->kernel_fd, SIOCOUTQ, &unread) && unread)
    return;
  (void)!send(k->kernel_fd, &event, sizeof(event), MSG_NOSIGNAL);
}

uint32_t kernel_reap(struct kernel *k)
{
  uint32_t tail = __atomic_load_n(&k->mb->cmd_tail, __ATOMIC_ACQUIRE);
  uint32_t n = 0;

  while (k->cleaned != tail && !k->broken) {
    const struct abi_cmd *e = (const struct abi_cmd *)(k->cmdr + k->cleaned);
    uint32_t len = e->head.len_op & ~(ABI_ALIGN - 1u);

    if ((e->head.len_op & (ABI_ALIGN - 1)) == ABI_OP_CMD) {
      uint16_t id = e->head.cmd_id;

      if (!id || id > k->ids || !k->out[id]) {
        k->broken = true;
        break;
      }
      k->failed += e->rsp.status != 0;
      k->out[id] = false;
      k->idle_ids[k->idle++] = id;
      n++;
    }
    k->cleaned += len;
    if (k->cleaned == k->cmdr_size)
      k->cleaned = 0;
    else if (!len || k->cleaned > k->cmdr_size)
      k->broken = true;
  }
  k->done += n;
  return n;
}

void kernel_wait(struct kernel *k)
{
  uint32_t value;

  k->writes += recv(k->kernel_fd, &value, sizeof(value), 0) == sizeof(value);
}

void kernel_hear(struct kernel *k, unsigned most)
{
  uint32_t value;

  while (most-- && recv(k->kernel_fd, &value, sizeof(value), MSG_DONTWAIT) > 0)
    k->writes++;
}
