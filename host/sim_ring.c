/* sim_ring.c - the kernel's side of the ring: placing and reaping commands.
 *
 * As in the kernel the own cursor (`cleaned`) moves by the lengths found in
 * shared memory, so a consumer can mislead it, but never out of the ring.
 */
#include "sim_ring.h"

#include <stdlib.h>
#include <string.h>

const struct sim_sense sim_communication_failure = { 0x02, 0x08, 0x00 };
static const struct sim_sense invalid_field_in_cdb = { 0x05, 0x24, 0x00 };
static const struct sim_sense out_of_resources = { 0x05, 0x55, 0x03 };

void sim_append(struct cmd_list *l, struct cmd *c)
{
  c->prev = l->last;
  c->next = NULL;
  *(l->last ? &l->last->next : &l->first) = c;
  l->last = c;
}

void sim_prepend(struct cmd_list *l, struct cmd *c)
{
  c->prev = NULL;
  c->next = l->first;
  *(l->first ? &l->first->prev : &l->last) = c;
  l->first = c;
}

struct cmd *sim_extract(struct cmd_list *l, struct cmd *c)
{
  *(c->prev ? &c->prev->next : &l->first) = c->next;
  *(c->next ? &c->next->prev : &l->last) = c->prev;
  return c;
}

void sim_finish(struct sim *s, struct cmd *c, uint8_t status)
{
  c->status = status;
  sim_append(&s->finished, c);
  s->finished_count++;
}

/* Fixed format sense data (SPC-4 4.5.3). */
void sim_refuse(struct sim *s, struct cmd *c, const struct sim_sense *why)
{
  memset(c->sense, 0, sizeof(c->sense));
  c->sense[0] = 0x70;
  c->sense[2] = why->key;
  c->sense[7] = 10;
  c->sense[12] = why->asc;
  c->sense[13] = why->ascq;
  c->has_sense = true;
  sim_finish(s, c, CHECK_CONDITION);
}

static size_t blocks_of(const struct sim *s, size_t len)
{
  return (len + s->block - 1) / s->block;
}

static unsigned char *block_at(const struct sim *s, uint32_t n)
{
  return s->map + s->size - (size_t)s->blocks.count * s->block +
    n * s->block;
}

static void give_blocks(struct sim *s, struct cmd *c)
{
  uint32_t i, n;

  for (i = 0; i < c->all_runs; i++)
    for (n = 0; n < c->runs[i].count; n++)
      bits_give(&s->blocks, c->runs[i].first + n);
  c->out_runs = c->all_runs = 0;
}

/* Appends runs for `len` bytes; the blocks are known to be there. */
static bool take_blocks(struct sim *s, struct cmd *c, size_t len)
{
  size_t n = blocks_of(s, len);
  uint32_t start = c->all_runs;

  while (n--) {
    uint32_t b = bits_take(&s->blocks);
    struct run *r = c->all_runs > start ? &c->runs[c->all_runs - 1] : NULL;

    if (s->poison >= 0)
      memset(block_at(s, b), s->poison, s->block);
    if (r && r->first + r->count == b) {
      r->count++;
      continue;
    }
    if (c->all_runs == c->runs_room) {
      uint32_t room = c->runs_room ? c->runs_room * 2 : 4;
      struct run *runs = realloc(c->runs, room * sizeof(*runs));

      if (!runs) {
        bits_give(&s->blocks, b);
        return false;
      }
      c->runs = runs;
      c->runs_room = room;
    }
    c->runs[c->all_runs++] = (struct run) { b, 1 };
  }
  return true;
}

/* Copies `len` bytes between the blocks from run `i` on and `buf`. */
static void copy(const struct sim *s, const struct cmd *c, uint32_t i,
                 unsigned char *buf, size_t len, bool into_blocks)
{
  for (; len; i++) {
    size_t n = c->runs[i].count * s->block;
    unsigned char *b = block_at(s, c->runs[i].first);

    if (n > len)
      n = len;
    memcpy(into_blocks ? b : buf, into_blocks ? buf : b, n);
    buf += n;
    len -= n;
  }
}

/* Room for `len` bytes at the head, with a PAD before it at the ring's end.
 * One byte stays free, to tell full from empty.  NULL: no room. */
static struct abi_entry *make_room(struct sim *s, uint32_t len)
{
  uint32_t head = s->head;
  uint32_t to_end = s->cmdr_size - head;
  uint32_t used = head >= s->cleaned ? head - s->cleaned
                                     : head + s->cmdr_size - s->cleaned;
  uint32_t needed = to_end >= len ? len : len + to_end;

  if (s->cmdr_size - used - 1 < needed)
    return NULL;
  if (to_end < len) {
    struct abi_entry *pad = (struct abi_entry *)(s->cmdr + head);

    *pad = (struct abi_entry) { .len_op = to_end | ABI_OP_PAD };
    s->head = head = 0;
    __atomic_store_n(&s->mb->cmd_head, head, __ATOMIC_RELEASE);
  }
  return memset(s->cmdr + head, 0, len);
}

static void post(struct sim *s, uint32_t len)
{
  s->head += len;
  if (s->head == s->cmdr_size)
    s->head = 0;
  __atomic_store_n(&s->mb->cmd_head, s->head, __ATOMIC_RELEASE);
  s->news = true;
}

static void put_iovecs(const struct sim *s, struct abi_iov *iov,
                       const struct cmd *c, uint32_t from, uint32_t to,
                       size_t len)
{
  for (; from < to; from++, iov++) {
    size_t n = c->runs[from].count * s->block;

    iov->base = (uint64_t)(block_at(s, c->runs[from].first) - s->map);
    iov->len = n < len ? n : len;
    len -= iov->len;
  }
}

bool sim_place(struct sim *s, struct cmd *c, const void *out)
{
  size_t need = blocks_of(s, c->out_len) + blocks_of(s, c->in_len);
  uint32_t base, len;
  struct abi_cmd *e;
  struct abi_iov *iov;

  if (need > s->blocks.count) {
    sim_refuse(s, c, &invalid_field_in_cdb);
    return true;
  }
  if (need > s->blocks.left)
    return false;
  if (!take_blocks(s, c, c->out_len))
    goto give_back;
  c->out_runs = c->all_runs;
  if (!take_blocks(s, c, c->in_len))
    goto give_back;

  base = ABI_IOV_OFF + c->all_runs * (uint32_t)sizeof(struct abi_iov);
  if (base < sizeof(*e))
    base = sizeof(*e);
  len = base + (uint32_t)((c->cdb_len + ABI_ALIGN - 1) & ~(ABI_ALIGN - 1ul));
  if (len > s->cmdr_size / 2) {
    give_blocks(s, c);
    sim_refuse(s, c, &invalid_field_in_cdb);
    return true;
  }
  e = (struct abi_cmd *)make_room(s, len);
  if (!e)
    goto give_back;
  if (!s->ids.left) {
    give_blocks(s, c);
    sim_refuse(s, c, &out_of_resources);
    return true;
  }

  c->id = (uint16_t)(bits_take(&s->ids) + 1);
  s->by_id[c->id] = c;
  e->head.len_op = len | ABI_OP_CMD;
  e->head.cmd_id = c->id;
  iov = (struct abi_iov *)((unsigned char *)e + ABI_IOV_OFF);
  if (c->out_len) {
    e->req.iov_cnt = c->out_runs;
    e->req.bidi_cnt = c->all_runs - c->out_runs;
    put_iovecs(s, iov, c, 0, c->out_runs, c->out_len);
    put_iovecs(s, iov + c->out_runs, c, c->out_runs, c->all_runs, c->in_len);
    if (out)
      copy(s, c, 0, (unsigned char *)(uintptr_t)out, c->out_len, true);
  } else {
    e->req.iov_cnt = c->all_runs;
    put_iovecs(s, iov, c, 0, c->all_runs, c->in_len);
  }
  memcpy((unsigned char *)e + base, c->cdb, c->cdb_len);
  e->req.cdb_off = (uint64_t)((unsigned char *)e + base - s->map);
  sim_append(&s->on_ring, c);
  post(s, len);
  return true;

give_back:
  give_blocks(s, c);
  return false;
}

static bool place_tmr(struct sim *s, const struct tmr *t)
{
  struct abi_tmr *e = (struct abi_tmr *)make_room(s, t->len);

  if (!e)
    return false;
  e->head.len_op = t->len | ABI_OP_TMR;
  e->type = t->type;
  e->cmd_cnt = t->count;
  memcpy(e + 1, t->ids, t->count * sizeof(*t->ids));
  post(s, t->len);
  return true;
}

void sim_place_waiting(struct sim *s)
{
  while (s->tmrs) {
    struct tmr *t = s->tmrs;

    if (!place_tmr(s, t))
      return;
    s->tmrs = t->next;
    if (!s->tmrs)
      s->tmrs_end = &s->tmrs;
    free(t);
  }
  while (s->waiting.first && !s->blocked) {
    struct cmd *c = sim_extract(&s->waiting, s->waiting.first);

    if (s->broken)
      sim_refuse(s, c, &sim_communication_failure);
    else if (!sim_place(s, c, c->buf)) {
      sim_prepend(&s->waiting, c);
      return;
    }
  }
}

void sim_forget(struct sim *s, struct cmd *c)
{
  sim_extract(&s->on_ring, c);
  s->by_id[c->id] = NULL;
  bits_give(&s->ids, c->id - 1u);
  give_blocks(s, c);
}

static void complete(struct sim *s, struct cmd *c, const struct abi_cmd *e)
{
  bool is_read = c->in_len && !c->out_len, partly = false;
  uint8_t status = e->rsp.status;
  uint32_t read_len = e->rsp.read_len;
  size_t len = c->in_len;

  if (c->expired) {
    sim_forget(s, c);
    sim_prepend(&s->idle, c);
    return;
  }
  if (e->head.uflags & ABI_UNKNOWN_OP) {
    sim_forget(s, c);
    sim_refuse(s, c, &sim_communication_failure);
    return;
  }
  if (is_read && (s->caps & RING_CAP_READ_LEN) &&
      (e->head.uflags & ABI_READ_LEN) && read_len) {
    partly = true;
    if (read_len < len)
      len = read_len;
  }
  if (status == CHECK_CONDITION) {
    memcpy(c->sense, e->rsp.sense, sizeof(c->sense));
    c->has_sense = true;
  }
  if (status == GOOD || (status == CHECK_CONDITION && partly)) {
    c->data_len = len;
    copy(s, c, c->out_runs, c->buf, len, false);
  }
  sim_forget(s, c);
  sim_finish(s, c, status);
}

void sim_reap(struct sim *s)
{
  uint64_t walked = 0;

  while (!s->broken && s->cleaned !=
         __atomic_load_n(&s->mb->cmd_tail, __ATOMIC_ACQUIRE)) {
    const struct abi_cmd *e = (const struct abi_cmd *)(s->cmdr + s->cleaned);
    uint32_t len_op = e->head.len_op;
    uint32_t op = len_op & (ABI_ALIGN - 1), len = len_op - op;

    walked += len;
    if (op != ABI_OP_PAD && op != ABI_OP_TMR) {
      struct cmd *c = s->by_id[e->head.cmd_id];

      if (!c || (c != s->on_ring.first && !(s->caps & RING_CAP_OOOC)))
        s->broken = true;
      else
        complete(s, c, e);
    }
    if (!len || walked > s->cmdr_size)  /* the real kernel would spin */
      s->broken = true;
    s->cleaned = (uint32_t)(((uint64_t)s->cleaned + len) % s->cmdr_size);
  }
}
