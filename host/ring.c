/* ring.c - takes entries from a ring, and what they say; see ring.h.
 *
 * Each call goes the short way first, see ring_short.h.  Where a condition does
 * not hold the long way begins anew, and finds out which.
 */
#include "ring_short.h"

#include <errno.h>

enum { PATIENCE = 1 << 16 };    /* looks at cmd_head */

static uint32_t span(const struct ring *r, uint32_t from, uint32_t to)
{
  return to >= from ? to - from : to + r->size - from;
}

static bool is_position(const struct ring *r, uint32_t at)
{
  return at < r->size && !(at & (ABI_ALIGN - 1));
}

bool ring_stands(const struct ring *r)
{
  if (peek(r->mb->cmd_tail) != r->published)
    return false;
  if (r->published)
    return true;
  return peek(r->mb->cmd_head) >= r->head &&
         ((!r->cursor && !r->stuck) ||
          peek(ring_at(r, 0)->head.uflags) & ABI_PASSED);
}

/* `head` was loaded before. */
static bool was_reset(const struct ring *r, uint32_t head)
{
  return !ring_stands(r) ||
         (is_position(r, r->published) &&
          span(r, r->published, head) < span(r, r->published, r->head));
}

static enum ring_event start_over(struct ring *r)
{
  uint32_t tail = __atomic_load_n(&r->mb->cmd_tail, __ATOMIC_ACQUIRE);

  ring_set_published(r, tail);
  r->first = r->next;
  memset(r->owners + 1, 0, (r->ids - 1) * sizeof(*r->owners));
  r->broken = r->stuck = false;
  r->head = r->cursor = r->edge = is_position(r, tail) ? tail : 0;
  if (r->cursor != tail)
    ring_set_broken(r, "cmd_tail %u lies outside the ring of %u bytes", tail,
                    r->size);
  return RING_RESET;
}

unsigned ring_caps(const struct ring *r)
{
  return r->caps;
}

/* Why ring_read_cmd() says no; true: for want of room, which is there now. */
static bool make_room(struct ring *r, uint32_t len)
{
  uint16_t id;

  if (len < sizeof(struct abi_cmd)) {
    ring_set_broken(r, "the command at %u is only %u bytes long", r->cursor,
                    len);
    return false;
  }
  id = peek(ring_at(r, r->cursor)->head.cmd_id);
  if (!id)
    ring_set_broken(r, "the command at %u has no id", r->cursor);
  else if (id < r->ids && r->owners[id])
    ring_set_broken(r, "the command at %u has id %u, which is still in use",
                    r->cursor, id);
  else if (id >= r->ids && !ring_grow_owners(r, id))
    ring_set_broken(r, "there is no memory for command id %u", id);
  else if (r->next - r->first > r->mask && !ring_grow_taken(r))
    ring_set_broken(r, "there is no memory for more than %u commands", r->mask);
  else
    return true;
  return false;
}

/* What is judged is what ring_read_cmd() reads itself, so an entry that changes
 * under our eyes is refused here at the latest. */
static bool find_cmd(struct ring *r, uint32_t len, struct ring_cmd *out)
{
  if (ring_read_cmd(r, out))
    return true;
  if (!make_room(r, len))
    return false;
  *out = (struct ring_cmd) { 0 };
  if (ring_read_cmd(r, out))
    return true;
  ring_set_broken(r, "the command at %u counts %u and %u iovecs in %u bytes",
                  r->cursor, out->iov_cnt, out->bidi_cnt, len);
  return false;
}

static void pass(struct ring *r, struct abi_entry *e, uint32_t len)
{
  e->uflags |= ABI_PASSED;
  ring_pass(r, len);
}

static bool take_tmr(struct ring *r, uint32_t len, struct ring_tmr *out)
{
  struct abi_tmr *e = (struct abi_tmr *)(r->cmdr + r->cursor);

  if (len < sizeof(*e)) {
    ring_set_broken(r, "the task management entry at %u is only %u bytes long",
                    r->cursor, len);
    return false;
  }
  out->type = peek(e->type);
  out->count = peek(e->cmd_cnt);
  out->ids = (unsigned char *)(e + 1);
  if (out->count > (len - sizeof(*e)) / sizeof(uint16_t)) {
    ring_set_broken(r, "the task management entry at %u counts %u ids in %u "
                    "bytes", r->cursor, out->count, len);
    return false;
  }
  pass(r, &e->head, len);
  return true;
}

/* Says why the entry at the cursor cannot be followed. */
__attribute__((cold))
static void bad_len(struct ring *r, uint32_t len, uint32_t left)
{
  if (!len)
    ring_set_broken(r, "the entry at %u has length 0", r->cursor);
  else
    ring_set_broken(r, "the entry at %u is %u bytes long and %u are left",
                    r->cursor, len, left);
}

/* No new entry was passed before.  Met once more they come from a cmd_head that
 * is about to be reset, as cmd_tail was already. */
__attribute__((cold))
static void bad_again(struct ring *r)
{
  for (int n = PATIENCE; n && peek(r->mb->cmd_head) >= r->head; n--)
    ;
  ring_set_broken(r, "the entry at %u was taken before", r->cursor);
}

/* Looks at cmd_head.  Returns RING_CMD if there is something to be taken. */
static enum ring_event look(struct ring *r)
{
  uint32_t head = __atomic_load_n(&r->mb->cmd_head, __ATOMIC_ACQUIRE);

  if (was_reset(r, head))
    return start_over(r);
  if (!is_position(r, head))
    ring_set_broken(r, "cmd_head %u lies outside the ring of %u bytes", head,
                    r->size);
  if (r->broken)
    return RING_BROKEN;
  r->head = head;
  r->edge = head >= r->cursor ? head : r->size;
  return r->cursor == head ? RING_EMPTY : RING_CMD;
}

enum ring_event ring_find(struct ring *r, union ring_entry *out)
{
  for (;;) {
    struct abi_entry *e = &ring_at(r, r->cursor)->head;
    uint32_t len_op, len, left;

    if (r->cursor == r->edge) {
      enum ring_event event = look(r);

      if (event != RING_CMD)
        return event;
    } else if (!ring_stands(r)) {
      return start_over(r);
    }

    len_op = peek(e->len_op);
    len = len_op & ~(uint32_t)(ABI_ALIGN - 1);
    left = r->edge - r->cursor;
    if (peek(e->uflags) & ABI_PASSED) {
      bad_again(r);
    } else if (len && len <= left) {
      switch (len_op & (ABI_ALIGN - 1)) {
      case ABI_OP_CMD:
        if (find_cmd(r, len, &out->cmd))
          return RING_CMD;
        break;
      case ABI_OP_TMR:
        if (take_tmr(r, len, &out->tmr))
          return RING_TMR;
        break;
      default:
        e->uflags |= ABI_UNKNOWN_OP;
        /* fallthrough */
      case ABI_OP_PAD:
        pass(r, e, len);
        continue;
      }
    } else {
      bad_len(r, len, left);
    }
    /* Broken here, unless the next look finds that a reset explains it. */
    e->uflags |= ABI_PASSED;
    r->stuck = true;
  }
}

enum ring_event ring_next(struct ring *r, union ring_entry *out)
{
  enum ring_event event = RING_CMD;

  if (!ring_has_cmd(r, &out->cmd))
    event = ring_find(r, out);
  if (event == RING_CMD)
    ring_take(r, &out->cmd);
  return event;
}

int ring_cdb(struct ring *r, const struct ring_cmd *c,
             unsigned char cdb[RING_CDB_MAX])
{
  const unsigned char *base = (const unsigned char *)r->mb;
  uint64_t at = peek(((const struct abi_cmd *)c->at)->req.cdb_off);
  uint64_t left = at - r->ring_off < r->size ? r->data_off - at : 0;
  size_t n = left < RING_CDB_COMMON ? left : RING_CDB_COMMON;
  size_t len = 1;

  if (n) {
    ring_fetch(cdb, base + at, n);
    len = abi_cdb_len(cdb[0], n > 7 ? cdb[7] : 0);
  }
  if (len > left) {
    ring_set_broken(r, "the CDB of command id %u lies outside the ring", c->id);
    return -EPROTO;
  }
  if (len > RING_CDB_COMMON)
    memcpy(cdb + RING_CDB_COMMON, base + at + RING_CDB_COMMON,
           len - RING_CDB_COMMON);
  return (int)len;
}

int64_t ring_iovecs(struct ring *r, const struct ring_cmd *c,
                    uint32_t first, uint32_t n, struct iovec *out)
{
  int64_t total = 0;
  uint32_t i;

  if ((uint64_t)first + n > (uint64_t)c->iov_cnt + c->bidi_cnt)
    return -EINVAL;
  for (i = 0; i < n; i++) {
    if (!ring_iovec(r, c, first + i, &out[i])) {
      ring_set_broken(r, "iovec %u of command id %u lies outside the data area",
                      first + i, c->id);
      return -EPROTO;
    }
    total += (int64_t)out[i].iov_len;
  }
  return total;
}

uint16_t ring_tmr_id(const struct ring_tmr *t, uint32_t i)
{
  uint16_t id;

  memcpy(&id, t->ids + (size_t)i * sizeof(id), sizeof(id));
  return id;
}

uint32_t ring_outstanding(const struct ring *r)
{
  uint32_t n = 0;

  for (uint32_t id = 1; id < r->ids; id++)
    n += r->owners[id] != 0;
  return n;
}

bool ring_pending(const struct ring *r)
{
  return !r->broken && peek(r->mb->cmd_head) != r->cursor;
}

uint32_t ring_backlog(const struct ring *r)
{
  uint32_t head = peek(r->mb->cmd_head);

  return head - r->cursor + (head < r->cursor ? r->size : 0);
}
