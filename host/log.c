/* log.c - one line on stderr for whoever operates this.
 *
 * A message is put together on the stack, or on the heap where it is long, and
 * leaves with one write(2): that keeps it whole among other threads without a
 * lock.  Only a message longer than a pipe takes at once goes line by line.
 */
#define _GNU_SOURCE 1
#include "log.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SHORT = 2048 };

static _Atomic int limit = LOG_INFO_;

/* Found out once: what reads stderr. */
static struct {
  bool journal, terminal, colour;
} reader;

static const struct {
  const char *word, *colour;
} levels[] = {
  [LOG_ERR_] = { "error: ", "\033[31m" },
  [LOG_WARN_] = { "warning: ", "\033[33m" },
  [LOG_INFO_] = { "", "" },
  [LOG_DEBUG_] = { "debug: ", "\033[2m" },
};

/* JOURNAL_STREAM is inherited by what has its stderr elsewhere by now, so it
 * says which stream it means (systemd.exec(5)). */
static bool is_journal(void)
{
  const char *stream = getenv("JOURNAL_STREAM");
  char name[64];
  struct stat st;

  if (!stream || fstat(STDERR_FILENO, &st))
    return false;
  snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)st.st_dev,
           (unsigned long long)st.st_ino);
  return !strcmp(stream, name);
}

static void find_reader(void)
{
  const char *no_colour = getenv("NO_COLOR");

  reader.journal = is_journal();
  reader.terminal = isatty(STDERR_FILENO);
  reader.colour = reader.terminal && !(no_colour && *no_colour);
}

void log_set_level(enum log_level level)
{
  atomic_store_explicit(&limit, level, memory_order_relaxed);
}

/* What every line of a message begins with. */
static void make_prefix(char *out, size_t room, enum log_level level,
                        const char *who)
{
  const char *sep = who ? ": " : "";
  char clock[16];
  struct tm tm;
  time_t now;

  if (!who)
    who = "";
  if (reader.journal) {
    snprintf(out, room, "<%d>%s%s", (int)level, who, sep);
  } else if (reader.terminal) {
    now = time(NULL);
    localtime_r(&now, &tm);
    strftime(clock, sizeof(clock), "%H:%M:%S ", &tm);
    snprintf(out, room, "%s%s%s%s%s", clock,
             reader.colour ? levels[level].colour : "", levels[level].word,
             who, sep);
  } else {
    snprintf(out, room, "%s%s%s", levels[level].word, who, sep);
  }
}

static void write_all(const char *text, size_t n)
{
  while (n) {
    ssize_t done = write(STDERR_FILENO, text, n);

    if (done < 0 && errno == EINTR)
      continue;
    if (done < 0)
      return;                   /* nobody left to tell */
    text += done;
    n -= (size_t)done;
  }
}

/* Writes prefix, line, suffix for each line of `text`. */
static void write_lines(const char *prefix, const char *text,
                        const char *suffix)
{
  size_t before = strlen(prefix), after = strlen(suffix), room, n = 0;
  char small[2 * SHORT], *out = small;

  room = before + strlen(text) + after;
  for (const char *s = text; *s; s++)
    if (*s == '\n')
      room += before + after;
  if (room > sizeof(small)) {
    out = malloc(room);
    if (!out)
      return;
  }

  for (;;) {
    size_t len = strcspn(text, "\n");

    memcpy(out + n, prefix, before);
    n += before;
    for (size_t i = 0; i < len; i++) {
      unsigned char c = (unsigned char)text[i];

      out[n++] = (c < ' ' && c != '\t') || c == 0x7f ? '?' : (char)c;
    }
    memcpy(out + n, suffix, after);
    n += after;
    text += len;
    if (room > PIPE_BUF) {
      write_all(out, n);
      n = 0;
    }
    if (!*text++)
      break;
  }
  write_all(out, n);
  if (out != small)
    free(out);
}

void log_line(enum log_level level, const char *who, const char *fmt, ...)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  char small[SHORT], prefix[256], *text = small;
  int kept = errno, n;
  va_list ap;

  if ((int)level > atomic_load_explicit(&limit, memory_order_relaxed))
    return;
  pthread_once(&once, find_reader);

  errno = kept;                 /* for %m */
  va_start(ap, fmt);
  n = vsnprintf(small, sizeof(small), fmt, ap);
  va_end(ap);
  if (n < 0)
    *small = '\0';
  if (n >= SHORT && (text = malloc((size_t)n + 1))) {
    errno = kept;
    va_start(ap, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    va_end(ap);
  }
  if (!text)
    text = small;               /* the beginning is better than nothing */
  for (size_t len = strlen(text); len && text[len - 1] == '\n'; )
    text[--len] = '\0';

  make_prefix(prefix, sizeof(prefix), level, who);
  write_lines(prefix, text, reader.colour && *levels[level].colour
              ? "\033[0m\n" : "\n");
  if (text != small)
    free(text);
  errno = kept;
}
