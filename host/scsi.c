/* scsi.c - see scsi.h.
 *
 * The tables hold the commands that name a range of blocks, so that the range
 * lock and the fast path can be decided without entering Lua.
 */
#include "scsi.h"

#include <string.h>

struct use {
  unsigned char kind;           /* enum scsi_kind */
  unsigned char flags;          /* that a plain command may have set */
  unsigned char narrow;         /* bytes of its transfer length, if they are
                                   fewer than others of this length have */
};

enum { RW = SCSI_FUA | SCSI_DPO, SAME = SCSI_SAME_UNMAP | SCSI_SAME_NDOB };

static const struct use by_opcode[256] = {      /* SBC-3 clause 5 */
  [0x08] = { SCSI_READ, 0, 0 },                 /* READ(6) */
  [0x0a] = { SCSI_WRITE, 0, 0 },                /* WRITE(6) */
  [0x28] = { SCSI_READ, RW, 0 },                /* READ(10) */
  [0x2a] = { SCSI_WRITE, RW, 0 },               /* WRITE(10) */
  [0x2e] = { SCSI_CHANGE, 0, 0 },               /* WRITE AND VERIFY(10) */
  [0x2f] = { SCSI_VERIFY, SCSI_DPO, 0 },        /* VERIFY(10) */
  [0x34] = { SCSI_LOOK, 0, 0 },                 /* PRE-FETCH(10) */
  [0x35] = { SCSI_SYNC, 0, 0 },                 /* SYNCHRONIZE CACHE(10) */
  [0x41] = { SCSI_SAME, SCSI_SAME_UNMAP, 0 },   /* WRITE SAME(10) */
  [0x42] = { SCSI_UNMAP, 0, 0 },                /* UNMAP */
  [0x88] = { SCSI_READ, RW, 0 },                /* READ(16) */
  [0x89] = { SCSI_CHANGE, 0, 1 },               /* COMPARE AND WRITE */
  [0x8a] = { SCSI_WRITE, RW, 0 },               /* WRITE(16) */
  [0x8b] = { SCSI_CHANGE, 0, 0 },               /* ORWRITE(16) */
  [0x8e] = { SCSI_CHANGE, 0, 0 },               /* WRITE AND VERIFY(16) */
  [0x8f] = { SCSI_VERIFY, SCSI_DPO, 0 },        /* VERIFY(16) */
  [0x90] = { SCSI_LOOK, 0, 0 },                 /* PRE-FETCH(16) */
  [0x91] = { SCSI_SYNC, 0, 0 },                 /* SYNCHRONIZE CACHE(16) */
  [0x93] = { SCSI_SAME, SAME, 0 },              /* WRITE SAME(16) */
  [0x9c] = { SCSI_CHANGE, 0, 2 },               /* WRITE ATOMIC(16), SBC-4 */
  [0xa8] = { SCSI_READ, RW, 0 },                /* READ(12) */
  [0xaa] = { SCSI_WRITE, RW, 0 },               /* WRITE(12) */
  [0xae] = { SCSI_CHANGE, 0, 0 },               /* WRITE AND VERIFY(12) */
  [0xaf] = { SCSI_VERIFY, SCSI_DPO, 0 },        /* VERIFY(12) */
};

static const struct use by_action[32] = {       /* opcode 7Fh, 32 bytes */
  [0x09] = { SCSI_READ, RW, 0 },                /* READ(32) */
  [0x0a] = { SCSI_VERIFY, SCSI_DPO, 0 },        /* VERIFY(32) */
  [0x0b] = { SCSI_WRITE, RW, 0 },               /* WRITE(32) */
  [0x0c] = { SCSI_CHANGE, 0, 0 },               /* WRITE AND VERIFY(32) */
  [0x0d] = { SCSI_SAME, SAME, 0 },              /* WRITE SAME(32) */
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

/* Nothing in these CDBs counts but flags, range and GROUP NUMBER; `other` is
 * what has to be 0 for a command to be plain.  Where the fields are depends on
 * the length alone, and with constants for places they are a load each. */
void scsi_range(const unsigned char *cdb, int len, struct scsi_range *out)
{
  const struct use *use = &by_opcode[cdb[0]];
  unsigned flags = cdb[1], other;

  if (cdb[0] == VARIABLE_LENGTH && len == 32 && cdb[8] == 0 && cdb[9] < 32)
    use = &by_action[cdb[9]];
  out->kind = use->kind;
  out->ranged = out->plain = false;
  out->lba = out->blocks = 0;
  if (!use->kind)
    return;

  switch (len) {
  case 6:                       /* SBC-3 5.9: 21 bits of LBA, 0 means 256 */
    out->lba = scsi_integer(cdb + 1, 3) & 0x1fffff;
    out->blocks = cdb[4] ? cdb[4] : 256;
    flags = 0;
    other = (cdb[1] & 0xe0) | cdb[5];
    break;
  case 10:
    out->lba = scsi_integer(cdb + 2, 4);
    out->blocks = scsi_integer(cdb + 7, 2);
    other = (cdb[6] & NOT_GROUP_NUMBER) | cdb[9];
    break;
  case 12:
    out->lba = scsi_integer(cdb + 2, 4);
    out->blocks = scsi_integer(cdb + 6, 4);
    other = (cdb[10] & NOT_GROUP_NUMBER) | cdb[11];
    break;
  case 16:
    out->lba = scsi_integer(cdb + 2, 8);
    out->blocks = scsi_integer(cdb + 10, 4);
    if (use->narrow)
      out->blocks &= (1u << 8 * use->narrow) - 1;
    other = (cdb[14] & NOT_GROUP_NUMBER) | cdb[15];
    break;
  default:                      /* without protection: no tags at 20 to 27 */
    out->lba = scsi_integer(cdb + 12, 8);
    out->blocks = scsi_integer(cdb + 28, 4);
    flags = cdb[10];
    other = any(cdb + 1, 5) || cdb[6] & NOT_GROUP_NUMBER || cdb[11] ||
            any(cdb + 20, 8);
  }
  out->flags = (uint8_t)flags;
  out->plain = !(flags & ~(unsigned)use->flags) && !other;
  out->ranged = use->kind != SCSI_UNMAP;
  if (!out->ranged) {           /* reserved where others have an LBA */
    out->plain = out->plain && !out->lba;
    out->lba = 0;
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
