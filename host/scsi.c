/* scsi.c - see scsi.h.
 *
 * The table holds the commands that name a range of blocks, so that the range
 * lock and the fast path can be decided without entering Lua.
 */
#include "scsi.h"

#include <string.h>

struct place {
  unsigned char code;           /* opcode, or low byte of the service action */
  unsigned char kind;
  unsigned char lba_at, lba_size;
  unsigned char len_at, len_size;
};

#define TABLE_END { 0, 0, 0, 0, 0, 0 }

static const struct place by_opcode[] = {       /* SBC-3 clause 5 */
  { 0x08, SCSI_READ, 1, 3, 4, 1 },      /* READ(6) */
  { 0x0a, SCSI_WRITE, 1, 3, 4, 1 },     /* WRITE(6) */
  { 0x28, SCSI_READ, 2, 4, 7, 2 },      /* READ(10) */
  { 0x2a, SCSI_WRITE, 2, 4, 7, 2 },     /* WRITE(10) */
  { 0x2e, SCSI_CHANGE, 2, 4, 7, 2 },    /* WRITE AND VERIFY(10) */
  { 0x2f, SCSI_LOOK, 2, 4, 7, 2 },      /* VERIFY(10) */
  { 0x34, SCSI_LOOK, 2, 4, 7, 2 },      /* PRE-FETCH(10) */
  { 0x35, SCSI_SYNC, 2, 4, 7, 2 },      /* SYNCHRONIZE CACHE(10) */
  { 0x41, SCSI_CHANGE, 2, 4, 7, 2 },    /* WRITE SAME(10) */
  { 0x88, SCSI_READ, 2, 8, 10, 4 },     /* READ(16) */
  { 0x89, SCSI_CHANGE, 2, 8, 13, 1 },   /* COMPARE AND WRITE */
  { 0x8a, SCSI_WRITE, 2, 8, 10, 4 },    /* WRITE(16) */
  { 0x8b, SCSI_CHANGE, 2, 8, 10, 4 },   /* ORWRITE(16) */
  { 0x8e, SCSI_CHANGE, 2, 8, 10, 4 },   /* WRITE AND VERIFY(16) */
  { 0x8f, SCSI_LOOK, 2, 8, 10, 4 },     /* VERIFY(16) */
  { 0x90, SCSI_LOOK, 2, 8, 10, 4 },     /* PRE-FETCH(16) */
  { 0x91, SCSI_SYNC, 2, 8, 10, 4 },     /* SYNCHRONIZE CACHE(16) */
  { 0x93, SCSI_CHANGE, 2, 8, 10, 4 },   /* WRITE SAME(16) */
  { 0x9c, SCSI_CHANGE, 2, 8, 12, 2 },   /* WRITE ATOMIC(16), SBC-4 */
  { 0xa8, SCSI_READ, 2, 4, 6, 4 },      /* READ(12) */
  { 0xaa, SCSI_WRITE, 2, 4, 6, 4 },     /* WRITE(12) */
  { 0xae, SCSI_CHANGE, 2, 4, 6, 4 },    /* WRITE AND VERIFY(12) */
  { 0xaf, SCSI_LOOK, 2, 4, 6, 4 },      /* VERIFY(12) */
  TABLE_END
};

static const struct place by_action[] = {       /* opcode 7Fh, 32 bytes */
  { 0x09, SCSI_READ, 12, 8, 28, 4 },    /* READ(32) */
  { 0x0a, SCSI_LOOK, 12, 8, 28, 4 },    /* VERIFY(32) */
  { 0x0b, SCSI_WRITE, 12, 8, 28, 4 },   /* WRITE(32) */
  { 0x0c, SCSI_CHANGE, 12, 8, 28, 4 },  /* WRITE AND VERIFY(32) */
  { 0x0d, SCSI_CHANGE, 12, 8, 28, 4 },  /* WRITE SAME(32) */
  TABLE_END
};

enum {
  VARIABLE_LENGTH = 0x7f,
  FUA = 0x08,
  DPO = 0x10,
};

static uint64_t big_endian(const unsigned char *p, int n)
{
  uint64_t v = 0;

  while (n-- > 0)
    v = v << 8 | *p++;
  return v;
}

static const struct place *find(const struct place *table, int code)
{
  for (; table->len_size; table++)
    if (table->code == code)
      return table;
  return NULL;
}

void scsi_range(const unsigned char *cdb, int len, struct scsi_range *out)
{
  const struct place *p;
  unsigned flags, control;

  *out = (struct scsi_range){ .kind = SCSI_OTHER };
  if (cdb[0] == VARIABLE_LENGTH) {
    if (len != 32 || cdb[8] != 0)
      return;
    p = find(by_action, cdb[9]);
    flags = cdb[10];
    control = cdb[1];
  } else {
    p = find(by_opcode, cdb[0]);
    flags = len > 6 ? cdb[1] : 0;
    control = cdb[len - 1];
  }
  if (!p)
    return;

  out->kind = p->kind;
  out->ranged = true;
  out->fua = flags & FUA;
  out->plain = !(flags & ~(FUA | DPO)) && !control;
  out->lba = big_endian(cdb + p->lba_at, p->lba_size);
  out->blocks = big_endian(cdb + p->len_at, p->len_size);
  if (len == 10 || len == 12 || len == 16) {    /* beside GROUP NUMBER */
    out->plain = out->plain && !(cdb[len == 10 ? 6 : len - 2] & 0xe0);
  } else if (len == 6) {        /* SBC-3 5.9: 21 bits of LBA, 0 means 256 */
    out->plain = out->plain && !(cdb[1] & 0xe0);
    out->lba &= 0x1fffff;
    if (!out->blocks)
      out->blocks = 256;
  }
}

int scsi_sense(unsigned char *buf, bool descriptor, int key, int asc,
               int ascq)
{
  if (descriptor) {
    memset(buf, 0, 8);
    buf[0] = 0x72;
    buf[1] = (unsigned char)key;
    buf[2] = (unsigned char)asc;
    buf[3] = (unsigned char)ascq;
    return 8;
  }
  memset(buf, 0, 18);
  buf[0] = 0x70;
  buf[2] = (unsigned char)key;
  buf[7] = 10;
  buf[12] = (unsigned char)asc;
  buf[13] = (unsigned char)ascq;
  return 18;
}
