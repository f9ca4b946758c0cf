/* hold.h - a device between two commands.
 *
 * While a device is held, commands that come are taken from the ring but do
 * not begin; those that came before go on.  Once they are over nothing of the
 * handler runs but the task that holds the device, and what tcmu.spawn has
 * started.  A held command can be aborted and runs out of time like any other.
 */
#ifndef HOLD_H
#define HOLD_H

#include <stdbool.h>

struct device;
struct task;

/* Holds the device.  True if no command is at work; if not, `t`, which waits,
 * is woken when that is so. */
bool hold_begin(struct device *d, struct task *t);

/* `t` waits no longer; the device stays held. */
void hold_forget(struct device *d, struct task *t);

/* Lets the commands begin, in the order in which they came. */
void hold_end(struct device *d);

/* A command has ended. */
void hold_look(struct device *d);

#endif
