/* store_mem.c - blocks in memory that cost what is written.
 *
 * A tree of tables, 4,096 slots each, leads from a page number to its 64 KiB
 * page: one step up to 256 MiB, two up to 1 TiB, four for any size.  A page
 * that is not there reads as zeroes.  Pages come from slabs taken from the
 * kernel directly, because the heap would keep the memory of discarded ones.
 */
#define _GNU_SOURCE 1
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "copy_ahead.h"

enum {
  PAGE = 1 << 16,
  FAN_BITS = 12,
  FAN = 1 << FAN_BITS,
  SLAB_MIN = 4,                 /* pages: a small device stays small */
  SLAB_MAX = 64,
  HUGE = 2 << 20,               /* bytes; a slab of SLAB_MAX is full of them */
};

struct slab {
  struct slab *next;
  unsigned char *base;
  size_t pages;
};

struct memory {
  struct store base;
  void **root;                  /* NULL while nothing was written */
  unsigned levels;
  struct slab *slabs;
  size_t pages;                 /* in all slabs */
  unsigned char **spare;        /* room for all of them; all zeroes */
  size_t spares;
  struct ahead next;            /* what the command after this one may want */
};

static size_t least(uint64_t a, uint64_t b)
{
  return (size_t)(a < b ? a : b);
}

static unsigned levels_for(uint64_t size)
{
  uint64_t last = size ? (size - 1) / PAGE : 0;
  unsigned levels = 1;

  while (last >> (levels * FAN_BITS))
    levels++;
  return levels;
}

/* Large slabs are made of huge pages, where the system has them: a random
 * access then finds its address in the processor's cache of them. */
static void *map_slab(size_t size)
{
  size_t room = size < SLAB_MAX * PAGE ? size : size + HUGE, before;
  char *p = mmap(NULL, room, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED || room == size)
    return p;
  before = -(uintptr_t)p % HUGE;
  if (before)
    munmap(p, before);
  if (before < HUGE)
    munmap(p + before + size, HUGE - before);
  madvise(p + before, size, MADV_HUGEPAGE);
  return p + before;
}

static int add_slab(struct memory *m)
{
  size_t n = m->pages < SLAB_MIN ? SLAB_MIN : least(m->pages, SLAB_MAX);
  unsigned char **spare;
  struct slab *slab;

  spare = realloc(m->spare, (m->pages + n) * sizeof(*spare));
  if (!spare)
    return -ENOMEM;
  m->spare = spare;

  slab = malloc(sizeof(*slab));
  if (!slab)
    return -ENOMEM;
  slab->base = map_slab(n * PAGE);
  if (slab->base == MAP_FAILED) {
    free(slab);
    return -ENOMEM;
  }
  slab->pages = n;
  slab->next = m->slabs;
  m->slabs = slab;
  m->pages += n;
  while (n--)                   /* the first is taken first */
    m->spare[m->spares++] = slab->base + n * PAGE;
  return 0;
}

/* A page whose memory goes back to the kernel reads as zeroes again. */
static void drop_page(struct memory *m, void **slot)
{
  if (madvise(*slot, PAGE, MADV_DONTNEED))
    memset(*slot, 0, PAGE);     /* locked memory stays */
  m->spare[m->spares++] = *slot;
  *slot = NULL;
}

/* The slot of a page, or NULL and in `absent` how many pages from this one on
 * are certainly not there. */
static inline void **find(struct memory *m, uint64_t page, uint64_t *absent)
{
  void **node = m->root;
  unsigned bits = m->levels * FAN_BITS;

  for (; node; node = node[(page >> bits) & (FAN - 1)]) {
    bits -= FAN_BITS;
    if (!bits)
      return &node[page & (FAN - 1)];
  }
  *absent = ((uint64_t)1 << bits) - (page & (((uint64_t)1 << bits) - 1));
  return NULL;
}

/* The page itself, made if missing; NULL if memory is short. */
static unsigned char *make(struct memory *m, uint64_t page)
{
  void **slot = (void **)&m->root;

  for (unsigned bits = m->levels * FAN_BITS; bits; ) {
    if (!*slot)
      *slot = calloc(FAN, sizeof(void *));
    if (!*slot)
      return NULL;
    bits -= FAN_BITS;
    slot = (void **)*slot + ((page >> bits) & (FAN - 1));
  }
  if (!*slot) {
    if (!m->spares && add_slab(m))
      return NULL;
    *slot = m->spare[--m->spares];
  }
  return *slot;
}

static int read_pages(struct memory *m, struct store_op *op)
{
  for (;;) {
    size_t in = op->at % PAGE;
    size_t n = least(op->iov_now->iov_len, PAGE - in);
    uint64_t absent;
    void **slot = find(m, op->at / PAGE, &absent);

    if (slot && *slot)
      copy_ahead(op->iov_now->iov_base, (unsigned char *)*slot + in, n,
                 &m->next);
    else
      memset(op->iov_now->iov_base, 0, n);
    if (n == op->left)
      return 0;
    store_advance(op, n);
  }
}

static int write_pages(struct memory *m, struct store_op *op)
{
  for (;;) {
    size_t in = op->at % PAGE;
    size_t n = least(op->iov_now->iov_len, PAGE - in);
    unsigned char *page = make(m, op->at / PAGE);

    if (!page)
      return -ENOMEM;
    copy_ahead(page + in, op->iov_now->iov_base, n, &m->next);
    if (n == op->left)
      return 0;
    store_advance(op, n);
  }
}

static void clear(struct memory *m, uint64_t at, uint64_t left)
{
  while (left) {
    size_t in = at % PAGE;
    uint64_t n = least(left, PAGE - in), absent;
    void **slot = find(m, at / PAGE, &absent);

    if (!slot)
      n = absent > (in + left) / PAGE ? left : absent * PAGE - in;
    else if (*slot && (n == PAGE || (!in && at + n == m->base.size)))
      drop_page(m, slot);
    else if (*slot)
      memset((unsigned char *)*slot + in, 0, n);
    at += n;
    left -= n;
  }
}

static int submit(struct store *s, struct store_op *op)
{
  struct memory *m = (struct memory *)s;

  switch (op->verb) {
  case STORE_READ:
    return read_pages(m, op);
  case STORE_WRITE:
    return write_pages(m, op);
  case STORE_FLUSH:
    return 0;
  case STORE_DISCARD:
  case STORE_ZERO:
    clear(m, op->at, op->left);
    return 0;
  }
  return -EINVAL;
}

static void expect(struct store *s, uint64_t offset)
{
  struct memory *m = (struct memory *)s;
  size_t in = offset % PAGE;
  uint64_t absent;
  void **slot;

  m->next.n = 0;
  if (offset >= s->size)
    return;
  slot = find(m, offset / PAGE, &absent);
  if (slot && *slot)
    m->next = (struct ahead){ (const char *)*slot + in,
                              least(AHEAD_MAX, PAGE - in) };
}

static void info(struct store *s, struct store_info *out)
{
  struct memory *m = (struct memory *)s;

  out->discards = true;
  out->knows_used = true;
  out->used = (uint64_t)(m->pages - m->spares) * PAGE;
}

/* Looks as far as the table goes that the page is in. */
static bool mapped(struct store *s, uint64_t offset, uint64_t *length)
{
  struct memory *m = (struct memory *)s;
  uint64_t page = offset / PAGE, alike;
  size_t in = offset % PAGE;
  void **slot = find(m, page, &alike);
  bool there = slot && *slot;

  if (slot)
    for (alike = 1; (page + alike) % FAN; alike++)
      if (!slot[alike] == there)
        break;
  if (alike <= (in + *length) / PAGE)   /* else more than there is */
    *length = alike * PAGE - in;
  return there;
}

/* Longer: tables on top, the old root in the first slot.  Shorter: what is cut
 * off must not be there when the store grows again. */
static int resize(struct store *s, uint64_t size)
{
  struct memory *m = (struct memory *)s;
  unsigned levels = levels_for(size);

  if (size < s->size)
    clear(m, size, s->size - size);
  for (; m->levels < levels; m->levels++) {
    void **top;

    if (!m->root)
      continue;
    top = calloc(FAN, sizeof(*top));
    if (!top)
      return -ENOMEM;
    top[0] = m->root;
    m->root = top;
  }
  return 0;
}

static void free_tables(void **node, unsigned levels)
{
  if (node && levels > 1)
    for (size_t i = 0; i < FAN; i++)
      free_tables(node[i], levels - 1);
  free(node);
}

static void close_store(struct store *s)
{
  struct memory *m = (struct memory *)s;

  free_tables(m->root, m->levels);
  for (struct slab *slab = m->slabs, *next; slab; slab = next) {
    next = slab->next;
    munmap(slab->base, slab->pages * PAGE);
    free(slab);
  }
  free(m->spare);
  free(m);
}

static const struct store_type type = {
  .name = "memory",
  .submit = submit,
  .expect = expect,
  .info = info,
  .resize = resize,
  .mapped = mapped,
  .close = close_store,
};

int store_memory_open(uv_loop_t *loop, uint64_t size, struct store **out)
{
  struct memory *m = calloc(1, sizeof(*m));

  *out = NULL;
  if (!m)
    return -ENOMEM;
  m->base = (struct store){ .type = &type, .loop = loop, .size = size };
  m->levels = levels_for(size);
  *out = &m->base;
  return 0;
}
