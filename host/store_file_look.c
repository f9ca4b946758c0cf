/* store_file_look.c - finds out what differs between file systems.
 *
 * It is kept as data in struct file, so that serving need not ask again.
 */
#define _GNU_SOURCE 1
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A limit of a block device's queue, 0 if there is none; a partition has the
 * queue of its disk. */
static unsigned long long queue_limit(dev_t dev, const char *name)
{
  static const char *const where[] = { "queue", "../queue" };
  unsigned long long n = 0;

  for (int i = 0; i < 2; i++) {
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(dev),
             minor(dev), where[i], name);
    file = fopen(path, "re");
    if (!file)
      continue;
    if (fscanf(file, "%llu", &n) != 1)
      n = 0;
    fclose(file);
    break;
  }
  return n;
}

int file_look_device(struct file *f, dev_t dev)
{
  int read_only = 0;
  unsigned block = 0;

  if (ioctl(f->fd, BLKGETSIZE64, &f->base.size))
    return -errno;
  if (!f->base.read_only && !ioctl(f->fd, BLKROGET, &read_only) && read_only)
    return -EROFS;
  if (!ioctl(f->fd, BLKPBSZGET, &block))
    f->block = block;
  f->page = (uint32_t)sysconf(_SC_PAGESIZE);
  /* punching a hole is a write of zeroes that may unmap */
  f->discards = queue_limit(dev, "discard_max_bytes") &&
                queue_limit(dev, "write_zeroes_max_bytes");
  return 0;
}

int file_look_file(struct file *f, const struct stat *st)
{
  struct statfs fs;

  if (fstatfs(f->fd, &fs))
    return -errno;
  f->in_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
  f->base.size = (uint64_t)st->st_size;
  f->block = (uint32_t)st->st_blksize;
  /* Beyond the end there is nothing to lose.  What is read-only has the holes
   * that it has, and is not to be asked for more. */
  f->discards = f->base.read_only ||
                !fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           st->st_size, 1);
  return 0;
}

/* What O_DIRECT wants of ranges and of memory. */
void file_look_direct(struct file *f, dev_t dev)
{
  unsigned long long block;
  int size = 0;

  f->page = 0;

#ifdef STATX_DIOALIGN           /* Linux 6.1 */
  struct statx sx;

  if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) &&
      (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align) {
    f->align = sx.stx_dio_offset_align;
    f->align_memory = sx.stx_dio_mem_align;
  }
#endif
  if (!f->align && f->is_device && !ioctl(f->fd, BLKSSZGET, &size))
    f->align = f->align_memory = (uint32_t)size;
  if (!f->align) {
    block = queue_limit(dev, "logical_block_size");
    f->align = f->align_memory = block ? (uint32_t)block : 4096;
  }
  if (f->align_memory < sizeof(void *))
    f->align_memory = sizeof(void *);   /* the least to be allocated */
}

/* How READ and WRITE are tried on the loop. */
void file_look_ways(struct file *f, unsigned flags)
{
  unsigned char byte;
  struct iovec iov = { &byte, 1 };

  if (f->in_memory)
    f->reads = f->writes = FILE_INLINE;
  else if (!f->align)
    f->writes = FILE_TRY;       /* nobody can ask without writing: the first
                                   write finds out */
  if (!f->in_memory && !f->align &&
      (preadv2(f->data, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN))
    f->reads = FILE_TRY;
  if (flags & STORE_FILE_READS_ASYNC)
    f->reads = FILE_ASYNC;
  if (flags & STORE_FILE_WRITES_ASYNC)
    f->writes = FILE_ASYNC;
  if (flags & STORE_FILE_WRITES_INLINE)
    f->writes = FILE_INLINE;
}
