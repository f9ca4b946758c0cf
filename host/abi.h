/* abi.h - how a TCMU mailbox and its command ring lie in memory.
 *
 * Our own words for what linux/target_core_user.h lays down: that header
 * cannot be included beside sys/uio.h, and its natural alignment means
 * something else to a 32-bit process.  Both halves of the ring include this:
 * ring.c, the consumer, and sim.c, the kernel's part.
 */
#ifndef ABI_H
#define ABI_H

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "the kernel's layout needs a 64-bit build");

enum {
  ABI_ALIGN = 8,                /* of every entry; the low bits of len_op */
  ABI_RING_OFF = 128,           /* where the kernel puts the ring */
  ABI_IOV_OFF = 48,             /* first iovec, from the start of an entry */
};

/* Opcodes: the low three bits of len_op. */
enum { ABI_OP_PAD = 0, ABI_OP_CMD = 1, ABI_OP_TMR = 2 };

/* What the consumer tells about one entry. */
enum { ABI_UNKNOWN_OP = 0x1, ABI_READ_LEN = 0x2 };

/* Beside them, and nothing to the kernel: the consumer has passed this entry.
 * Every new one comes without flags. */
enum { ABI_PASSED = 0x80 };

struct abi_mailbox {
  uint16_t version;
  uint16_t flags;
  uint32_t cmdr_off;            /* the ring, from the start of the mapping */
  uint32_t cmdr_size;
  uint32_t cmd_head;            /* from the start of the ring, as cmd_tail */
  unsigned char unused[48];
  uint32_t cmd_tail;            /* the only field that the consumer writes */
};

struct abi_entry {
  uint32_t len_op;
  uint16_t cmd_id;
  uint8_t kflags;
  uint8_t uflags;
};

struct abi_iov {
  uint64_t base;                /* from the start of the mapping */
  uint64_t len;
};

/* A command: the answer overwrites the question.  The iovecs of the question
 * start at ABI_IOV_OFF, inside the room for the answer. */
struct abi_cmd {
  struct abi_entry head;
  union {
    struct {
      uint32_t iov_cnt;
      uint32_t bidi_cnt;
      uint32_t dif_cnt;
      uint32_t unused0;
      uint64_t cdb_off;         /* from the start of the mapping */
      uint64_t unused[2];
    } req;
    struct {
      uint8_t status;
      uint8_t unused[3];
      uint32_t read_len;
      unsigned char sense[96];
    } rsp;
  };
};

struct abi_tmr {
  struct abi_entry head;
  uint8_t type;
  uint8_t unused[3];
  uint32_t cmd_cnt;
  uint64_t unused2[2];
  /* cmd_cnt ids of 16 bits each */
};

_Static_assert(offsetof(struct abi_mailbox, flags) == 2, "mailbox");
_Static_assert(offsetof(struct abi_mailbox, cmdr_off) == 4, "mailbox");
_Static_assert(offsetof(struct abi_mailbox, cmdr_size) == 8, "mailbox");
_Static_assert(offsetof(struct abi_mailbox, cmd_head) == 12, "mailbox");
_Static_assert(offsetof(struct abi_mailbox, cmd_tail) == 64, "mailbox");
_Static_assert(sizeof(struct abi_entry) == 8, "entry");
_Static_assert(offsetof(struct abi_entry, cmd_id) == 4, "entry");
_Static_assert(offsetof(struct abi_entry, uflags) == 7, "entry");
_Static_assert(sizeof(struct abi_iov) == 16, "iovec");
_Static_assert(sizeof(struct abi_cmd) == 112, "command");
_Static_assert(offsetof(struct abi_cmd, req.bidi_cnt) == 12, "command");
_Static_assert(offsetof(struct abi_cmd, req.dif_cnt) == 16, "command");
_Static_assert(offsetof(struct abi_cmd, req.cdb_off) == 24, "command");
_Static_assert(offsetof(struct abi_cmd, rsp.status) == 8, "response");
_Static_assert(offsetof(struct abi_cmd, rsp.read_len) == 12, "response");
_Static_assert(offsetof(struct abi_cmd, rsp.sense) == 16, "response");
_Static_assert(offsetof(struct abi_tmr, cmd_cnt) == 12, "TMR");
_Static_assert(sizeof(struct abi_tmr) == 32, "TMR");

/* The length of a CDB as the kernel counts: by the group in the opcode (SPC-4
 * 4.2.5.1), vendor specific groups 6 and 7 having 10 bytes; `additional` is
 * byte 7 of the variable length format, 7Fh. */
static inline size_t abi_cdb_len(uint8_t opcode, uint8_t additional)
{
  static const uint8_t by_group[8] = { 6, 10, 10, 12, 16, 12, 10, 10 };

  return opcode == 0x7f ? 8u + additional : by_group[opcode >> 5];
}

#endif
