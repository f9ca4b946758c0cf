/* runner_ram.c - blocks in memory for tcmu-runner: a handler for its plugin
 * interface, served by one worker thread, as its own file handler is.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>

struct tcmu_device;
struct tcmur_cmd;

/* What tcmu-runner 1.5 reads from a handler; it has no header in Debian. */
struct tcmur_handler {
  const char *name, *subtype, *description;
  void *opaque;
  bool (*check_config)(const char *config, char **reason);
  int (*reconfig)(struct tcmu_device *dev, void *what);
  int (*open)(struct tcmu_device *dev, bool again);
  void (*close)(struct tcmu_device *dev);
  int threads;
  int (*handle)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
  int (*read)(struct tcmu_device *dev, struct tcmur_cmd *cmd,
              struct iovec *iov, size_t n, size_t len, off_t at);
  int (*write)(struct tcmu_device *dev, struct tcmur_cmd *cmd,
               struct iovec *iov, size_t n, size_t len, off_t at);
  int (*flush)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
  void *rest[16];               /* optional calls, and what is its own */
};

int tcmur_register_handler(struct tcmur_handler *h);
__attribute__((visibility("default"))) int handler_init(void);

static char *memory;

static int open_memory(struct tcmu_device *dev, bool again)
{
  const char *size = getenv("BENCH_SPAN");

  (void)dev;
  (void)again;
  memory = mmap(NULL, size ? strtoull(size, NULL, 10) : 0,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? -1 : 0;
}

static void close_memory(struct tcmu_device *dev)
{
  (void)dev;
}

static int read_memory(struct tcmu_device *dev, struct tcmur_cmd *cmd,
                       struct iovec *iov, size_t n, size_t len, off_t at)
{
  const char *from = memory + at;

  (void)dev;
  (void)cmd;
  (void)len;
  for (; n; n--, from += iov->iov_len, iov++)
    memcpy(iov->iov_base, from, iov->iov_len);
  return 0;
}

static int write_memory(struct tcmu_device *dev, struct tcmur_cmd *cmd,
                        struct iovec *iov, size_t n, size_t len, off_t at)
{
  char *to = memory + at;

  (void)dev;
  (void)cmd;
  (void)len;
  for (; n; n--, to += iov->iov_len, iov++)
    memcpy(to, iov->iov_base, iov->iov_len);
  return 0;
}

static int flush(struct tcmu_device *dev, struct tcmur_cmd *cmd)
{
  (void)dev;
  (void)cmd;
  return 0;
}

static struct tcmur_handler handler = {
  .name = "blocks in memory", .subtype = "ram", .description = "none",
  .open = open_memory, .close = close_memory, .threads = 1,
  .read = read_memory, .write = write_memory, .flush = flush,
};

int handler_init(void)
{
  return tcmur_register_handler(&handler);
}
