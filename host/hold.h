/* hold.h - a device between two commands.
 *
 * While a device is held, commands that come are taken from the ring but do
 * not begin, nor do requests of other devices (peer.h); what came before goes
 * on, and what the host does behind a command (core.background).  Once that is
 * over nothing of the handler runs but the task that holds the device, and what
 * tcmu.spawn has started.  What is held can be aborted and
 * runs out of time as ever.
 */
#ifndef HOLD_H
#define HOLD_H

#include <stdbool.h>

struct device;
struct task;

/* Holds the device.  True if nothing is at work; if not, `t`, which waits, is
 * woken when that is so. */
bool hold_begin(struct device *d, struct task *t);

/* `t` waits no longer; the device stays held. */
void hold_forget(struct device *d, struct task *t);

/* Lets what is held begin, commands in the order in which they came. */
void hold_end(struct device *d);

/* A command or an awaited task has ended. */
void hold_look(struct device *d);

#endif
