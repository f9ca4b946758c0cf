/* bind_system.c - what the control thread and the command line need of the
 * operating system and neither Lua nor luv offers.
 */
#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bind.h"
#include "bind_outside.h"
#include "log.h"
#include "watchdog.h"

static const char *const level_names[] = {
  "error", "warning", "info", "debug", NULL
};
static const enum log_level levels[] = {
  LOG_ERR_, LOG_WARN_, LOG_INFO_, LOG_DEBUG_
};

/* core.log(level, who, text): one entry in the log; `who` may be nil. */
static int l_log(lua_State *L)
{
  enum log_level level = levels[luaL_checkoption(L, 1, NULL, level_names)];

  log_line(level, luaL_optstring(L, 2, NULL), "%s", luaL_checkstring(L, 3));
  return 0;
}

/* core.log_level(level): drops what is less important. */
static int l_log_level(lua_State *L)
{
  log_set_level(levels[luaL_checkoption(L, 1, NULL, level_names)]);
  return 0;
}

/* core.raise_nofile(): the soft limit of file descriptors becomes the hard
 * one, which is returned. */
static int l_raise_nofile(lua_State *L)
{
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit))
    return luaL_error(L, "getrlimit: %s", strerror(errno));
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  lua_pushinteger(L, (lua_Integer)limit.rlim_max);
  return 1;
}

/* core.sd_notify(address, text): one datagram for systemd; an address that
 * starts with '@' is abstract (sd_notify(3)).  True, or nil, message, errno. */
static int l_sd_notify(lua_State *L)
{
  size_t address_len, len;
  const char *address = luaL_checklstring(L, 1, &address_len);
  const char *text = luaL_checklstring(L, 2, &len);
  struct sockaddr_un to = { .sun_family = AF_UNIX };
  int fd, rc;

  luaL_argcheck(L, address_len && address_len < sizeof(to.sun_path), 1,
                "not the path of a socket");
  memcpy(to.sun_path, address, address_len);
  if (to.sun_path[0] == '@')
    to.sun_path[0] = '\0';
  fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  rc = fd < 0 || sendto(fd, text, len, MSG_NOSIGNAL, (struct sockaddr *)&to,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                    address_len)) < 0;
  if (rc)
    rc = errno;
  if (fd >= 0)
    close(fd);
  return outside_outcome(L, -rc);
}

/* core.isatty(n): is this file descriptor a terminal? */
static int l_isatty(lua_State *L)
{
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* core.memory(): bytes of physical memory. */
static int l_memory(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)sysconf(_SC_PHYS_PAGES) *
                     sysconf(_SC_PAGESIZE));
  return 1;
}

/* core.cpus(): processors that this process may use. */
static int l_cpus(lua_State *L)
{
  lua_pushinteger(L, sysconf(_SC_NPROCESSORS_ONLN));
  return 1;
}

/* core.strerror(errno): the usual sentence. */
static int l_strerror(lua_State *L)
{
  lua_pushstring(L, strerror((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* core.budget(ms): CPU time that one step of a handler may use; 0: any. */
static int l_budget(lua_State *L)
{
  lua_Integer ms = luaL_checkinteger(L, 1);

  luaL_argcheck(L, ms >= 0 && ms <= 3600000, 1, "0 to 3600000 ms");
  watchdog_set_budget((unsigned)ms);
  return 0;
}

/* core.leave(status): ends the process now.  Not exit(): libuv would join its
 * pool, where a request may be stuck; and other threads go on, so that what one
 * of them reads or writes cannot be flushed. */
static int l_leave(lua_State *L)
{
  int status = (int)luaL_checkinteger(L, 1);

  if (!ftrylockfile(stdout))
    fflush(stdout);
  _exit(status);
}

static const luaL_Reg functions[] = {
  { "budget", l_budget },
  { "cpus", l_cpus },
  { "isatty", l_isatty },
  { "leave", l_leave },
  { "log", l_log },
  { "log_level", l_log_level },
  { "memory", l_memory },
  { "raise_nofile", l_raise_nofile },
  { "sd_notify", l_sd_notify },
  { "strerror", l_strerror },
  { NULL, NULL }
};

void bind_system(lua_State *L)
{
  luaL_setfuncs(L, functions, 0);
}
