/* ring.c - feeds the ring's consumer with what a kernel would never write.
 *
 * The input is a script: submit, take, answer, publish, reset, ..., and
 * scribble over mailbox and ring in between.  Whatever happens, every address
 * that the consumer gives must lie in the data area and every call must end;
 * and as long as nothing was scribbled, each command ends exactly once with
 * the data that it should have.  Runs under libFuzzer, or from main.c.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ring_short.h"
#include "sim.h"

#define must(fact) \
  ((fact) ? (void)0 : fail(#fact, __LINE__))

enum { RING_SIZE = 4096, BLOCKS = 24, OPEN_MAX = 64, IOV_MAX_HERE = 256 };

struct open_cmd {
  uint32_t token;
  uint16_t id;
  unsigned char first;          /* byte 1 of the CDB, which the data repeats */
  uint32_t iov_cnt;
  struct iovec iov[8];
};

struct world {
  const uint8_t *bytes;         /* what is left of the input */
  size_t left;
  struct sim *sim;
  struct ring *ring;
  unsigned char *map;
  bool hostile;                 /* this input may scribble and reset */
  bool clean;                   /* it has not done so yet */
  unsigned submitted, finished;
  bool is_over[256];            /* by tag, while clean */
  uint32_t open_cnt;
  struct open_cmd open[OPEN_MAX];
  struct open_cmd stale;
};

_Noreturn static void fail(const char *fact, int line)
{
  fprintf(stderr, "spec/fuzz/ring.c:%d: not so: %s\n", line, fact);
  abort();
}

static uint8_t byte(struct world *w)
{
  if (!w->left)
    return 0;
  w->left--;
  return *w->bytes++;
}

static void collect(struct world *w)
{
  struct sim_result res;
  size_t i;

  sim_collect(w->sim);
  while (sim_done(w->sim, &res)) {
    w->finished++;
    if (!w->clean)
      continue;
    must(res.tag < 256 && !w->is_over[res.tag]);
    w->is_over[res.tag] = true;
    for (i = 0; i < res.data_len; i++)
      must(res.data[i] == (unsigned char)res.tag);
  }
}

static void submit(struct world *w)
{
  static const uint8_t opcodes[] = { 0x00, 0x28, 0x88, 0xa8, 0x7f, 0xc1 };
  static unsigned char out[6 * 4096];
  unsigned char cdb[RING_CDB_MAX] = { 0 };
  struct sim_request q = { .cdb = cdb, .cdb_len = sizeof(cdb) };
  uint8_t how = byte(w);

  if (w->submitted == 255)      /* tags are bytes here */
    return;
  cdb[0] = opcodes[how % sizeof(opcodes)];
  cdb[1] = (unsigned char)(w->submitted + 1);
  cdb[7] = how;
  q.in_len = how & 0x40 ? byte(w) * 96u : 0;
  q.out_len = how & 0x80 ? byte(w) * 96u : 0;
  memset(out, cdb[1], q.out_len);
  q.out = out;
  must(sim_submit(w->sim, &q) == ++w->submitted);
  sim_kick(w->sim);
}

static void take_cmd(struct world *w, const struct ring_cmd *c)
{
  static struct iovec iov[IOV_MAX_HERE];
  unsigned char cdb[RING_CDB_MAX];
  uint32_t n = c->iov_cnt + c->bidi_cnt, i;
  struct open_cmd *o;
  int64_t total;
  size_t sum = 0;
  int len;

  must(c->at >= w->map && c->at + 112 <= w->map + RING_SIZE);
  must(c->id != 0 && n < IOV_MAX_HERE);
  memset(cdb, 0, sizeof(cdb));
  len = ring_cdb(w->ring, c, cdb);
  must(len <= RING_CDB_MAX && (len >= 6 || len < 0));
  total = ring_iovecs(w->ring, c, 0, n, iov);
  if (w->clean)
    must(len > 0 && total >= 0);
  if (len < 0 || total < 0) {
    n = 0;
    must(ring_why(w->ring)[0]);
  }
  for (i = 0; i < n; i++) {
    unsigned char *at = iov[i].iov_base;

    must(at >= w->map + RING_SIZE);
    must(iov[i].iov_len <= (size_t)(w->map + sim_size(w->sim) - at));
    sum += iov[i].iov_len;
  }
  must(total < 0 || sum == (size_t)total || !n);
  must(ring_iovecs(w->ring, c, n, UINT32_MAX, iov) < 0);

  if (w->open_cnt == OPEN_MAX)  /* left unanswered */
    return;
  o = &w->open[w->open_cnt++];
  *o = (struct open_cmd) { .token = c->token, .id = c->id, .first = cdb[1] };
  for (i = w->clean ? c->bidi_cnt ? c->iov_cnt : 0 : 0; i < n; i++)
    if (o->iov_cnt < 8)
      o->iov[o->iov_cnt++] = iov[i];
}

/* The next entry as specs take it, or as the host's drain does: a command
 * without data may be over at once. */
static enum ring_event next(struct world *w, bool at_once, union ring_entry *e)
{
  unsigned char cdb[RING_CDB_COMMON];
  enum ring_event event = RING_CMD;

  if (!at_once)
    return ring_next(w->ring, e);
  for (;;) {
    if (!ring_has_cmd(w->ring, &e->cmd))
      event = ring_find(w->ring, e);
    if (event != RING_CMD)
      return event;
    if (e->cmd.iov_cnt | e->cmd.bidi_cnt ||
        !ring_cdb_common(w->ring, &e->cmd, cdb))
      break;
    ring_good_at_once(w->ring, &e->cmd);
  }
  ring_take(w->ring, &e->cmd);
  return RING_CMD;
}

static void take(struct world *w)
{
  uint8_t how = byte(w);
  unsigned rounds = how % 8 + 1, resets = 0;
  union ring_entry e;
  uint32_t i;

  while (rounds--) {
    switch (next(w, how & 0x80, &e)) {
    case RING_CMD:
      take_cmd(w, &e.cmd);
      break;
    case RING_TMR:
      for (i = 0; i < e.tmr.count; i++)
        ring_tmr_id(&e.tmr, i);
      break;
    case RING_RESET:
      must(!w->clean);
      must(++resets == 1);      /* once per cause */
      must(ring_outstanding(w->ring) == 0);
      if (w->open_cnt)
        w->stale = w->open[0];
      w->open_cnt = 0;
      break;
    case RING_BROKEN:
      must(!w->clean);
      must(ring_why(w->ring)[0] && !ring_pending(w->ring));
      return;
    case RING_EMPTY:
      return;
    }
  }
}

static void answer_open(struct world *w, uint32_t which, uint8_t how)
{
  struct open_cmd *o = &w->open[which];
  unsigned char sense[120];
  struct ring_result res = { .status = 0 };
  uint32_t before = ring_outstanding(w->ring), i;

  if (how & 0x80) {
    memset(sense, 0xaa, sizeof(sense));
    res.status = how & 0x40 ? 2 : how & 0x3f;
    res.sense = sense;
    res.sense_len = how & 0x20 ? sizeof(sense) : 18;
  }
  res.has_read_len = how & 0x10;
  res.read_len = how * 3u;
  for (i = 0; i < o->iov_cnt; i++)
    memset(o->iov[i].iov_base, o->first, o->iov[i].iov_len);
  ring_complete(w->ring, o->token, o->id, &res);
  must(ring_outstanding(w->ring) + w->clean <= before);
  w->stale = *o;
  *o = w->open[--w->open_cnt];
}

static void publish(struct world *w)
{
  static const uint32_t value = 0;

  if (ring_publish(w->ring))
    must(write(sim_fd(w->sim), &value, sizeof(value)) == sizeof(value));
  must(!ring_publish(w->ring));
  collect(w);
}

static void scribble(struct world *w)
{
  static const uint16_t fields[] = {
    12, 64,                     /* cmd_head, cmd_tail */
    128, 132, 136, 140, 152, 176, 184,  /* of the first entry */
  };
  uint8_t how = byte(w);
  size_t at = byte(w), n = how % 8 + 1;

  w->clean = false;
  if (how & 0x80)
    at = fields[at % (sizeof(fields) / sizeof(*fields))];
  else
    at = (at << 4 | how >> 3) % (RING_SIZE - 8);
  if (how & 0x40)
    at += 4;
  while (n--)
    w->map[at++] = byte(w);
}

/* A clean run ends as it should: all is answered, once. */
static void settle(struct world *w)
{
  unsigned rounds = 0;
  union ring_entry e;

  while (w->clean && (w->finished < w->submitted || ring_pending(w->ring) ||
                      ring_outstanding(w->ring))) {
    must(rounds++ < 1000);
    while (ring_next(w->ring, &e) == RING_CMD)
      take_cmd(w, &e.cmd);
    while (w->open_cnt)
      answer_open(w, 0, 0);
    publish(w);
  }
  must(!w->clean || !sim_broken(w->sim));
}

static void step(struct world *w)
{
  uint8_t op = byte(w), how = byte(w);
  struct ring_result res = { .status = how };
  uint64_t tag = how;

  switch (op % 16) {
  case 0: case 1: case 2: case 3:
    submit(w);
    break;
  case 4: case 5: case 6:
    take(w);
    break;
  case 7: case 8: case 9:
    if (w->open_cnt)
      answer_open(w, how % w->open_cnt, byte(w));
    break;
  case 10: case 11:
    publish(w);
    break;
  case 12:
    must(sim_tmr(w->sim, how, how & 1 ? &tag : NULL, 1) == 0);
    break;
  case 13:
    ring_complete(w->ring, w->stale.token + (how & 1) * 1000u,
                  w->stale.id, &res);
    break;
  case 14:
    if (how > 8 || !w->hostile)
      break;
    w->clean = false;
    if (how & 1)
      sim_reset(w->sim, 1 + (how >> 1 & 1));
    else
      sim_block(w->sim, how & 2);
    break;
  case 15:
    if ((how & 1) && w->hostile)
      scribble(w);
    else
      sim_expire(w->sim, how / 2);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  struct sim_options o = sim_defaults;
  struct world *w = calloc(1, sizeof(*w));
  char why[160];

  must(w);
  w->bytes = bytes;
  w->left = size;
  w->clean = true;
  o.ring_size = RING_SIZE;
  o.data_size = BLOCKS * 4096;
  o.caps = byte(w);
  must(sim_new(&o, &w->sim) == 0);
  sim_poison(w->sim, 0xee);
  w->map = mmap(NULL, sim_size(w->sim), PROT_READ | PROT_WRITE, MAP_SHARED,
                sim_memfd(w->sim), 0);
  must(w->map != MAP_FAILED);

  w->hostile = byte(w) & 1;
  if (w->hostile && byte(w) == 0)       /* now and then a nonsensical mailbox */
    scribble(w);
  if (!ring_new(w->map, sim_size(w->sim), why, sizeof(why), &w->ring)) {
    while (w->left)
      step(w);
    settle(w);
  } else
    must(!w->clean && why[0]);

  ring_free(w->ring);
  munmap(w->map, sim_size(w->sim));
  sim_free(w->sim);
  free(w);
  return 0;
}
