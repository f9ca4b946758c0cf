/* runner_shim.c - lets the unmodified tcmu-runner run without a kernel's
 * target: preloaded, it answers for the files and the netlink family that the
 * daemon looks for, and plays the kernel in a thread once the ring is mapped.
 *
 * BENCH_DEPTH, BENCH_COUNT and BENCH_SPAN describe 4 KiB READs and WRITEs;
 * the CPU time they took goes to the file BENCH_OUTPUT, in ns, and the daemon ends.
 */
#define _GNU_SOURCE             /* memfd_create, RTLD_NEXT */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/genl/mngt.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"
#include "load.h"

#define SHIM __attribute__((visibility("default")))
#define CONFIGFS "/sys/kernel/config/target/core/user_0/d/"

enum { BLOCK = 4096 };

static struct kernel *kernel;

static unsigned long long setting(const char *name)
{
  const char *text = getenv(name);

  return text ? strtoull(text, NULL, 10) : 0;
}

/* --- the kernel --------------------------------------------------------- */

static void *play(void *arg)
{
  struct load l = {
    .op = LOAD_READ_WRITE, .depth = (uint32_t)setting("BENCH_DEPTH"),
    .length = BLOCK, .span = setting("BENCH_SPAN"), .seed = 88172645463325252,
  };
  uint64_t count = setting("BENCH_COUNT");
  struct load_result r;
  FILE *f;
  int rc;

  (void)arg;
  l.count = count / 4 + l.depth;        /* to get warm */
  rc = load_beside(kernel, &l, &r);
  l.count = count;
  rc = rc ? rc : load_beside(kernel, &l, &r);
  f = fopen(getenv("BENCH_OUTPUT"), "w");
  if (f) {
    fprintf(f, "%lld\n", rc ? -1LL : (long long)r.cpu_ns);
    fclose(f);
  }
  _exit(0);
}

static int open_uio(void)
{
  const struct kernel_options o = {
    .ring_size = 1 << 20, .io_max = BLOCK,
    .depth = (uint32_t)setting("BENCH_DEPTH"),
  };

  if (!kernel && kernel_new(&o, &kernel)) {
    errno = ENOMEM;
    return -1;
  }
  return kernel->fd;
}

SHIM void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
  static void *(*next)(void *, size_t, int, int, int, off_t);
  pthread_t thread;
  void *map;

  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "mmap");
  if (!kernel || fd != kernel->fd)
    return next(at, len, prot, flags, fd, off);
  map = next(at, len, prot, flags, kernel->memfd, off);
  if (map != MAP_FAILED && pthread_create(&thread, NULL, play, NULL))
    return MAP_FAILED;
  return map;
}

/* --- files -------------------------------------------------------------- */

/* A file with this text. */
static int text_fd(const char *text)
{
  int fd = memfd_create("tcmu-bench", MFD_CLOEXEC);

  if (fd >= 0 && (write(fd, text, strlen(text)) < 0 ||
                  lseek(fd, 0, SEEK_SET) < 0))
    return -1;
  return fd;
}

SHIM int open(const char *path, int flags, ...)
{
  static int (*next)(const char *, int, ...);
  char text[64];
  va_list args;
  mode_t mode;

  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "open");
  if (strcmp(path, "/dev/uio0") == 0)
    return open_uio();
  if (strcmp(path, "/sys/class/uio/uio0/name") == 0)
    return text_fd("tcm-user/0/d/ram/\n");
  if (strcmp(path, "/sys/class/uio/uio0/maps/map0/size") == 0) {
    if (open_uio() < 0)
      return -1;
    snprintf(text, sizeof(text), "0x%zx\n", kernel->size);
    return text_fd(text);
  }
  if (strcmp(path, CONFIGFS "attrib/hw_block_size") == 0)
    return text_fd("512\n");
  if (strcmp(path, CONFIGFS "attrib/hw_max_sectors") == 0)
    return text_fd("2048\n");
  if (strcmp(path, CONFIGFS "info") == 0) {
    snprintf(text, sizeof(text), "Config: ram/ Size: %llu \n",
             setting("BENCH_SPAN"));
    return text_fd(text);
  }
  va_start(args, flags);
  mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
  va_end(args);
  return next(path, flags, mode);
}

/* The daemon's lock file. */
SHIM int creat(const char *path, mode_t mode)
{
  (void)path;
  (void)mode;
  return text_fd("");
}

SHIM int stat(const char *path, struct stat *out)
{
  static int (*next)(const char *, struct stat *);

  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "stat");
  if (strcmp(path, "/sys/module/target_core_user") == 0) {
    memset(out, 0, sizeof(*out));
    return 0;
  }
  return next(path, out);
}

/* /dev holds one device. */
SHIM int scandir(const char *path, struct dirent ***list,
                 int (*filter)(const struct dirent *),
                 int (*order)(const struct dirent **, const struct dirent **))
{
  static int (*next)(const char *, struct dirent ***,
                     int (*)(const struct dirent *),
                     int (*)(const struct dirent **, const struct dirent **));

  if (!next)
    *(void **)&next = dlsym(RTLD_NEXT, "scandir");
  if (strcmp(path, "/dev") != 0)
    return next(path, list, filter, order);
  *list = calloc(1, sizeof(**list));
  (*list)[0] = calloc(1, sizeof(***list));
  strcpy((*list)[0]->d_name, "uio0");
  return filter((*list)[0]) ? 1 : 0;
}

/* --- modules and netlink: there is a target ------------------------------- */

struct kmod_ctx;
struct kmod_list;
SHIM int kmod_module_new_from_lookup(struct kmod_ctx *ctx, const char *name,
                                     struct kmod_list **list);
int kmod_module_new_from_lookup(struct kmod_ctx *ctx, const char *name,
                                struct kmod_list **list)
{
  (void)ctx;
  (void)name;
  (void)list;
  errno = ENOENT;               /* "look into /sys/module" */
  return -1;
}

SHIM int genl_connect(struct nl_sock *s)
{
  (void)s;
  return 0;
}

SHIM int genl_ops_resolve(struct nl_sock *s, struct genl_ops *ops)
{
  (void)s;
  (void)ops;
  return 0;
}

SHIM int genl_ctrl_resolve_grp(struct nl_sock *s, const char *family,
                               const char *group)
{
  (void)s;
  (void)family;
  (void)group;
  return 1;
}

SHIM int nl_socket_add_membership(struct nl_sock *s, int group)
{
  (void)s;
  (void)group;
  return 0;
}

SHIM int nl_send_sync(struct nl_sock *s, struct nl_msg *message)
{
  (void)s;
  (void)message;
  return 0;
}

/* An event that never comes. */
SHIM int nl_socket_get_fd(const struct nl_sock *s)
{
  static int fds[2] = { -1, -1 };

  (void)s;
  if (fds[0] < 0 && pipe(fds))
    return -1;
  return fds[0];
}
