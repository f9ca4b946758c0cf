/* bind_cmd.h - a SCSI command as Lua sees it. */
#ifndef BIND_CMD_H
#define BIND_CMD_H

#include <lua.h>

struct cmd;

/* Pushes the Lua object of a command; it is made once per slot and reused. */
void cmd_push(lua_State *L, struct cmd *c);

/* Lets go of it, before the slot is freed. */
void cmd_ud_free(lua_State *L, struct cmd *c);

#endif
