/* deputy.c - one thread, a queue of files to it, a queue of answers back.
 *
 * The answers' eventfd counts them, so it is readable while one waits.  Nothing
 * is retried: a write that the kernel ended with EINTR was ended on purpose.
 */
#define _GNU_SOURCE
#include "deputy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_LIMIT 1           /* seconds */

struct item {
  STAILQ_ENTRY(item) link;
  struct deputy_answer answer;
  char path[];
};

STAILQ_HEAD(item_list, item);

struct deputy {
  pthread_t thread;
  pthread_mutex_t lock;         /* for what follows */
  pthread_cond_t wake;
  struct item_list asked, answered;
  bool closing;
  bool over;                    /* the thread touches this no more */
  bool left;                    /* nobody joins the thread: it cleans up */
  int event;
};

static void free_items(struct item_list *list)
{
  struct item *i;

  while ((i = STAILQ_FIRST(list))) {
    STAILQ_REMOVE_HEAD(list, link);
    free(i->answer.text);
    free(i);
  }
}

static void free_deputy(struct deputy *d)
{
  free_items(&d->asked);
  free_items(&d->answered);
  close(d->event);
  pthread_cond_destroy(&d->wake);
  pthread_mutex_destroy(&d->lock);
  free(d);
}

/* A line: the name, and of a link also where it points. */
static void describe(FILE *out, int dir, const struct dirent *e)
{
  char target[PATH_MAX];
  ssize_t n = -1;

  if (e->d_type == DT_LNK)
    n = readlinkat(dir, e->d_name, target, sizeof(target));
  if (n >= 0)
    fprintf(out, "%s\t%.*s\n", e->d_name, (int)n, target);
  else
    fprintf(out, "%s\n", e->d_name);
}

/* Takes `fd` over. */
static void list(struct deputy_answer *a, int fd)
{
  DIR *dir = fdopendir(fd);
  FILE *out = dir ? open_memstream(&a->text, &a->len) : NULL;
  struct dirent *e;

  if (!out) {
    a->error = -errno;
    if (dir)
      closedir(dir);
    else
      close(fd);
    return;
  }
  for (errno = 0; (e = readdir(dir)); errno = 0)
    if (e->d_name[0] != '.')
      describe(out, fd, e);
  a->error = -errno;
  closedir(dir);
  if (fclose(out) != 0)
    a->error = -ENOMEM;
}

static void handle(struct item *i)
{
  struct deputy_answer *a = &i->answer;
  ssize_t n;
  int fd;

  fd = open(i->path, (a->is_write ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) {
    a->error = -errno;
    return;
  }
  n = a->is_write ? write(fd, a->text, a->len) :
                    read(fd, a->text, DEPUTY_TEXT_MAX);
  if (n < 0 && errno == EISDIR) {
    free(a->text);
    a->text = NULL;
    list(a, fd);
    return;
  }
  if (n < 0)
    a->error = -errno;
  else
    a->len = (size_t)n;
  close(fd);
}

static void *work(void *arg)
{
  struct deputy *d = arg;
  struct item *i;
  bool left;

  pthread_mutex_lock(&d->lock);
  while (!d->closing) {
    i = STAILQ_FIRST(&d->asked);
    if (!i) {
      pthread_cond_wait(&d->wake, &d->lock);
      continue;
    }
    STAILQ_REMOVE_HEAD(&d->asked, link);
    pthread_mutex_unlock(&d->lock);

    handle(i);

    pthread_mutex_lock(&d->lock);
    STAILQ_INSERT_TAIL(&d->answered, i, link);
    eventfd_write(d->event, 1);
  }
  left = d->left;
  d->over = !left;
  pthread_mutex_unlock(&d->lock);

  if (left)
    free_deputy(d);
  return NULL;
}

/* Signals are the loop's: the thread takes none. */
static int start_thread(struct deputy *d)
{
  sigset_t all, old;
  int rc;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  rc = pthread_create(&d->thread, NULL, work, d);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return -rc;
}

int deputy_open(struct deputy **out)
{
  struct deputy *d;
  int rc;

  *out = NULL;
  d = calloc(1, sizeof(*d));
  if (!d)
    return -ENOMEM;
  STAILQ_INIT(&d->asked);
  STAILQ_INIT(&d->answered);
  pthread_mutex_init(&d->lock, NULL);
  pthread_cond_init(&d->wake, NULL);

  d->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
  rc = d->event < 0 ? -errno : start_thread(d);
  if (rc < 0) {
    free_deputy(d);
    return rc;
  }
  *out = d;
  return 0;
}

void deputy_close(struct deputy *d)
{
  struct timespec limit;
  bool over;

  if (!d)
    return;
  pthread_mutex_lock(&d->lock);
  d->closing = true;
  pthread_cond_signal(&d->wake);
  pthread_mutex_unlock(&d->lock);

  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += CLOSE_LIMIT;
  if (pthread_timedjoin_np(d->thread, NULL, &limit) == 0) {
    free_deputy(d);
    return;
  }

  pthread_mutex_lock(&d->lock);
  over = d->over;
  d->left = !over;
  if (!over)
    pthread_detach(d->thread);
  pthread_mutex_unlock(&d->lock);
  if (over) {
    pthread_join(d->thread, NULL);
    free_deputy(d);
  }
}

int deputy_fd(const struct deputy *d)
{
  return d->event;
}

int deputy_ask(struct deputy *d, int64_t id, const char *path,
               const char *text, size_t len)
{
  size_t n = strlen(path) + 1;
  struct item *i;

  if (text && len > DEPUTY_TEXT_MAX)
    return -E2BIG;
  i = calloc(1, sizeof(*i) + n);
  if (!i)
    return -ENOMEM;

  memcpy(i->path, path, n);
  i->answer.id = id;
  i->answer.text = malloc(DEPUTY_TEXT_MAX);
  if (!i->answer.text) {
    free(i);
    return -ENOMEM;
  }
  if (text) {
    i->answer.is_write = true;
    i->answer.len = len;
    memcpy(i->answer.text, text, len);
  }

  pthread_mutex_lock(&d->lock);
  STAILQ_INSERT_TAIL(&d->asked, i, link);
  pthread_cond_signal(&d->wake);
  pthread_mutex_unlock(&d->lock);
  return 0;
}

bool deputy_next(struct deputy *d, struct deputy_answer *out)
{
  struct item *i;
  eventfd_t one;

  pthread_mutex_lock(&d->lock);
  i = STAILQ_FIRST(&d->answered);
  if (i) {
    STAILQ_REMOVE_HEAD(&d->answered, link);
    eventfd_read(d->event, &one);
  }
  pthread_mutex_unlock(&d->lock);
  if (!i)
    return false;

  *out = i->answer;
  free(i);
  return true;
}
