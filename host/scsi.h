/* scsi.h - the little that C must know of SCSI.
 *
 * Which bytes of which CDB are an LBA and a length, and how a sense buffer
 * looks.  Everything else about SCSI is a table in lua/tcmu.  Pure functions.
 */
#ifndef SCSI_H
#define SCSI_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {                          /* SAM-5 5.3.1: status codes */
  SCSI_GOOD = 0x00,
  SCSI_CHECK_CONDITION = 0x02,
  SCSI_BUSY = 0x08,
  SCSI_TASK_SET_FULL = 0x28,
  SCSI_TASK_ABORTED = 0x40,
};

enum {                          /* SPC-4 4.5.6: sense keys */
  SCSI_HARDWARE_ERROR = 0x04,
  SCSI_ABORTED_COMMAND = 0x0b,
};

/* What a command does to the blocks that it names. */
enum scsi_kind {
  SCSI_OTHER,                   /* names no range, or does not transfer */
  SCSI_READ,
  SCSI_LOOK,                    /* names a range and leaves it alone */
  SCSI_VERIFY,                  /* the same, and reads it: VERIFY */
  SCSI_SYNC,                    /* SYNCHRONIZE CACHE */
  SCSI_UNMAP,                   /* its ranges are in its Data-Out */
  SCSI_WRITE,                   /* replaces the range by its Data-Out */
  SCSI_SAME,                    /* by copies of its Data-Out: WRITE SAME */
  SCSI_CHANGE,                  /* changes the range in some other way */
};

/* Kinds from here on change blocks, and have Data-Out if they have data. */
enum { SCSI_CHANGES = SCSI_UNMAP };

/* Flags of the CDB that may be set where `plain` is true. */
enum {
  SCSI_FUA = 0x08,              /* READ and WRITE */
  SCSI_DPO = 0x10,              /* and VERIFY */
  SCSI_SAME_UNMAP = 0x08,       /* WRITE SAME */
  SCSI_SAME_NDOB = 0x01,        /* WRITE SAME(16) and (32) */
};

/* The range of a block command. */
struct scsi_range {
  uint8_t kind;                 /* enum scsi_kind */
  bool ranged;                  /* lba and blocks mean something */
  bool plain;                   /* no flag is set but those above, and the
                                   control byte is 0 */
  uint8_t flags;                /* of READ and WRITE (6): 0 */
  uint64_t lba;
  uint64_t blocks;
};

/* An integer of SCSI, which is big-endian: 1, 2, 3, 4 or 8 bytes. */
static inline uint64_t scsi_integer(const unsigned char *p, int n)
{
  uint64_t v8;
  uint32_t v4;

  switch (n) {
  case 8:
    memcpy(&v8, p, sizeof(v8));
    return be64toh(v8);
  case 4:
    memcpy(&v4, p, sizeof(v4));
    return be32toh(v4);
  case 3:
    return (uint64_t)p[0] << 16 | p[1] << 8 | p[2];
  case 2:
    return (uint64_t)p[0] << 8 | p[1];
  default:
    return p[0];
  }
}

/* Decodes `len` bytes of CDB (SBC-3 clause 5; READ(6) and WRITE(6) with 0
 * mean 256 blocks).  An opcode that names no range gives SCSI_OTHER. */
void scsi_range(const unsigned char *cdb, int len, struct scsi_range *out);

/* Writes fixed (18 bytes, SPC-4 4.5.3) or descriptor (8 bytes, 4.5.2) sense
 * and returns its length. */
int scsi_sense(unsigned char *buf, bool descriptor, int key, int asc,
               int ascq);

#endif
