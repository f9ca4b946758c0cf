/* resolve.c - see resolve.h.
 *
 * A request is malloc'ed, since libuv's pool may hold it longer than anybody
 * in Lua; it keeps its callback in the registry.
 */
#include "resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct request {
  uv_getaddrinfo_t req;
  const struct resolver *resolver;
  lua_State *L;                 /* the main coroutine */
  int callback;
};

struct name {
  const char *name;
  int value;
};

static const struct name families[] = {
  { "inet", AF_INET }, { "inet6", AF_INET6 }, { "unspec", AF_UNSPEC },
  { "unix", AF_UNIX }, { NULL, 0 }
};

static const struct name types[] = {
  { "dgram", SOCK_DGRAM }, { "raw", SOCK_RAW }, { "stream", SOCK_STREAM },
  { "seqpacket", SOCK_SEQPACKET }, { NULL, 0 }
};

static const struct name protocols[] = {
  { "tcp", IPPROTO_TCP }, { "udp", IPPROTO_UDP }, { "icmp", IPPROTO_ICMP },
  { "ip", IPPROTO_IP }, { NULL, 0 }
};

static const struct name flags[] = {
  { "addrconfig", AI_ADDRCONFIG }, { "all", AI_ALL },
  { "canonname", AI_CANONNAME }, { "numerichost", AI_NUMERICHOST },
  { "numericserv", AI_NUMERICSERV }, { "passive", AI_PASSIVE },
  { "v4mapped", AI_V4MAPPED }, { NULL, 0 }
};

/* A name or a number in field `key` of the table at 3; 0 if absent. */
static int number(lua_State *L, const char *key, const struct name *names)
{
  int value = 0;
  const char *s;

  lua_getfield(L, 3, key);
  if (lua_type(L, -1) == LUA_TNUMBER) {
    value = (int)luaL_checkinteger(L, -1);
  } else if (!lua_isnil(L, -1)) {
    s = luaL_checkstring(L, -1);
    while (names->name && strcmp(names->name, s) != 0)
      names++;
    if (!names->name)
      luaL_error(L, "getaddrinfo: '%s' is no %s", s, key);
    value = names->value;
  }
  lua_pop(L, 1);
  return value;
}

static void read_hints(lua_State *L, struct addrinfo *hints)
{
  const struct name *f;

  hints->ai_family = number(L, "family", families);
  hints->ai_socktype = number(L, "socktype", types);
  hints->ai_protocol = number(L, "protocol", protocols);
  for (f = flags; f->name; f++) {
    lua_getfield(L, 3, f->name);
    if (lua_toboolean(L, -1))
      hints->ai_flags |= f->value;
    lua_pop(L, 1);
  }
}

/* t[key] = the name of the value, or the value. */
static void set_name(lua_State *L, const char *key, const struct name *names,
                     int value)
{
  while (names->name && names->value != value)
    names++;
  if (names->name)
    lua_pushstring(L, names->name);
  else
    lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static void push_address(lua_State *L, const struct addrinfo *a)
{
  char text[INET6_ADDRSTRLEN] = "";
  const void *addr;
  int port;

  if (a->ai_family == AF_INET) {
    addr = &((struct sockaddr_in *)a->ai_addr)->sin_addr;
    port = ntohs(((struct sockaddr_in *)a->ai_addr)->sin_port);
  } else {
    addr = &((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
    port = ntohs(((struct sockaddr_in6 *)a->ai_addr)->sin6_port);
  }
  uv_inet_ntop(a->ai_family, addr, text, sizeof(text));
  lua_createtable(L, 0, 6);
  lua_pushstring(L, text);
  lua_setfield(L, -2, "addr");
  lua_pushinteger(L, port);
  lua_setfield(L, -2, "port");
  set_name(L, "family", families, a->ai_family);
  set_name(L, "socktype", types, a->ai_socktype);
  set_name(L, "protocol", protocols, a->ai_protocol);
  if (a->ai_canonname) {
    lua_pushstring(L, a->ai_canonname);
    lua_setfield(L, -2, "canonname");
  }
}

/* Runs protected: request's status, addresses -> error, list */
static int build(lua_State *L)
{
  int status = (int)lua_tointeger(L, 1);
  const struct addrinfo *a = lua_touserdata(L, 2);
  lua_Integer n = 0;

  if (status) {
    lua_pushstring(L, uv_err_name(status));
    return 1;
  }
  lua_pushnil(L);
  lua_newtable(L);
  for (; a; a = a->ai_next)
    if (a->ai_family == AF_INET || a->ai_family == AF_INET6) {
      push_address(L, a);
      lua_rawseti(L, -2, ++n);
    }
  return 2;
}

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *list)
{
  struct request *r = req->data;
  lua_State *L = r->L;
  int top = lua_gettop(L);

  lua_checkstack(L, 8);
  lua_rawgeti(L, LUA_REGISTRYINDEX, r->callback);
  luaL_unref(L, LUA_REGISTRYINDEX, r->callback);
  lua_pushcfunction(L, build);
  lua_pushinteger(L, status);
  lua_pushlightuserdata(L, list);
  if (lua_pcall(L, 2, LUA_MULTRET, 0) == LUA_OK)
    r->resolver->call(L, lua_gettop(L) - top - 1);
  lua_settop(L, top);
  uv_freeaddrinfo(list);
  free(r);
}

/* getaddrinfo(host, service, hints, callback) -> true; or nil, message, name.
 * callback(error name, list).  Without a callback it would block. */
static int l_getaddrinfo(lua_State *L)
{
  const struct resolver *resolver = lua_touserdata(L, lua_upvalueindex(1));
  const char *host = luaL_optstring(L, 1, NULL);
  const char *service;
  struct addrinfo hints = { 0 };
  struct request *r;
  int rc;

  if (lua_type(L, 2) == LUA_TNUMBER)
    lua_tostring(L, 2);
  service = luaL_optstring(L, 2, NULL);
  if (!lua_isnoneornil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    read_hints(L, &hints);
  }
  if (!lua_isfunction(L, 4) && !lua_isuserdata(L, 4))
    return luaL_error(L, "getaddrinfo without a callback blocks every device "
                      "of this shard; give one, with tcmu.await");
  lua_settop(L, 4);
  lua_pushvalue(L, 4);
  rc = luaL_ref(L, LUA_REGISTRYINDEX);
  r = calloc(1, sizeof(*r));
  if (!r) {
    luaL_unref(L, LUA_REGISTRYINDEX, rc);
    return luaL_error(L, "out of memory");
  }
  r->callback = rc;
  r->resolver = resolver;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  r->L = lua_tothread(L, -1);
  r->req.data = r;
  rc = uv_getaddrinfo(resolver->loop, &r->req, on_resolved, host, service,
                      &hints);
  if (rc) {
    luaL_unref(L, LUA_REGISTRYINDEX, r->callback);
    free(r);
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", uv_err_name(rc), uv_strerror(rc));
    lua_pushstring(L, uv_err_name(rc));
    return 3;
  }
  lua_pushboolean(L, 1);
  return 1;
}

void resolve_push(lua_State *L, const struct resolver *r)
{
  lua_pushlightuserdata(L, (void *)r);
  lua_pushcclosure(L, l_getaddrinfo, 1);
}
