/* sim.c - the kernel's half of a TCMU device, in process: life, and what an
 * initiator and an administrator do to it.
 *
 * The ring itself is in sim_ring.c; the consumer's end is a socket pair, since
 * an eventfd refuses reads and writes of four bytes.
 */
#define _GNU_SOURCE
#include "sim.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sim_ring.h"

enum { PAGE = 4096 };

const struct sim_options sim_defaults = {
  .ring_size = 8 << 20,
  .data_size = 64 << 20,
  .block_pages = 1,
  .caps = RING_CAP_OOOC | RING_CAP_READ_LEN | RING_CAP_TMR | RING_CAP_KEEP_BUF,
  .version = RING_VERSION,
};

static bool reserve(struct cmd *c, size_t len)
{
  unsigned char *buf;

  if (len <= c->buf_room)
    return true;
  buf = realloc(c->buf, len);
  if (!buf)
    return false;
  c->buf = buf;
  c->buf_room = len;
  return true;
}

static struct cmd *new_cmd(struct sim *s)
{
  struct cmd *c = s->idle.first;

  if (c)
    sim_extract(&s->idle, c);
  else if (!(c = calloc(1, sizeof(*c))))
    return NULL;
  c->id = 0;
  c->expired = c->has_sense = false;
  c->out_runs = c->all_runs = 0;
  c->data_len = 0;
  return c;
}

uint64_t sim_submit(struct sim *s, const struct sim_request *q)
{
  struct cmd *c = new_cmd(s);
  size_t n;

  if (!c)
    return 0;
  c->tag = ++s->tag;
  c->out_len = q->out_len;
  c->in_len = q->in_len;
  c->cdb_len = abi_cdb_len(q->cdb_len ? q->cdb[0] : 0,
                           q->cdb_len > 7 ? q->cdb[7] : 0);
  n = q->cdb_len < c->cdb_len ? q->cdb_len : c->cdb_len;
  memcpy(c->cdb, q->cdb, n);
  memset(c->cdb + n, 0, c->cdb_len - n);
  if (!reserve(c, c->in_len)) {
    sim_prepend(&s->idle, c);
    return 0;
  }

  if (s->blocked)
    sim_finish(s, c, BUSY);
  else if (s->broken)
    sim_refuse(s, c, &sim_communication_failure);
  else if (s->tmrs || s->waiting.first || !sim_place(s, c, q->out)) {
    if (!reserve(c, c->out_len)) {
      sim_finish(s, c, TASK_SET_FULL);
      return c->tag;
    }
    if (q->out && q->out_len)
      memcpy(c->buf, q->out, c->out_len);
    sim_append(&s->waiting, c);
  }
  return c->tag;
}

void sim_kick(struct sim *s)
{
  static const uint32_t event = 1;
  int unread;

  if (!s->news || s->mute)
    return;
  s->news = false;
  /* One event stands for any number.  The consumer looks at cmd_head after it
   * has read it, so an unread one will do, provided that cmd_head is out. */
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (ioctl(s->kernel_fd, SIOCOUTQ, &unread) || !unread)
    (void)!send(s->kernel_fd, &event, sizeof(event), MSG_NOSIGNAL);
}

size_t sim_collect(struct sim *s)
{
  uint64_t before = s->writes;
  uint32_t value;
  ssize_t n;

  while ((n = recv(s->kernel_fd, &value, sizeof(value), MSG_TRUNC)) > 0)
    s->writes += n == sizeof(value);
  if (s->writes != before) {
    sim_reap(s);
    sim_place_waiting(s);
    sim_kick(s);
  }
  return s->finished_count;
}

bool sim_done(struct sim *s, struct sim_result *out)
{
  struct cmd *c = s->finished.first;

  if (s->shown)
    sim_prepend(&s->idle, s->shown);
  s->shown = c;
  if (!c)
    return false;
  sim_extract(&s->finished, c);
  s->finished_count--;
  *out = (struct sim_result) {
    .tag = c->tag, .status = c->status,
    .sense = c->has_sense ? c->sense : NULL,
    .data = c->buf, .data_len = c->data_len,
  };
  return true;
}

static bool is_named(const struct cmd *c, const uint64_t *tags, size_t n)
{
  while (tags && n)
    if (tags[--n] == c->tag)
      return true;
  return !tags;
}

int sim_tmr(struct sim *s, uint8_t type, const uint64_t *tags, size_t n)
{
  struct cmd *c, *next;
  uint32_t count = 0;
  struct tmr *t;

  for (c = s->waiting.first; c; c = next) {
    next = c->next;
    if (is_named(c, tags, n))
      sim_finish(s, sim_extract(&s->waiting, c), TASK_ABORTED);
  }
  if (!(s->caps & RING_CAP_TMR))
    return 0;

  t = malloc(sizeof(*t) + (SIM_IDS - s->ids.left) * sizeof(*t->ids));
  if (!t)
    return -ENOMEM;
  for (c = s->on_ring.first; c; c = c->next)
    if (!c->expired && is_named(c, tags, n))
      t->ids[count++] = c->id;
  t->next = NULL;
  t->type = type;
  t->count = count;
  t->len = (uint32_t)((sizeof(struct abi_tmr) + count * sizeof(*t->ids) +
                       ABI_ALIGN - 1) & ~(ABI_ALIGN - 1ul));
  *s->tmrs_end = t;
  s->tmrs_end = &t->next;
  sim_place_waiting(s);
  sim_kick(s);
  return 0;
}

int sim_expire(struct sim *s, uint64_t tag)
{
  struct cmd *c, *end;

  for (c = s->waiting.first; c; c = c->next)
    if (c->tag == tag) {
      sim_finish(s, sim_extract(&s->waiting, c), TASK_SET_FULL);
      return 0;
    }
  for (c = s->on_ring.first; c; c = c->next)
    if (c->tag == tag && !c->expired) {
      end = new_cmd(s);
      if (!end)
        return -ENOMEM;
      end->tag = tag;
      c->expired = true;
      sim_refuse(s, end, &sim_communication_failure);
      return 0;
    }
  return -ENOENT;
}

static void free_tmrs(struct sim *s)
{
  while (s->tmrs) {
    struct tmr *t = s->tmrs;

    s->tmrs = t->next;
    free(t);
  }
  s->tmrs_end = &s->tmrs;
}

void sim_reset(struct sim *s, int kind)
{
  while (s->on_ring.first) {
    struct cmd *c = s->on_ring.first;

    sim_forget(s, c);
    if (c->expired)
      sim_prepend(&s->idle, c);
    else if (kind == 1)
      sim_finish(s, c, BUSY);
    else
      sim_refuse(s, c, &sim_communication_failure);
  }
  free_tmrs(s);
  s->head = s->cleaned = 0;
  s->broken = false;
  __atomic_store_n(&s->mb->cmd_tail, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&s->mb->cmd_head, 0, __ATOMIC_RELEASE);
  sim_place_waiting(s);
  sim_kick(s);
}

void sim_block(struct sim *s, bool on)
{
  if (on && !s->blocked) {
    sim_reap(s);
    while (s->waiting.first)
      sim_finish(s, sim_extract(&s->waiting, s->waiting.first), BUSY);
  }
  s->blocked = on;
}

void sim_mute(struct sim *s, bool mute)
{
  s->mute = mute;
  sim_kick(s);
}

void sim_poison(struct sim *s, int byte)
{
  s->poison = byte;
}

static void free_list(struct cmd_list *l)
{
  while (l->first) {
    struct cmd *c = sim_extract(l, l->first);

    free(c->runs);
    free(c->buf);
    free(c);
  }
}

int sim_new(const struct sim_options *o, struct sim **out)
{
  size_t block = (size_t)o->block_pages * PAGE;
  struct sim *s;
  int fd[2], rc;

  *out = NULL;
  if (!block || !o->ring_size || o->ring_size % PAGE ||
      o->ring_size > UINT32_MAX / 2 || !o->data_size ||
      o->data_size % block || o->data_size / block > UINT32_MAX / 2)
    return -EINVAL;

  s = calloc(1, sizeof(*s));
  if (!s)
    return -ENOMEM;
  s->memfd = s->fd = s->kernel_fd = -1;
  s->map = MAP_FAILED;
  s->tmrs_end = &s->tmrs;
  s->poison = -1;
  s->size = o->ring_size + o->data_size;
  s->block = block;
  s->caps = o->caps;
  s->cmdr_size = (uint32_t)o->ring_size - ABI_RING_OFF;

  rc = bits_init(&s->ids, SIM_IDS);
  if (!rc)
    rc = bits_init(&s->blocks, (uint32_t)(o->data_size / block));
  s->by_id = calloc(SIM_IDS + 1, sizeof(*s->by_id));
  if (!rc && !s->by_id)
    rc = -ENOMEM;
  if (rc)
    goto fail;

  s->memfd = memfd_create("tcmu-sim", MFD_CLOEXEC);
  if (s->memfd < 0 || ftruncate(s->memfd, (off_t)s->size))
    goto fail_errno;
  s->map = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED, s->memfd,
                0);
  if (s->map == MAP_FAILED)
    goto fail_errno;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                 fd))
    goto fail_errno;
  s->fd = fd[0];
  s->kernel_fd = fd[1];

  s->mb = (struct abi_mailbox *)s->map;
  s->mb->version = (uint16_t)o->version;
  s->mb->flags = (uint16_t)o->caps;
  s->mb->cmdr_off = ABI_RING_OFF;
  s->mb->cmdr_size = s->cmdr_size;
  s->cmdr = s->map + ABI_RING_OFF;
  *out = s;
  return 0;

fail_errno:
  rc = -errno;
fail:
  sim_free(s);
  return rc;
}

void sim_free(struct sim *s)
{
  if (!s)
    return;
  free_list(&s->waiting);
  free_list(&s->on_ring);
  free_list(&s->finished);
  if (s->shown)
    sim_prepend(&s->idle, s->shown);
  free_list(&s->idle);
  free_tmrs(s);
  free(s->by_id);
  bits_free(&s->ids);
  bits_free(&s->blocks);
  if (s->map != MAP_FAILED)
    munmap(s->map, s->size);
  if (s->memfd >= 0)
    close(s->memfd);
  if (s->fd >= 0) {
    close(s->fd);
    close(s->kernel_fd);
  }
  free(s);
}

int sim_fd(const struct sim *s)
{
  return s->fd;
}

int sim_memfd(const struct sim *s)
{
  return s->memfd;
}

size_t sim_size(const struct sim *s)
{
  return s->size;
}

unsigned char *sim_map(const struct sim *s)
{
  return s->map;
}

bool sim_broken(const struct sim *s)
{
  return s->broken;
}

uint64_t sim_writes(const struct sim *s)
{
  return s->writes;
}
