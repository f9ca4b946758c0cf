/* store_file_open.c - opens, or makes, a file to serve.
 *
 * Everything that can be wrong with a path is told here in a sentence for the
 * operator.
 */
#define _GNU_SOURCE 1
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is asked for, and where to complain. */
struct wish {
  const char *path;
  unsigned flags;               /* STORE_FILE_* */
  bool read_only, create;
  uint64_t size;
  char *why;
  size_t why_len;
};

__attribute__((format(printf, 3, 4)))
static int refuse(const struct wish *w, int rc, const char *fmt, ...)
{
  va_list ap;

  va_start(ap, fmt);
  vsnprintf(w->why, w->why_len, fmt, ap);
  va_end(ap);
  return rc;
}

static int refuse_open(const struct wish *w, int err)
{
  switch (err) {
  case EACCES:
  case EPERM:
    return refuse(w, -err, "this user may not %s %s, see: ls -l %s",
                  w->read_only ? "read" : "write", w->path, w->path);
  case EROFS:
    return refuse(w, -err, "%s cannot be written; serve it read-only",
                  w->path);
  case EBUSY:
    return refuse(w, -err, "%s is mounted or part of something else that "
                  "must let go of it first, see: lsblk %s", w->path, w->path);
  default:
    return refuse(w, -err, "cannot open %s: %s", w->path, strerror(err));
  }
}

int store_sync_directory(const char *path)
{
  const char *slash = strrchr(path, '/');
  char *dir = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");
  int fd, rc = 0;

  if (!dir)
    return -ENOMEM;
  fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(dir);
  if (fd < 0)
    return -errno;
  if (fsync(fd) && errno != EINVAL)     /* EINVAL: knows no such thing */
    rc = -errno;
  close(fd);
  return rc;
}

static int create(const struct wish *w, int *out)
{
  int fd, rc;

  if (!w->size)
    return refuse(w, -EINVAL, "%s does not exist, and a new file needs a size; "
                  "give one, or make it with: truncate -s 1G %s",
                  w->path, w->path);
  if (w->size > INT64_MAX)
    return refuse(w, -EFBIG, "no file can have %llu bytes; choose less than "
                  "8 EiB", (unsigned long long)w->size);
  fd = open(w->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0)
    return refuse(w, -errno, "cannot make %s: %s", w->path, strerror(errno));

  rc = ftruncate(fd, (off_t)w->size) || fsync(fd) ? -errno : 0;
  if (!rc)
    rc = store_sync_directory(w->path);
  if (rc) {
    close(fd);
    unlink(w->path);
    return refuse(w, rc, "cannot make %s with %llu bytes: %s", w->path,
                  (unsigned long long)w->size, strerror(-rc));
  }
  *out = fd;
  return 0;
}

/* Opens what is there.  The type comes first, because opening a FIFO would
 * wait for somebody at its other end. */
static int open_there(const struct wish *w, int *out)
{
  int flags = (w->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  struct stat st;

  if (stat(w->path, &st)) {
    if (errno != ENOENT)
      return refuse_open(w, errno);
    if (w->create && !w->read_only)
      return create(w, out);
    return refuse(w, -ENOENT, "there is no %s; make it with: truncate -s %llu "
                  "%s", w->path,
                  (unsigned long long)(w->size ? w->size : 1 << 30), w->path);
  }
  if (S_ISDIR(st.st_mode))
    return refuse(w, -EISDIR, "%s is a directory; name a file in it", w->path);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return refuse(w, -ENOTBLK, "%s is neither a file nor a block device; name "
                  "one of these", w->path);
  if (S_ISBLK(st.st_mode) && !w->read_only)
    flags |= O_EXCL;            /* Linux: not while mounted or in an array */

  *out = open(w->path, flags);
  return *out < 0 ? refuse_open(w, errno) : 0;
}

/* Belongs to the open file description: two devices of one process exclude
 * each other as two processes do, and the last to close lets go of it.  So it
 * is that of the data: direct I/O of a process that was killed goes on, into
 * pages that the kernel gives to new commands, and keeps that one open. */
static int lock(const struct wish *w, int fd)
{
  struct flock fl = {
    .l_type = w->read_only ? F_RDLCK : F_WRLCK,
    .l_whence = SEEK_SET,       /* from 0 to whatever the end will be */
  };

  if (!fcntl(fd, F_OFD_SETLK, &fl))
    return 0;
  if (errno == EAGAIN || errno == EACCES)
    return refuse(w, -EBUSY, "%s is in use by another device or process; "
                  "delete or stop that one, see: lslocks", w->path);
  return refuse(w, -errno, "cannot lock %s: %s; use a file system that has "
                "locks", w->path, strerror(errno));
}

static int check_size(const struct wish *w, struct file *f)
{
  unsigned long long has = f->base.size, needs = w->size;

  if (has && has >= needs) {
    if (needs)
      f->base.size = needs;
    return 0;
  }
  if (f->is_device)
    return refuse(w, -ENOSPC, "%s has %llu bytes and the device needs %llu; "
                  "choose a larger one or a smaller device", w->path, has,
                  needs ? needs : 1);
  return refuse(w, -ENOSPC, "%s has %llu bytes and the device needs %llu; make "
                "it longer with: truncate -s %llu %s", w->path, has,
                needs ? needs : 1, needs ? needs : 1 << 30, w->path);
}

/* Opens the file once more; when it was read last need not be noted, which is
 * the owner's to say. */
static int open_again(const struct wish *w, const struct file *f, int flags)
{
  char again[32];
  int fd;

  flags |= (w->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  snprintf(again, sizeof(again), "/proc/self/fd/%d", f->fd);
  fd = open(again, flags | O_NOATIME);
  return fd < 0 && errno == EPERM ? open(again, flags) : fd;
}

/* The second description, and with it what depends on the options. */
static int open_data(const struct wish *w, struct file *f,
                     const struct stat *st)
{
  bool direct = w->flags & STORE_FILE_DIRECT;

  if (!direct || !f->in_memory)
    f->data = open_again(w, f, direct ? O_DIRECT : 0);
  if (direct && (f->in_memory || (f->data < 0 && errno == EINVAL)))
    return refuse(w, -EINVAL, "the file system of %s has no direct I/O; leave "
                  "out direct=yes", w->path);
  if (f->data < 0)
    return refuse(w, -errno, "cannot open %s a second time by way of /proc: "
                  "%s; is /proc mounted?", w->path, strerror(errno));
  if (!direct)
    return 0;
  file_look_direct(f, st->st_dev);
  if (f->base.size % f->align)
    return refuse(w, -EINVAL, "%s has to be read and written directly in "
                  "units of %u bytes, of which the %llu of the device are no "
                  "multiple; choose another size, or leave out direct=yes",
                  w->path, f->align, (unsigned long long)f->base.size);
  return 0;
}

static int join_aio(const struct wish *w, struct file *f)
{
  int rc = aio_open(&f->lane, f->base.loop, w->flags & STORE_FILE_THREADS);

  return rc ? refuse(w, rc, "no memory left to serve %s", w->path) : 0;
}

static int prepare(const struct wish *w, struct file *f)
{
  struct stat st;
  int rc;

  if (fstat(f->fd, &st))
    return refuse_open(w, errno);
  f->is_device = S_ISBLK(st.st_mode);
  rc = f->is_device ? file_look_device(f, st.st_rdev) : file_look_file(f, &st);
  if (rc)
    return refuse_open(w, -rc);
  rc = check_size(w, f);
  if (!rc)
    rc = open_data(w, f, &st);
  if (!rc)
    rc = lock(w, f->data);
  if (!rc)
    rc = join_aio(w, f);
  if (!rc)
    file_look_ways(f, w->flags);
  return rc;
}

int store_file_open(uv_loop_t *loop, const char *path, unsigned flags,
                    uint64_t size, char *why, size_t why_len,
                    struct store **out)
{
  struct wish w = {
    .path = path,
    .flags = flags,
    .read_only = flags & STORE_FILE_READ_ONLY,
    .create = flags & STORE_FILE_CREATE,
    .size = size,
    .why = why,
    .why_len = why_len,
  };
  struct file *f;
  int rc;

  *out = NULL;
  if ((flags & STORE_FILE_DIRECT) && (flags & STORE_FILE_WRITES_INLINE))
    return refuse(&w, -EINVAL, "direct I/O is never made on the loop; leave "
                  "out writes=inline or direct=yes");
  f = calloc(1, sizeof(*f));
  if (!f)
    return refuse(&w, -ENOMEM, "no memory left to open %s", path);
  file_init(f);
  f->base.loop = loop;
  f->base.read_only = w.read_only;

  rc = open_there(&w, &f->fd);
  if (!rc)
    rc = prepare(&w, f);
  if (rc) {
    store_close(&f->base);
    return rc;
  }
  *out = &f->base;
  return 0;
}
