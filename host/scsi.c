/* scsi.c - see scsi.h.
 *
 * The tables hold the commands that name a range of blocks, so that the range
 * lock and the fast path can be decided without entering Lua.
 */
#include "scsi.h"

#include <string.h>

struct place {
  unsigned char kind;
  unsigned char lba_at, lba_size;
  unsigned char len_at, len_size;
  unsigned char flags;          /* that a plain command may have set */
};

enum { RW = SCSI_FUA | SCSI_DPO };

static const struct place by_opcode[256] = {    /* SBC-3 clause 5 */
  [0x08] = { SCSI_READ, 1, 3, 4, 1, 0 },        /* READ(6) */
  [0x0a] = { SCSI_WRITE, 1, 3, 4, 1, 0 },       /* WRITE(6) */
  [0x28] = { SCSI_READ, 2, 4, 7, 2, RW },       /* READ(10) */
  [0x2a] = { SCSI_WRITE, 2, 4, 7, 2, RW },      /* WRITE(10) */
  [0x2e] = { SCSI_CHANGE, 2, 4, 7, 2, 0 },      /* WRITE AND VERIFY(10) */
  [0x2f] = { SCSI_VERIFY, 2, 4, 7, 2, SCSI_DPO },       /* VERIFY(10) */
  [0x34] = { SCSI_LOOK, 2, 4, 7, 2, 0 },        /* PRE-FETCH(10) */
  [0x35] = { SCSI_SYNC, 2, 4, 7, 2, 0 },        /* SYNCHRONIZE CACHE(10) */
  [0x41] = { SCSI_SAME, 2, 4, 7, 2, SCSI_SAME_UNMAP },  /* WRITE SAME(10) */
  [0x42] = { SCSI_UNMAP, 0, 0, 7, 2, 0 },       /* UNMAP: a list's length */
  [0x88] = { SCSI_READ, 2, 8, 10, 4, RW },      /* READ(16) */
  [0x89] = { SCSI_CHANGE, 2, 8, 13, 1, 0 },     /* COMPARE AND WRITE */
  [0x8a] = { SCSI_WRITE, 2, 8, 10, 4, RW },     /* WRITE(16) */
  [0x8b] = { SCSI_CHANGE, 2, 8, 10, 4, 0 },     /* ORWRITE(16) */
  [0x8e] = { SCSI_CHANGE, 2, 8, 10, 4, 0 },     /* WRITE AND VERIFY(16) */
  [0x8f] = { SCSI_VERIFY, 2, 8, 10, 4, SCSI_DPO },      /* VERIFY(16) */
  [0x90] = { SCSI_LOOK, 2, 8, 10, 4, 0 },       /* PRE-FETCH(16) */
  [0x91] = { SCSI_SYNC, 2, 8, 10, 4, 0 },       /* SYNCHRONIZE CACHE(16) */
  [0x93] = { SCSI_SAME, 2, 8, 10, 4,            /* WRITE SAME(16) */
             SCSI_SAME_UNMAP | SCSI_SAME_NDOB },
  [0x9c] = { SCSI_CHANGE, 2, 8, 12, 2, 0 },     /* WRITE ATOMIC(16), SBC-4 */
  [0xa8] = { SCSI_READ, 2, 4, 6, 4, RW },       /* READ(12) */
  [0xaa] = { SCSI_WRITE, 2, 4, 6, 4, RW },      /* WRITE(12) */
  [0xae] = { SCSI_CHANGE, 2, 4, 6, 4, 0 },      /* WRITE AND VERIFY(12) */
  [0xaf] = { SCSI_VERIFY, 2, 4, 6, 4, SCSI_DPO },       /* VERIFY(12) */
};

static const struct place by_action[32] = {     /* opcode 7Fh, 32 bytes */
  [0x09] = { SCSI_READ, 12, 8, 28, 4, RW },     /* READ(32) */
  [0x0a] = { SCSI_VERIFY, 12, 8, 28, 4, SCSI_DPO },     /* VERIFY(32) */
  [0x0b] = { SCSI_WRITE, 12, 8, 28, 4, RW },    /* WRITE(32) */
  [0x0c] = { SCSI_CHANGE, 12, 8, 28, 4, 0 },    /* WRITE AND VERIFY(32) */
  [0x0d] = { SCSI_SAME, 12, 8, 28, 4,           /* WRITE SAME(32) */
             SCSI_SAME_UNMAP | SCSI_SAME_NDOB },
};

enum {
  VARIABLE_LENGTH = 0x7f,
  NOT_GROUP_NUMBER = 0xe0,      /* of the byte that holds it */
};

static bool any(const unsigned char *p, int n)
{
  while (n-- > 0)
    if (*p++)
      return true;
  return false;
}

/* Nothing in these CDBs counts but flags, range and GROUP NUMBER; what is
 * reserved has to be 0. */
static bool is_plain(const unsigned char *cdb, int len, unsigned flags,
                     unsigned allowed)
{
  if (flags & ~allowed)
    return false;
  switch (len) {
  case 6:
    return !(cdb[1] & 0xe0) && !cdb[5];
  case 10:
    return !(cdb[6] & NOT_GROUP_NUMBER) && !cdb[9];
  case 12:
    return !(cdb[10] & NOT_GROUP_NUMBER) && !cdb[11];
  case 16:
    return !(cdb[14] & NOT_GROUP_NUMBER) && !cdb[15];
  default:                      /* without protection: no tags at 20 to 27 */
    return !any(cdb + 1, 5) && !(cdb[6] & NOT_GROUP_NUMBER) && !cdb[11] &&
           !any(cdb + 20, 8);
  }
}

void scsi_range(const unsigned char *cdb, int len, struct scsi_range *out)
{
  const struct place *p = &by_opcode[cdb[0]];
  unsigned flags = len > 6 ? cdb[1] : 0;

  if (cdb[0] == VARIABLE_LENGTH && len == 32 && cdb[8] == 0 && cdb[9] < 32) {
    p = &by_action[cdb[9]];
    flags = cdb[10];
  }
  out->kind = p->kind;
  out->ranged = p->lba_size;
  out->flags = (uint8_t)flags;
  out->plain = false;
  out->lba = out->blocks = 0;
  if (!p->kind)
    return;

  out->plain = is_plain(cdb, len, flags, p->flags);
  out->blocks = scsi_integer(cdb + p->len_at, p->len_size);
  if (!p->lba_size) {           /* UNMAP: reserved where others have an LBA */
    out->plain = out->plain && !any(cdb + 2, 4);
    return;
  }
  out->lba = scsi_integer(cdb + p->lba_at, p->lba_size);
  if (len == 6) {               /* SBC-3 5.9: 21 bits of LBA, 0 means 256 */
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
