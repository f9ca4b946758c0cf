/* peer.h - what the shards of a process write to each other.
 *
 * A command of one device may have another device read or written (EXTENDED
 * COPY), which lives on a shard of its own.  Shards share no data: a request
 * is a letter, one piece of memory that belongs to whoever has it.  It travels
 * to the other shard, is served there by a task of the device, and comes back
 * as its own answer:
 *
 *   asks, waits --> inbox --> task of the device --> inbox --> is woken
 *
 * A letter always comes back, also from a device that is gone or hangs; if
 * nobody waits for it any more, it is thrown away.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "shard.h"
#include "timer.h"

struct peers;
struct task;

enum {
  PEERS_MAX = 256,              /* shards of a process */
  LETTER_TEXT = 512,            /* a designator, a token, or an answer */
};

enum letter_kind {
  LETTER_FIND,                  /* who has this designator? */
  LETTER_LOOK,                  /* what are you? */
  LETTER_READ,
  LETTER_WRITE,
  LETTER_DELETE,                /* a token is not needed any more */
  LETTER_HURRY,                 /* end what was asked, it is of no use */
};

enum {
  LETTER_REFUSED = 1,           /* rc: the device says why in `text` */
};

struct letter {
  STAILQ_ENTRY(letter) link;
  LIST_ENTRY(letter) served;    /* while a task of the device has it */
  enum letter_kind kind;
  unsigned home;                /* the shard that has asked */
  uint64_t ticket;              /* by which it knows who waits */
  bool answered;
  int rc;                       /* 0, LETTER_REFUSED or -errno: not reached */

  unsigned shard;               /* where the device is */
  int64_t device;               /* control's number */
  unsigned found;               /* FIND: how many there are */
  uint64_t offset;              /* bytes */
  size_t text_len;              /* of what is asked, then of the answer */
  char text[LETTER_TEXT];

  struct task *task;            /* the rest of the head: of who serves it */
  struct timer limit;
  unsigned char *bytes;         /* of the buffer that Lua sees */
  int buffer_ref;

  size_t len;
  unsigned char data[];         /* READ: from the device; WRITE: for it */
};

STAILQ_HEAD(letter_queue, letter);
LIST_HEAD(letter_list, letter);

/* Who waits for a letter; the shard's own. */
struct call {
  LIST_ENTRY(call) link;        /* while the letter is away */
  uint64_t ticket;
  unsigned shard;               /* that has it; not for FIND */
  struct task *task;
  struct letter *letter;        /* the answer */
};

LIST_HEAD(call_list, call);

/* One shard's end. */
struct peer {
  struct peers *all;
  struct shard *shard;
  unsigned index;
  uv_async_t wake;
  struct letter_queue inbox;    /* under the mutex of all */
  struct call_list calls;
  struct letter_list served;
  uint64_t last_ticket;
};

/* Lets the shard, which no thread runs yet, write to those of `beside`'s
 * process and them to it; `beside` NULL: it is the first.  Returns 0 or
 * -errno. */
int peer_join(struct shard *s, const struct shard *beside);

/* On the shard's thread, when its devices are gone: what is on its way to it
 * goes back or away.  Harmless on a shard that has not joined. */
void peer_leave(struct shard *s);

/* True if letters wait in the inbox of any shard of the process. */
bool peer_has_mail(const struct shard *s);

/* A letter of `len` bytes of data; NULL: out of memory. */
struct letter *letter_new(enum letter_kind kind, size_t len);

/* Sends a letter to m->shard (FIND: round all shards).  The call's task is
 * woken when it is back, as call->letter. */
void peer_ask(struct peer *p, struct letter *m, struct call *call);

/* The call's task does not wait any more. */
void peer_forget(struct call *call);

/* Asks whoever has the letter to end at once; it comes back as ever. */
void peer_hurry(struct peer *p, const struct call *call);

/* -- peer_serve.c -------------------------------------------------------- */

/* Adds the devices of this shard that have the designator in m->text. */
void peer_search(struct peer *p, struct letter *m);

/* Has the device answer; calls peer_answer() now or later. */
void peer_serve(struct peer *p, struct letter *m);

/* Ends the task that serves what `m` is about, if it still does. */
void peer_break_off(struct peer *p, const struct letter *m);

/* The letter goes home with its answer. */
void peer_answer(struct peer *p, struct letter *m, int rc);

/* The device is held no more: begins with what others have asked meanwhile. */
void peer_resume(struct device *d);

/* A LUN RESET: what others have asked of the device ends, like its
 * commands. */
void peer_reset(struct device *d);

#endif
