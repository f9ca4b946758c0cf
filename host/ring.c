/* ring.c - the consumer's half of a TCMU mailbox and command ring.
 *
 * What the kernel wrote is read once, checked, and kept in private memory:
 * where an entry starts, how long it is and whose it is never comes from the
 * shared pages again.  So whatever is scribbled over them afterwards can
 * spoil answers, not this program.
 *
 *   taken:   a queue of the commands between cmd_tail and the cursor, each
 *            with the number of bytes that are released with it (entries that
 *            need no answer and follow it are released along).
 *   owners:  by cmd_id, which command has it now.
 */
#include "ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

/* Left in the hole of every command that was taken, and of an entry that broke
 * the ring.  The kernel clears an entry before it fills it, so a missing mark
 * means that the ring was reset and has moved on, even if cmd_tail happens to
 * be what it was. */
enum { MARK = 0x6b617474 };

enum { TAKEN_AT_FIRST = 64, OWNERS_AT_FIRST = 64 };     /* powers of two */

enum { CHECK_CONDITION = 0x02 };

enum { NO_ENTRY = ABI_ALIGN };  /* beside the opcodes */

struct taken {
  uint32_t offset;              /* in the ring */
  uint32_t release;             /* bytes */
  uint16_t id;
  bool done;                    /* answered, behind one that is not */
};

struct owner {
  uint32_t token;
  bool out;                     /* taken and not answered */
};

struct ring {
  struct abi_mailbox *mb;
  unsigned char *cmdr;
  uint32_t size;                /* of the ring */
  uint32_t head;                /* cmd_head when last looked at */
  uint32_t cursor;              /* next entry to be taken */
  uint32_t tail;                /* everything before it is finished */
  uint32_t published;           /* cmd_tail as we know it */
  unsigned caps;
  uint32_t outstanding;
  bool broken;
  bool stuck;                   /* ... by the entry at the cursor; it is marked */

  struct taken *taken;          /* by token & mask */
  uint32_t mask;
  uint32_t first, next;         /* tokens: oldest in the queue, next given */
  struct owner *owners;
  uint32_t ids;

  size_t len;                   /* of the mapping */
  uint64_t ring_off, data_off;  /* in the mapping */
  char why[160];
};

/* One load, whatever the compiler would like better. */
#define peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

static uint32_t advance(const struct ring *r, uint32_t at, uint32_t by)
{
  at += by;
  return at >= r->size ? at - r->size : at;
}

static uint32_t span(const struct ring *r, uint32_t from, uint32_t to)
{
  return to >= from ? to - from : to + r->size - from;
}

static struct taken *slot(const struct ring *r, uint32_t token)
{
  return &r->taken[token & r->mask];
}

static struct abi_cmd *cmd_at(const struct ring *r, uint32_t offset)
{
  return (struct abi_cmd *)(r->cmdr + offset);
}

__attribute__((cold, format(printf, 2, 3)))
static void set_broken(struct ring *r, const char *fmt, ...)
{
  va_list args;

  if (r->broken)                /* the first cause is the one to tell */
    return;
  r->broken = true;
  va_start(args, fmt);
  vsnprintf(r->why, sizeof(r->why), fmt, args);
  va_end(args);
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
    peek(cmd_at(r, slot(r, r->first)->offset)->req.hole) != MARK;
}

static enum ring_event start_over(struct ring *r)
{
  uint32_t tail = __atomic_load_n(&r->mb->cmd_tail, __ATOMIC_ACQUIRE);

  r->published = tail;
  r->first = r->next;
  memset(r->owners, 0, r->ids * sizeof(*r->owners));
  r->outstanding = 0;
  r->broken = r->stuck = false;
  if (!is_position(r, tail)) {
    set_broken(r, "cmd_tail %u lies outside the ring of %u bytes", tail,
               r->size);
    tail = 0;
  }
  r->head = r->cursor = r->tail = tail;
  return RING_RESET;
}

int ring_new(void *map, size_t len, char *why, size_t why_len,
             struct ring **out)
{
  struct abi_mailbox *mb = map;
  uint32_t off, size, tail;
  unsigned version;
  struct ring *r;

  *out = NULL;
  if (len < sizeof(*mb)) {
    snprintf(why, why_len, "a mapping of %zu bytes holds no TCMU mailbox", len);
    return -EPROTO;
  }

  version = peek(mb->version);
  if (version != RING_VERSION) {
    snprintf(why, why_len, "the kernel's ring has version %u and this program "
             "speaks version %d only; use a tcmu-lua made for this kernel",
             version, RING_VERSION);
    return -EPROTO;
  }

  off = peek(mb->cmdr_off);
  size = peek(mb->cmdr_size);
  if (off < sizeof(*mb) || off % ABI_ALIGN || size < sizeof(struct abi_cmd) ||
      size % ABI_ALIGN || (uint64_t)off + size > len) {
    snprintf(why, why_len, "the mailbox places a ring of %u bytes at %u, which "
             "does not fit the mapping of %zu bytes", size, off, len);
    return -EPROTO;
  }
  tail = peek(mb->cmd_tail);
  if (tail >= size || tail % ABI_ALIGN) {
    snprintf(why, why_len, "cmd_tail %u lies outside the ring of %u bytes; "
             "write 1 to the device's action/reset_ring", tail, size);
    return -EPROTO;
  }

  r = calloc(1, sizeof(*r));
  if (!r)
    goto no_memory;
  r->mb = mb;
  r->len = len;
  r->cmdr = (unsigned char *)map + off;
  r->size = size;
  r->ring_off = off;
  r->data_off = (uint64_t)off + size;
  r->caps = peek(mb->flags);
  r->head = r->cursor = r->tail = r->published = tail;
  r->mask = TAKEN_AT_FIRST - 1;
  r->taken = malloc(TAKEN_AT_FIRST * sizeof(*r->taken));
  r->ids = OWNERS_AT_FIRST;
  r->owners = calloc(r->ids, sizeof(*r->owners));
  if (!r->taken || !r->owners)
    goto no_memory;
  *out = r;
  return 0;

no_memory:
  ring_free(r);
  snprintf(why, why_len, "there is no memory for a ring");
  return -ENOMEM;
}

void ring_free(struct ring *r)
{
  if (!r)
    return;
  free(r->taken);
  free(r->owners);
  free(r);
}

unsigned ring_caps(const struct ring *r)
{
  return r->caps;
}

/* Doubles the queue; tokens keep their meaning. */
static bool grow_taken(struct ring *r)
{
  uint32_t mask = r->mask * 2 + 1, t;
  struct taken *bigger = malloc((mask + 1ul) * sizeof(*bigger));

  if (!bigger)
    return false;
  for (t = r->first; t != r->next; t++)
    bigger[t & mask] = *slot(r, t);
  free(r->taken);
  r->taken = bigger;
  r->mask = mask;
  return true;
}

static bool grow_owners(struct ring *r, uint16_t id)
{
  uint32_t ids = r->ids;
  struct owner *bigger;

  while (ids <= id)
    ids *= 2;
  bigger = realloc(r->owners, ids * sizeof(*bigger));
  if (!bigger)
    return false;
  memset(bigger + r->ids, 0, (ids - r->ids) * sizeof(*bigger));
  r->owners = bigger;
  r->ids = ids;
  return true;
}

/* Passes an entry that needs no answer: it goes with the command before it,
 * or at once if there is none. */
static void pass(struct ring *r, uint32_t len)
{
  r->cursor = advance(r, r->cursor, len);
  if (r->first == r->next)
    r->tail = r->cursor;
  else
    slot(r, r->next - 1)->release += len;
}

static bool take_cmd(struct ring *r, uint32_t len, struct ring_cmd *out)
{
  struct abi_cmd *e = cmd_at(r, r->cursor);
  uint16_t id;

  if (len < sizeof(*e)) {
    set_broken(r, "the command at %u is only %u bytes long", r->cursor, len);
    return false;
  }
  out->at = (const unsigned char *)e;
  out->iov_cnt = peek(e->req.iov_cnt);
  out->bidi_cnt = peek(e->req.bidi_cnt);
  if ((uint64_t)out->iov_cnt + out->bidi_cnt >
      (len - ABI_IOV_OFF) / sizeof(struct abi_iov)) {
    set_broken(r, "the command at %u counts %u and %u iovecs in %u bytes",
               r->cursor, out->iov_cnt, out->bidi_cnt, len);
    return false;
  }
  id = peek(e->head.cmd_id);
  if (!id) {
    set_broken(r, "the command at %u has no id", r->cursor);
    return false;
  }
  if (id >= r->ids && !grow_owners(r, id)) {
    set_broken(r, "there is no memory for command id %u", id);
    return false;
  }
  if (r->owners[id].out) {
    set_broken(r, "the command at %u has id %u, which is still in use",
               r->cursor, id);
    return false;
  }
  if (r->next - r->first > r->mask && !grow_taken(r)) {
    set_broken(r, "there is no memory for more than %u commands", r->mask);
    return false;
  }

  out->id = id;
  out->token = r->next;
  r->owners[id] = (struct owner) { .token = r->next, .out = true };
  *slot(r, r->next++) = (struct taken) {
    .offset = r->cursor, .release = len, .id = id,
  };
  r->outstanding++;
  e->req.hole = MARK;
  r->cursor = advance(r, r->cursor, len);
  return true;
}

static bool take_tmr(struct ring *r, uint32_t len, struct ring_tmr *out)
{
  const struct abi_tmr *e = (const struct abi_tmr *)(r->cmdr + r->cursor);

  if (len < sizeof(*e)) {
    set_broken(r, "the task management entry at %u is only %u bytes long",
               r->cursor, len);
    return false;
  }
  out->type = peek(e->type);
  out->count = peek(e->cmd_cnt);
  out->ids = (const unsigned char *)(e + 1);
  if (out->count > (len - sizeof(*e)) / sizeof(uint16_t)) {
    set_broken(r, "the task management entry at %u counts %u ids in %u bytes",
               r->cursor, out->count, len);
    return false;
  }
  pass(r, len);
  return true;
}

/* The length of the entry at the cursor, or 0 if it cannot be followed. */
static uint32_t entry_len(struct ring *r, uint32_t len_op)
{
  uint32_t len = len_op & ~(uint32_t)(ABI_ALIGN - 1);
  uint32_t end = r->head > r->cursor ? r->head : r->size;

  if (!len)
    set_broken(r, "the entry at %u has length 0", r->cursor);
  else if (len > end - r->cursor) {
    set_broken(r, "the entry at %u is %u bytes long and %u are left",
               r->cursor, len, end - r->cursor);
    len = 0;
  }
  return len;
}

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
    set_broken(r, "cmd_head %u lies outside the ring of %u bytes", head,
               r->size);
  if (r->broken)
    return RING_BROKEN;
  r->head = head;
  return r->cursor == head ? RING_EMPTY : RING_CMD;
}

enum ring_event ring_next(struct ring *r, union ring_entry *out)
{
  for (;;) {
    struct abi_entry *e = (struct abi_entry *)(r->cmdr + r->cursor);
    uint32_t len_op, len;

    if (r->cursor == r->head || r->broken) {
      enum ring_event event = look(r);

      if (event != RING_CMD)
        return event;
    } else if (peek(r->mb->cmd_tail) != r->published)
      return start_over(r);

    len_op = peek(e->len_op);
    len = entry_len(r, len_op);
    switch (len ? len_op & (ABI_ALIGN - 1) : NO_ENTRY) {
    case ABI_OP_CMD:
      if (take_cmd(r, len, &out->cmd))
        return RING_CMD;
      break;
    case ABI_OP_TMR:
      if (take_tmr(r, len, &out->tmr))
        return RING_TMR;
      break;
    case NO_ENTRY:
      break;
    default:
      e->uflags |= ABI_UNKNOWN_OP;
      /* fallthrough */
    case ABI_OP_PAD:
      pass(r, len);
      continue;
    }
    /* Broken here, unless the next look finds that a reset explains it. */
    mark_stuck(r);
  }
}

int ring_cdb(struct ring *r, const struct ring_cmd *c,
             unsigned char cdb[RING_CDB_MAX])
{
  const unsigned char *base = (const unsigned char *)r->mb;
  uint64_t at = peek(((const struct abi_cmd *)c->at)->req.cdb_off);
  uint8_t opcode, additional = 0;
  uint64_t left = 0;
  size_t len = 1;

  if (at >= r->ring_off && at < r->data_off)
    left = r->data_off - at;
  if (left) {
    opcode = peek(base[at]);
    if (left > 7)
      additional = peek(base[at + 7]);
    len = abi_cdb_len(opcode, additional);
  }
  if (len > left) {
    set_broken(r, "the CDB of command id %u lies outside the ring", c->id);
    return -EPROTO;
  }

  memcpy(cdb, base + at, len);
  cdb[0] = opcode;              /* what the length was taken from */
  if (len > 7)
    cdb[7] = additional;
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
      set_broken(r, "iovec %u of command id %u lies outside the data area",
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

static void answer(const struct ring *r, struct abi_cmd *e, uint16_t id,
                   const struct ring_result *res)
{
  bool partly = res->has_read_len && (r->caps & RING_CAP_READ_LEN);

  e->head.cmd_id = id;
  e->head.uflags = partly ? ABI_READ_LEN : 0;
  e->rsp.status = res->status;
  e->rsp.read_len = partly ? res->read_len : 0;
  if (res->status == CHECK_CONDITION) {         /* the kernel takes it all */
    size_t n = res->sense ? res->sense_len : 0;

    if (n > RING_SENSE_MAX)
      n = RING_SENSE_MAX;
    if (n)
      memcpy(e->rsp.sense, res->sense, n);
    memset(e->rsp.sense + n, 0, RING_SENSE_MAX - n);
  }
}

void ring_complete(struct ring *r, uint32_t token, uint16_t id,
                   const struct ring_result *res)
{
  bool any_order = r->caps & RING_CAP_OOOC;
  struct abi_cmd *e;
  struct taken *t;

  if (id >= r->ids || !r->owners[id].out || r->owners[id].token != token)
    return;
  /* Some entry waits for every command that is out: at least its own. */
  t = slot(r, any_order ? r->first : token);
  e = cmd_at(r, t->offset);
  if (peek(e->req.hole) != MARK)
    return;                     /* reset: ring_next() will tell */

  answer(r, e, id, res);
  r->owners[id].out = false;
  r->outstanding--;
  t->done = true;
  do {
    t = slot(r, r->first);
    if (!t->done)
      break;
    r->tail = advance(r, r->tail, t->release);
  } while (++r->first != r->next);
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
  return r->outstanding;
}

bool ring_pending(const struct ring *r)
{
  return !r->broken && peek(r->mb->cmd_head) != r->cursor;
}

const char *ring_why(const struct ring *r)
{
  return r->why;
}
