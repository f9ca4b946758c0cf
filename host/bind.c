/* bind.c - the module tcmu.core, the same in the host and in core.so. */
#include "bind.h"

#include <lauxlib.h>

__attribute__((visibility("default")))
int luaopen_tcmu_core(lua_State *L)
{
  lua_newtable(L);
  bind_buffer(L);
  bind_cmd(L);
  bind_device(L);
  bind_names(L);
  bind_shards(L);
  bind_store(L);
  bind_system(L);
  bind_wait(L);
  bind_sim(L);
  lua_setfield(L, -2, "raw");
  bind_netlink(L);
  lua_setfield(L, -2, "netlink");
  bind_deputy(L);
  lua_setfield(L, -2, "deputy");
  bind_peer(L);
  lua_setfield(L, -2, "peer");
  bind_dbus(L);
  lua_setfield(L, -2, "dbus");
  return 1;
}
