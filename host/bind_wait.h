/* bind_wait.h - the range locks that Lua code has taken. */
#ifndef BIND_WAIT_H
#define BIND_WAIT_H

struct device;

/* Gives back what `owner` (a command, or a task of none) has not given back
 * itself; NULL: whoever holds or awaits one. */
void wait_release_locks(struct device *d, const void *owner);

#endif
