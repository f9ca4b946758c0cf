/* ring_short.h - the short ways of what a drain does for every command.
 *
 * Each is for what nearly always happens: all conditions hold.  Where one does
 * not, nothing has changed, and the call of ring.h finds out which.  They are
 * inline because a call costs as much as they do, and leave what they found in
 * registers.  ring.h's own calls are made of them, so whoever tests those tests
 * these.
 */
#ifndef RING_SHORT_H
#define RING_SHORT_H

#include <string.h>

#include "ring_state.h"

enum { RING_CDB_COMMON = 16 };  /* bytes; all but variable length CDBs fit */

/* Reads the command at the cursor; false: there is none, or it is not as it
 * should be, or there is no room for it. */
static inline bool ring_read_cmd(const struct ring *r, struct ring_cmd *out)
{
  struct abi_cmd *e = ring_at(r, r->cursor);
  uint32_t len = peek(e->head.len_op) ^ ABI_OP_CMD;

  /* With another opcode the length is off the grid, and without an entry it is
   * more than there is. */
  if (len % ABI_ALIGN || len < sizeof(*e) || len > r->edge - r->cursor)
    return false;

  out->at = (const unsigned char *)e;
  out->len = len;
  out->id = peek(e->head.cmd_id);
  out->iov_cnt = peek(e->req.iov_cnt);
  out->bidi_cnt = peek(e->req.bidi_cnt);
  return out->id < r->ids && !r->owners[out->id] &&
         r->next - r->first <= r->mask &&
         (uint64_t)out->iov_cnt + out->bidi_cnt <=
         (len - ABI_IOV_OFF) / sizeof(struct abi_iov);
}

/* ring_find() where a command is next; false: ask ring_find(). */
static inline bool ring_has_cmd(const struct ring *r, struct ring_cmd *out)
{
  return peek(r->mb->cmd_tail) == r->sure && ring_read_cmd(r, out);
}

/* Takes the command that was found. */
static inline void ring_take(struct ring *r, struct ring_cmd *c)
{
  c->token = r->next++;
  r->owners[c->id] = RING_OUT | c->token;
  *ring_slot(r, c->token) = r->cursor;
  ring_at(r, r->cursor)->head.uflags = ABI_PASSED;
  ring_pass(r, c->len);
}

/* memcpy() out of the ring.  What follows looks at the copy: without the empty
 * statement a compiler might fetch from the ring once more. */
static inline void ring_fetch(void *to, const void *from, size_t n)
{
  memcpy(to, from, n);
  __asm__ volatile ("" : : "r" (to) : "memory");
}

/* Copies the first 16 bytes of the CDB, or what lies behind it; false: they are
 * not all in the ring.  abi_cdb_len() of the copy says whether that is all of
 * the CDB; where it is not, ask ring_cdb(). */
static inline bool ring_cdb_common(const struct ring *r,
                                   const struct ring_cmd *c,
                                   unsigned char cdb[RING_CDB_COMMON])
{
  uint64_t at = peek(((const struct abi_cmd *)c->at)->req.cdb_off);

  if (at - r->ring_off > r->size - RING_CDB_COMMON)
    return false;
  ring_fetch(cdb, (const unsigned char *)r->mb + at, RING_CDB_COMMON);
  return true;
}

/* The iovec at `i`, below the command's count, as addresses; false: it reaches
 * outside the data area. */
static inline bool ring_iovec(const struct ring *r, const struct ring_cmd *c,
                              uint32_t i, struct iovec *out)
{
  const struct abi_iov *iov = (const struct abi_iov *)(c->at + ABI_IOV_OFF) + i;
  uint64_t base = peek(iov->base), len = peek(iov->len);

  if (base < r->data_off || base > r->len || len > r->len - base)
    return false;
  out->iov_base = (unsigned char *)r->mb + base;
  out->iov_len = len;
  return true;
}

/* The entry that would take the answer to a command, or NULL if there is none
 * to be given: its data is the kernel's again. */
static inline struct abi_cmd *ring_awaits(const struct ring *r, uint32_t token,
                                          uint16_t id)
{
  if (id >= r->ids || r->owners[id] != (RING_OUT | token) ||
      (peek(r->mb->cmd_tail) != r->sure && !ring_stands(r)))
    return NULL;
  /* Some entry waits for every command that is out: at least its own. */
  return ring_at(r, *ring_slot(r, r->caps & RING_CAP_OOOC ? r->first : token));
}

/* Ends a command: returns the entry that takes its answer, or NULL. */
static inline struct abi_cmd *ring_finish(struct ring *r, uint32_t token,
                                          uint16_t id)
{
  struct abi_cmd *e = ring_awaits(r, token, id);

  if (!e)
    return NULL;
  r->owners[id] = 0;
  if (r->caps & RING_CAP_OOOC)
    r->first++;                 /* nobody waits behind anybody */
  else
    ring_release_in_order(r, token);
  return e;
}

/* Answers in an entry that ring_finish() has returned: GOOD and either all of
 * Data-In, or, where RING_CAP_READ_LEN allows it, `read_len` bytes; 0: all. */
static inline void ring_put_good(struct abi_cmd *e, uint16_t id,
                                 uint32_t read_len)
{
  e->head.cmd_id = id;
  e->head.uflags = ABI_PASSED | (read_len ? ABI_READ_LEN : 0);
  e->rsp.status = 0;
  e->rsp.read_len = read_len;
}

/* Answers a command without data that was found with GOOD, instead of taking
 * it.  While nothing is out its own entry is the one to take the answer. */
static inline void ring_good_at_once(struct ring *r, struct ring_cmd *c)
{
  struct abi_cmd *e = ring_at(r, r->cursor);

  if (r->first == r->next) {
    ring_put_good(e, c->id, 0);
    ring_pass(r, c->len);
    return;
  }
  ring_take(r, c);
  e = ring_finish(r, c->token, c->id);
  if (e)
    ring_put_good(e, c->id, 0);
}

#endif
