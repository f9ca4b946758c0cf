/* bind_device.h - the handle by which Lua tells C about a device. */
#ifndef BIND_DEVICE_H
#define BIND_DEVICE_H

#include <lua.h>

struct device;

/* Pushes a new handle. */
void device_handle_push(lua_State *L, struct device *d);

/* The device is going: its handle raises from now on. */
void device_handle_revoke(struct device *d);

#endif
