/* bind_buffer.c - see bind_buffer.h.  Offsets count from 0, as SCSI's tables
 * do, and multi-byte numbers are big-endian, as all of SCSI's are. */
#include "bind_buffer.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "cmd.h"
#include "task.h"

const char buffer_class[] = "tcmu.buffer";

struct buffer {
  const char *is;               /* buffer_class, see bind_check() */
  struct cmd *cmd;              /* a view, or NULL: own memory follows */
  bool bidi;
  struct iovec own;
};

/* What a buffer is right now. */
struct view {
  const struct iovec *iov;
  uint32_t n;
  uint64_t len;
};

static struct view view_of(const struct buffer *b)
{
  const struct cmd *c = b->cmd;

  if (!c)
    return (struct view){ &b->own, 1, b->own.iov_len };
  if (b->bidi)
    return (struct view){ c->bidi, c->bidi_cnt, c->bidi_len };
  return (struct view){ c->iov, c->iov_cnt, c->data_len };
}

static struct buffer *check(lua_State *L, int arg, struct view *v)
{
  struct buffer *b = bind_check(L, arg, buffer_class);
  struct task *t;

  if (b->cmd) {
    t = task_running();
    luaL_argcheck(L, t && t->cmd == b->cmd, arg,
                  "this buffer belongs to another command");
  }
  *v = view_of(b);
  return b;
}

static void check_span(lua_State *L, int arg, const struct view *v,
                       lua_Integer at, lua_Integer n)
{
  luaL_argcheck(L, at >= 0 && (lua_Unsigned)at <= v->len && n >= 0 &&
                (lua_Unsigned)n <= v->len - (lua_Unsigned)at, arg,
                "runs past the end of the buffer");
}

/* The iovec in which byte *at lies; *at becomes relative to it. */
static const struct iovec *seek(const struct view *v, uint64_t *at)
{
  const struct iovec *iov = v->iov;

  while (*at >= iov->iov_len)
    *at -= iov++->iov_len;
  return iov;
}

static void gather(const struct view *v, uint64_t at, void *to, size_t n)
{
  const struct iovec *iov;
  char *p = to;
  size_t part;

  for (iov = n ? seek(v, &at) : NULL; n; iov++, at = 0) {
    part = iov->iov_len - at < n ? iov->iov_len - at : n;
    memcpy(p, (char *)iov->iov_base + at, part);
    p += part;
    n -= part;
  }
}

/* from == NULL: the byte `fill` all over. */
static void scatter(const struct view *v, uint64_t at, const void *from,
                    int fill, size_t n)
{
  const struct iovec *iov;
  const char *p = from;
  size_t part;

  for (iov = n ? seek(v, &at) : NULL; n; iov++, at = 0) {
    part = iov->iov_len - at < n ? iov->iov_len - at : n;
    if (p) {
      memcpy((char *)iov->iov_base + at, p, part);
      p += part;
    } else {
      memset((char *)iov->iov_base + at, fill, part);
    }
    n -= part;
  }
}

static void blank(struct cmd *c, const struct view *v)
{
  if (!c->zeroed)
    scatter(v, 0, NULL, 0, v->len);
  c->zeroed = true;
}

/* Data-In that is set in part, or of which the change `keeps` something, must
 * not keep older bytes around. */
static void will_change(struct buffer *b, const struct view *v, uint64_t at,
                        uint64_t n, bool keeps)
{
  struct cmd *c = b->cmd;

  if (!c || (!b->bidi && (c->data_out || c->bidi_cnt)))
    return;
  c->touched = true;
  if (keeps || at > 0 || n < v->len)
    blank(c, v);
  c->zeroed = true;
}

/* Nor may it be read before it is set, where it is known to be Data-In: most
 * opcodes do not tell. */
static void will_read(struct buffer *b, const struct view *v)
{
  struct cmd *c = b->cmd;

  if (c && (c->bidi_cnt ? b->bidi : c->range.kind == SCSI_READ))
    blank(c, v);
}

static struct buffer *check_read(lua_State *L, int arg, struct view *v)
{
  struct buffer *b = check(L, arg, v);

  will_read(b, v);
  return b;
}

void *buffer_push(lua_State *L, size_t n)
{
  struct buffer *b = lua_newuserdatauv(L, sizeof(*b) + n, 0);

  b->is = buffer_class;
  b->cmd = NULL;
  b->own.iov_base = b + 1;
  b->own.iov_len = n;
  memset(b + 1, 0, n);
  luaL_setmetatable(L, buffer_class);
  return b + 1;
}

/* tcmu.buffer(n): n zeroed bytes. */
static int l_new(lua_State *L)
{
  lua_Integer n = luaL_checkinteger(L, 1);

  luaL_argcheck(L, n >= 0 && n <= (lua_Integer)1 << 32, 1,
                "not a sensible length");
  buffer_push(L, (size_t)n);
  return 1;
}

void buffer_push_view(lua_State *L, struct cmd *c, bool bidi)
{
  struct buffer *b = lua_newuserdatauv(L, sizeof(*b), 0);

  b->is = buffer_class;
  b->cmd = c;
  b->bidi = bidi;
  b->own.iov_base = NULL;
  b->own.iov_len = 0;
  luaL_setmetatable(L, buffer_class);
}

void buffer_revoke(lua_State *L, int index)
{
  static struct cmd nobody;

  ((struct buffer *)lua_touserdata(L, index))->cmd = &nobody;
}

int buffer_span(lua_State *L, int arg, uint64_t at, uint64_t *n, bool change,
                struct iovec *out, int room)
{
  struct view v;
  struct buffer *b = check(L, arg, &v);
  const struct iovec *iov;
  uint64_t from = at, left;
  size_t part;
  int count = 0;

  if (*n == BUFFER_REST)
    *n = at < v.len ? v.len - at : 0;
  left = *n;
  check_span(L, arg, &v, (lua_Integer)at, (lua_Integer)left);
  for (iov = left ? seek(&v, &from) : NULL; left; iov++, from = 0, count++) {
    part = iov->iov_len - from < left ? iov->iov_len - from : left;
    if (count < room) {
      out[count].iov_base = (char *)iov->iov_base + from;
      out[count].iov_len = part;
    }
    left -= part;
  }
  if (count > room)
    return count;
  if (change)
    will_change(b, &v, at, *n, false);
  else
    will_read(b, &v);
  return count;
}

void buffer_clear(lua_State *L, int arg, uint64_t at, uint64_t n)
{
  struct view v = view_of(lua_touserdata(L, arg));

  scatter(&v, at, NULL, 0, n);
}

static void copy(const struct view *to, uint64_t at, const struct view *from,
                 uint64_t start, size_t n)
{
  const struct iovec *iov;
  size_t part;

  for (iov = n ? seek(from, &start) : NULL; n; iov++, start = 0) {
    part = iov->iov_len - start < n ? iov->iov_len - start : n;
    scatter(to, at, (char *)iov->iov_base + start, 0, part);
    at += part;
    n -= part;
  }
}

bool buffer_reply(lua_State *L, int index, struct cmd *c)
{
  struct view to = { c->bidi, c->bidi_cnt, c->bidi_len };
  struct view from = { c->iov, c->iov_cnt, c->data_len };
  struct iovec text;
  struct buffer *b;

  if (!c->bidi_cnt)
    to = c->data_out ? (struct view){ NULL, 0, 0 } : from;
  if (lua_type(L, index) == LUA_TSTRING) {
    text.iov_base = (void *)lua_tolstring(L, index, &text.iov_len);
    from = (struct view){ &text, 1, text.iov_len };
  } else if (!(b = luaL_testudata(L, index, buffer_class))) {
    return false;
  } else if (!b->cmd) {
    from = (struct view){ &b->own, 1, b->own.iov_len };
  } else if (b->cmd != c) {
    return false;
  } else if (b->bidi || !c->bidi_cnt) {
    c->moved = c->touched ? to.len : 0; /* it is there already */
    return true;
  }
  c->moved = from.len < to.len ? from.len : to.len;
  copy(&to, 0, &from, 0, c->moved);
  return true;
}

static int l_len(lua_State *L)
{
  struct view v;

  check(L, 1, &v);
  lua_pushinteger(L, (lua_Integer)v.len);
  return 1;
}

/* buf:get([at [, n]]): a string. */
static int l_get(lua_State *L)
{
  struct view v;
  luaL_Buffer out;
  lua_Integer at, n;

  check_read(L, 1, &v);
  at = luaL_optinteger(L, 2, 0);
  check_span(L, 2, &v, at, 0);
  n = luaL_optinteger(L, 3, (lua_Integer)v.len - at);
  check_span(L, 3, &v, at, n);
  gather(&v, (uint64_t)at, luaL_buffinitsize(L, &out, (size_t)n), (size_t)n);
  luaL_pushresultsize(&out, (size_t)n);
  return 1;
}

/* buf:put(at, bytes) */
static int l_put(lua_State *L)
{
  struct view v;
  struct buffer *b = check(L, 1, &v);
  lua_Integer at = luaL_checkinteger(L, 2);
  const char *s;
  size_t n;

  s = luaL_checklstring(L, 3, &n);
  check_span(L, 2, &v, at, (lua_Integer)n);
  will_change(b, &v, (uint64_t)at, n, false);
  scatter(&v, (uint64_t)at, s, 0, n);
  return 0;
}

/* buf:fill(byte [, at [, n]]) */
static int l_fill(lua_State *L)
{
  struct view v;
  struct buffer *b = check(L, 1, &v);
  lua_Integer byte = luaL_checkinteger(L, 2), at, n;

  at = luaL_optinteger(L, 3, 0);
  check_span(L, 3, &v, at, 0);
  n = luaL_optinteger(L, 4, (lua_Integer)v.len - at);
  check_span(L, 4, &v, at, n);
  will_change(b, &v, (uint64_t)at, (uint64_t)n, false);
  scatter(&v, (uint64_t)at, NULL, (int)byte, (size_t)n);
  return 0;
}

/* The source of copy and compare: a string or a buffer from `from` on. */
static lua_Integer source(lua_State *L, int arg, struct view *v,
                          struct iovec *text)
{
  lua_Integer from = luaL_optinteger(L, arg + 1, 0), n;

  if (lua_type(L, arg) == LUA_TSTRING) {
    text->iov_base = (void *)lua_tolstring(L, arg, &text->iov_len);
    *v = (struct view){ text, 1, text->iov_len };
  } else {
    check_read(L, arg, v);
  }
  check_span(L, arg + 1, v, from, 0);
  n = luaL_optinteger(L, arg + 2, (lua_Integer)v->len - from);
  check_span(L, arg + 2, v, from, n);
  return n;
}

/* buf:copy(at, source [, from [, n]]); a source may overlap only if both are
 * one and the same range. */
static int l_copy(lua_State *L)
{
  struct view v, src;
  struct buffer *b = check(L, 1, &v);
  lua_Integer at = luaL_checkinteger(L, 2), n;
  struct iovec text;

  n = source(L, 3, &src, &text);
  check_span(L, 2, &v, at, n);
  will_change(b, &v, (uint64_t)at, (uint64_t)n, src.iov == v.iov);
  copy(&v, (uint64_t)at, &src, (uint64_t)luaL_optinteger(L, 4, 0), (size_t)n);
  return 0;
}

/* buf:bor(at, other [, from [, n]]): every byte becomes itself OR the other. */
static int l_bor(lua_State *L)
{
  struct view v, other;
  struct buffer *b = check(L, 1, &v);
  lua_Integer at = luaL_checkinteger(L, 2), n;
  uint64_t from, done;
  struct iovec text;
  char mine[512], theirs[512];
  size_t part, i;

  n = source(L, 3, &other, &text);
  check_span(L, 2, &v, at, n);
  will_change(b, &v, (uint64_t)at, (uint64_t)n, true);
  from = (uint64_t)luaL_optinteger(L, 4, 0);
  for (done = 0; done < (uint64_t)n; done += part) {
    part = (uint64_t)n - done;
    if (part > sizeof(mine))
      part = sizeof(mine);
    gather(&v, (uint64_t)at + done, mine, part);
    gather(&other, from + done, theirs, part);
    for (i = 0; i < part; i++)
      mine[i] |= theirs[i];
    scatter(&v, (uint64_t)at + done, mine, 0, part);
  }
  return 0;
}

/* buf:compare(at, other [, from [, n]]): true, or false and the number of the
 * first byte that differs, counted from the start of the comparison. */
static int l_compare(lua_State *L)
{
  struct view v, other;
  lua_Integer at = luaL_checkinteger(L, 2), n;
  uint64_t from, done;
  struct iovec text;
  char a[512], b[512];
  size_t part, i;

  check_read(L, 1, &v);
  n = source(L, 3, &other, &text);
  check_span(L, 2, &v, at, n);
  from = (uint64_t)luaL_optinteger(L, 4, 0);
  for (done = 0; done < (uint64_t)n; done += part) {
    part = (uint64_t)n - done < sizeof(a) ? (uint64_t)n - done : sizeof(a);
    gather(&v, (uint64_t)at + done, a, part);
    gather(&other, from + done, b, part);
    if (memcmp(a, b, part) == 0)
      continue;
    for (i = 0; a[i] == b[i];)
      i++;
    lua_pushboolean(L, 0);
    lua_pushinteger(L, (lua_Integer)(done + i));
    return 2;
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int number(lua_State *L, int size)
{
  unsigned char bytes[8];
  lua_Integer at = luaL_checkinteger(L, 2);
  lua_Unsigned value = 0;
  struct view v;
  int i;

  check_read(L, 1, &v);
  check_span(L, 2, &v, at, size);
  gather(&v, (uint64_t)at, bytes, (size_t)size);
  for (i = 0; i < size; i++)
    value = value << 8 | bytes[i];
  lua_pushinteger(L, (lua_Integer)value);
  return 1;
}

static int set_number(lua_State *L, int size)
{
  unsigned char bytes[8];
  struct view v;
  struct buffer *b = check(L, 1, &v);
  lua_Integer at = luaL_checkinteger(L, 2);
  lua_Unsigned value = (lua_Unsigned)luaL_checkinteger(L, 3);
  int i;

  check_span(L, 2, &v, at, size);
  luaL_argcheck(L, size == 8 || value >> (8 * size) == 0, 3,
                "does not fit the field");
  for (i = size; i-- > 0; value >>= 8)
    bytes[i] = (unsigned char)value;
  will_change(b, &v, (uint64_t)at, (uint64_t)size, false);
  scatter(&v, (uint64_t)at, bytes, 0, (size_t)size);
  return 0;
}

static int l_u8(lua_State *L) { return number(L, 1); }
static int l_u16(lua_State *L) { return number(L, 2); }
static int l_u24(lua_State *L) { return number(L, 3); }
static int l_u32(lua_State *L) { return number(L, 4); }
static int l_u64(lua_State *L) { return number(L, 8); }
static int l_set8(lua_State *L) { return set_number(L, 1); }
static int l_set16(lua_State *L) { return set_number(L, 2); }
static int l_set24(lua_State *L) { return set_number(L, 3); }
static int l_set32(lua_State *L) { return set_number(L, 4); }
static int l_set64(lua_State *L) { return set_number(L, 8); }

static int l_tostring(lua_State *L)
{
  lua_settop(L, 1);
  return l_get(L);
}

static const luaL_Reg methods[] = {
  { "bor", l_bor },
  { "compare", l_compare },
  { "copy", l_copy },
  { "fill", l_fill },
  { "get", l_get },
  { "put", l_put },
  { "set8", l_set8 },
  { "set16", l_set16 },
  { "set24", l_set24 },
  { "set32", l_set32 },
  { "set64", l_set64 },
  { "u8", l_u8 },
  { "u16", l_u16 },
  { "u24", l_u24 },
  { "u32", l_u32 },
  { "u64", l_u64 },
  { NULL, NULL }
};

static const luaL_Reg meta[] = {
  { "__len", l_len },
  { "__tostring", l_tostring },
  { NULL, NULL }
};

void bind_buffer(lua_State *L)
{
  luaL_newmetatable(L, buffer_class);
  luaL_setfuncs(L, meta, 0);
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "buffer");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "buffer");
}
