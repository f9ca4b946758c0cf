/* ring.c - takes entries from a ring and answers them; see ring.h.
 *
 * Each call has one short way for what nearly always happens: all conditions
 * hold.  Where one does not, the slow way finds out which.
 */
#include "ring_state.h"

#include <errno.h>
#include <string.h>

/* Left in the hole of every command that was taken, and of an entry that broke
 * the ring.  The kernel clears an entry before it fills it, so a missing mark
 * means that the ring was reset and has moved on, even if cmd_tail happens to
 * be what it was. */
enum { MARK = 0x6b617474 };

enum { CHECK_CONDITION = 0x02 };

enum { CDB_COMMON = 16 };       /* bytes; all but variable length CDBs fit */

static uint32_t advance(const struct ring *r, uint32_t at, uint32_t by)
{
  at += by;
  return at >= r->size ? at - r->size : at;
}

static uint32_t span(const struct ring *r, uint32_t from, uint32_t to)
{
  return to >= from ? to - from : to + r->size - from;
}

static struct abi_cmd *cmd_at(const struct ring *r, uint32_t offset)
{
  return (struct abi_cmd *)(r->cmdr + offset);
}

static bool is_position(const struct ring *r, uint32_t at)
{
  return at < r->size && !(at & (ABI_ALIGN - 1));
}

/* The tail is ours alone, the head only moves on, and our marks stay: anything
 * else is somebody's action/reset_ring.  `head` was loaded before. */
static bool was_reset(const struct ring *r, uint32_t head)
{
  if (peek(r->mb->cmd_tail) != r->published)
    return true;
  if (is_position(r, r->published) &&
      span(r, r->published, head) < span(r, r->published, r->head))
    return true;
  if (r->stuck && peek(cmd_at(r, r->cursor)->req.hole) != MARK)
    return true;
  return r->first != r->next &&
    peek(cmd_at(r, ring_slot(r, r->first)->offset)->req.hole) != MARK;
}

static enum ring_event start_over(struct ring *r)
{
  uint32_t tail = __atomic_load_n(&r->mb->cmd_tail, __ATOMIC_ACQUIRE);

  r->published = tail;
  r->first = r->next;
  memset(r->owners, 0, r->ids * sizeof(*r->owners));
  r->broken = r->stuck = false;
  if (!is_position(r, tail)) {
    ring_set_broken(r, "cmd_tail %u lies outside the ring of %u bytes", tail,
                    r->size);
    tail = 0;
  }
  r->head = r->cursor = r->tail = tail;
  return RING_RESET;
}

unsigned ring_caps(const struct ring *r)
{
  return r->caps;
}

/* Passes an entry that needs no answer: it goes with the command before it,
 * or at once if there is none. */
static void pass(struct ring *r, uint32_t len)
{
  r->cursor = advance(r, r->cursor, len);
  if (r->first == r->next)
    r->tail = r->cursor;
  else
    ring_slot(r, r->next - 1)->release += len;
}

/* Takes the command at the cursor; false, and nothing is changed but `out`, if
 * anything about it is wrong or there is no room for it. */
static inline bool take_cmd(struct ring *r, uint32_t len, struct ring_cmd *out)
{
  struct abi_cmd *e = cmd_at(r, r->cursor);
  uint16_t id = peek(e->head.cmd_id);

  out->id = id;
  out->at = (const unsigned char *)e;
  out->iov_cnt = peek(e->req.iov_cnt);
  out->bidi_cnt = peek(e->req.bidi_cnt);
  if (len < sizeof(*e) || !id || id >= r->ids || r->owners[id].out ||
      r->next - r->first > r->mask ||
      ABI_IOV_OFF + ((uint64_t)out->iov_cnt + out->bidi_cnt) *
      sizeof(struct abi_iov) > len)
    return false;

  out->token = r->next;
  r->owners[id] = (struct owner) { .token = r->next, .out = true };
  *ring_slot(r, r->next++) = (struct taken) {
    .offset = r->cursor, .release = len,
  };
  e->req.hole = MARK;
  r->cursor = advance(r, r->cursor, len);
  return true;
}

/* Why take_cmd() has not; true: for want of room only, which is there now. */
static bool make_room(struct ring *r, uint32_t len, const struct ring_cmd *c)
{
  if (len < sizeof(struct abi_cmd))
    ring_set_broken(r, "the command at %u is only %u bytes long", r->cursor,
                    len);
  else if (!c->id)
    ring_set_broken(r, "the command at %u has no id", r->cursor);
  else if (c->id < r->ids && r->owners[c->id].out)
    ring_set_broken(r, "the command at %u has id %u, which is still in use",
                    r->cursor, c->id);
  else if (c->id >= r->ids && !ring_grow_owners(r, c->id))
    ring_set_broken(r, "there is no memory for command id %u", c->id);
  else if (r->next - r->first > r->mask && !ring_grow_taken(r))
    ring_set_broken(r, "there is no memory for more than %u commands", r->mask);
  else
    return true;
  return false;
}

static bool take_cmd_at_length(struct ring *r, uint32_t len,
                               struct ring_cmd *out)
{
  if (take_cmd(r, len, out))
    return true;
  if (!make_room(r, len, out))
    return false;
  if (take_cmd(r, len, out))
    return true;
  ring_set_broken(r, "the command at %u counts %u and %u iovecs in %u bytes",
                  r->cursor, out->iov_cnt, out->bidi_cnt, len);
  return false;
}

static bool take_tmr(struct ring *r, uint32_t len, struct ring_tmr *out)
{
  const struct abi_tmr *e = (const struct abi_tmr *)(r->cmdr + r->cursor);

  if (len < sizeof(*e)) {
    ring_set_broken(r, "the task management entry at %u is only %u bytes long",
                    r->cursor, len);
    return false;
  }
  out->type = peek(e->type);
  out->count = peek(e->cmd_cnt);
  out->ids = (const unsigned char *)(e + 1);
  if (out->count > (len - sizeof(*e)) / sizeof(uint16_t)) {
    ring_set_broken(r, "the task management entry at %u counts %u ids in %u "
                    "bytes", r->cursor, out->count, len);
    return false;
  }
  pass(r, len);
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

__attribute__((cold))
static void mark_stuck(struct ring *r)
{
  struct abi_cmd *e = cmd_at(r, r->cursor);

  if (r->size - r->cursor < offsetof(struct abi_cmd, req.hole) + sizeof(MARK))
    return;
  e->req.hole = MARK;
  r->stuck = true;
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
  return r->cursor == head ? RING_EMPTY : RING_CMD;
}

/* Bytes from the cursor on that may be read: to cmd_head, or to the end. */
static inline uint32_t unread(const struct ring *r)
{
  return (r->head > r->cursor ? r->head : r->size) - r->cursor;
}

/* Whatever is next, with all that may be wrong with it. */
__attribute__((noinline))
static enum ring_event next_at_length(struct ring *r, union ring_entry *out)
{
  for (;;) {
    struct abi_entry *e = (struct abi_entry *)(r->cmdr + r->cursor);
    uint32_t len_op, len, left;

    if (r->cursor == r->head || r->broken) {
      enum ring_event event = look(r);

      if (event != RING_CMD)
        return event;
    } else if (peek(r->mb->cmd_tail) != r->published)
      return start_over(r);

    len_op = peek(e->len_op);
    len = len_op & ~(uint32_t)(ABI_ALIGN - 1);
    left = unread(r);
    if (len && len <= left) {
      switch (len_op & (ABI_ALIGN - 1)) {
      case ABI_OP_CMD:
        if (take_cmd_at_length(r, len, &out->cmd))
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
        pass(r, len);
        continue;
      }
    } else {
      bad_len(r, len, left);
    }
    /* Broken here, unless the next look finds that a reset explains it. */
    mark_stuck(r);
  }
}

enum ring_event ring_next(struct ring *r, union ring_entry *out)
{
  uint32_t len_op, len;

  if (r->cursor != r->head && !r->broken &&
      peek(r->mb->cmd_tail) == r->published) {
    len_op = peek(((struct abi_entry *)(r->cmdr + r->cursor))->len_op);
    len = len_op & ~(uint32_t)(ABI_ALIGN - 1);
    if (len_op - len == ABI_OP_CMD && len <= unread(r) &&
        take_cmd(r, len, &out->cmd))
      return RING_CMD;
  }
  return next_at_length(r, out);
}

int ring_cdb(struct ring *r, const struct ring_cmd *c,
             unsigned char cdb[RING_CDB_MAX])
{
  const unsigned char *base = (const unsigned char *)r->mb;
  uint64_t at = peek(((const struct abi_cmd *)c->at)->req.cdb_off);
  uint64_t left = at - r->ring_off < r->size ? r->data_off - at : 0;
  size_t len = 1;

  /* What the length is taken from is the private copy. */
  if (left >= CDB_COMMON) {
    memcpy(cdb, base + at, CDB_COMMON);
    len = abi_cdb_len(cdb[0], cdb[7]);
    if (len <= CDB_COMMON)
      return (int)len;
  } else if (left) {
    memcpy(cdb, base + at, left);
    len = abi_cdb_len(cdb[0], left > 7 ? cdb[7] : 0);
  }
  if (len > left) {
    ring_set_broken(r, "the CDB of command id %u lies outside the ring", c->id);
    return -EPROTO;
  }
  if (len > CDB_COMMON)
    memcpy(cdb + CDB_COMMON, base + at + CDB_COMMON, len - CDB_COMMON);
  return (int)len;
}

int64_t ring_iovecs(struct ring *r, const struct ring_cmd *c,
                    uint32_t first, uint32_t n, struct iovec *out)
{
  const struct abi_iov *iov = (const struct abi_iov *)(c->at + ABI_IOV_OFF);
  int64_t total = 0;
  uint32_t i;

  if ((uint64_t)first + n > (uint64_t)c->iov_cnt + c->bidi_cnt)
    return -EINVAL;
  for (i = 0; i < n; i++) {
    uint64_t base = peek(iov[first + i].base);
    uint64_t len = peek(iov[first + i].len);

    if (base < r->data_off || base > r->len || len > r->len - base) {
      ring_set_broken(r, "iovec %u of command id %u lies outside the data area",
                      first + i, c->id);
      return -EPROTO;
    }
    out[i].iov_base = (unsigned char *)r->mb + base;
    out[i].iov_len = len;
    total += (int64_t)len;
  }
  return total;
}

uint16_t ring_tmr_id(const struct ring_tmr *t, uint32_t i)
{
  uint16_t id;

  memcpy(&id, t->ids + (size_t)i * sizeof(id), sizeof(id));
  return id;
}

static void put_sense(struct abi_cmd *e, const struct ring_result *res)
{
  size_t n = res->sense ? res->sense_len : 0;

  if (n > RING_SENSE_MAX)
    n = RING_SENSE_MAX;
  if (n)
    memcpy(e->rsp.sense, res->sense, n);
  memset(e->rsp.sense + n, 0, RING_SENSE_MAX - n);
}

/* Ends a command: returns the entry that takes its answer, or NULL if there is
 * none to be given. */
static inline struct abi_cmd *finish(struct ring *r, uint32_t token,
                                     uint16_t id)
{
  struct abi_cmd *e;
  struct taken *t;

  if (id >= r->ids || !r->owners[id].out || r->owners[id].token != token)
    return NULL;
  /* Some entry waits for every command that is out: at least its own. */
  t = ring_slot(r, r->caps & RING_CAP_OOOC ? r->first : token);
  e = cmd_at(r, t->offset);
  if (peek(e->req.hole) != MARK)
    return NULL;                /* reset: ring_next() will tell */

  e->head.cmd_id = id;
  r->owners[id].out = false;
  if (r->caps & RING_CAP_OOOC) {        /* nobody waits behind anybody */
    r->tail = advance(r, r->tail, t->release);
    r->first++;
    return e;
  }
  t->done = true;
  do {
    t = ring_slot(r, r->first);
    if (!t->done)
      break;
    r->tail = advance(r, r->tail, t->release);
  } while (++r->first != r->next);
  return e;
}

void ring_good(struct ring *r, uint32_t token, uint16_t id)
{
  struct abi_cmd *e = finish(r, token, id);

  if (!e)
    return;
  e->head.uflags = 0;
  e->rsp.status = 0;
  e->rsp.read_len = 0;
}

void ring_complete(struct ring *r, uint32_t token, uint16_t id,
                   const struct ring_result *res)
{
  bool partly = res->has_read_len && r->caps & RING_CAP_READ_LEN;
  struct abi_cmd *e = finish(r, token, id);

  if (!e)
    return;
  e->head.uflags = partly ? ABI_READ_LEN : 0;
  e->rsp.status = res->status;
  e->rsp.read_len = partly ? res->read_len : 0;
  if (res->status == CHECK_CONDITION)           /* the kernel takes it all */
    put_sense(e, res);
}

bool ring_publish(struct ring *r)
{
  uint32_t expected = r->published;

  if (r->tail == r->published)
    return false;
  /* Exchanged, not stored: a reset in between must not be undone. */
  if (!__atomic_compare_exchange_n(&r->mb->cmd_tail, &expected, r->tail, false,
                                   __ATOMIC_RELEASE, __ATOMIC_RELAXED))
    return false;
  r->published = r->tail;
  return true;
}

uint32_t ring_outstanding(const struct ring *r)
{
  uint32_t n = 0;

  for (uint32_t id = 0; id < r->ids; id++)
    n += r->owners[id].out;
  return n;
}

bool ring_pending(const struct ring *r)
{
  return !r->broken && peek(r->mb->cmd_head) != r->cursor;
}
