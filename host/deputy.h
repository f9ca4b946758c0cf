/* deputy.h - reads and writes configfs in a thread of its own.
 *
 * An rmdir of a device holds its configfs locks until control has answered the
 * REMOVED event, so control must never wait for a configfs file itself: both
 * would wait for ever.  The deputy may; it is freed as soon as control answers.
 * Files are handled one after the other.
 */
#ifndef DEPUTY_H
#define DEPUTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most that a configfs or sysfs attribute holds. */
#define DEPUTY_TEXT_MAX 4096

struct deputy;

struct deputy_answer {
  int64_t id;                   /* of deputy_ask() */
  int error;                    /* 0 or -errno */
  bool is_write;
  size_t len;                   /* bytes of the text */
  char *text;                   /* what was read, or was to be written */
};

/* Starts the thread.  Returns 0 or -errno. */
int deputy_open(struct deputy **out);

/* Ends the thread; one that hangs in a file is left to end by itself.  Waits
 * up to a second.  Harmless on NULL. */
void deputy_close(struct deputy *d);

/* Readable when an answer waits. */
int deputy_fd(const struct deputy *d);

/* Has the file `path` read, or, with `text` not NULL, `len` bytes written to it
 * in one write().  A directory reads as the names in it, a line each; that of a
 * link goes on with a tab and where it points.  Never waits.  Returns 0 or
 * -errno; then there is no answer. */
int deputy_ask(struct deputy *d, int64_t id, const char *path,
               const char *text, size_t len);

/* Takes one answer, whose text the caller frees; false when none waits. */
bool deputy_next(struct deputy *d, struct deputy_answer *out);

#endif
