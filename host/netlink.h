/* netlink.h - what the kernel says about TCMU devices, and what it is told.
 *
 * Generic netlink family TCM-USER: events arrive on the multicast group
 * "config"; every event of a device that is ours gets exactly one netlink_done()
 * with the event's own command.  (The kernel forgets a wrong one's waiter for
 * good, so guessing is worse than silence.)  One thread; only netlink_open()
 * and requests wait, and those for the kernel alone, which answers at once.
 */
#ifndef NETLINK_H
#define NETLINK_H

#include <stdbool.h>
#include <stdint.h>

struct netlink;

/* The numbers are the kernel's. */
enum netlink_command {
  NETLINK_ADDED = 1,
  NETLINK_REMOVED = 2,
  NETLINK_RECONFIG = 3,
};

/* What a NETLINK_RECONFIG changes; NETLINK_NOTHING for other commands. */
enum netlink_change {
  NETLINK_NOTHING,
  NETLINK_CONFIG,
  NETLINK_SIZE,
  NETLINK_WRITE_CACHE,
};

struct netlink_event {
  enum netlink_command command;
  enum netlink_change change;
  uint32_t minor;               /* of /dev/uioN */
  uint32_t device_id;           /* the kernel's; DONE is matched by it */
  uint64_t size;                /* bytes, NETLINK_SIZE */
  bool write_cache;             /* NETLINK_WRITE_CACHE */
  char device[1024];            /* the UIO name, "tcm-user/HBA/NAME/CONFIG" */
  char config[512];             /* NETLINK_CONFIG */
};

/* Resolves the family and joins the group.  Returns 0 or -errno; *why is then
 * a static sentence with what to do about it. */
int netlink_open(struct netlink **out, const char **why);

/* Harmless on NULL. */
void netlink_close(struct netlink *nl);

/* Readable when an event waits. */
int netlink_fd(const struct netlink *nl);

/* The number of the group "config"; bit (group - 1) of a listener's mask in
 * /proc/net/netlink, if at most 32. */
int netlink_group(const struct netlink *nl);

/* Takes one event.  Returns 1, or 0 when none waits, or -errno; -ENOBUFS says
 * that events were lost, and later calls go on with those that were not. */
int netlink_next(struct netlink *nl, struct netlink_event *out);

/* Answers an event: `status` is 0 or -errno and becomes the result of the
 * configfs write that waits.  -ENODEV: the kernel was not waiting. */
int netlink_done(struct netlink *nl, enum netlink_command command,
                 uint32_t device_id, int status);

/* Whether configfs writes wait for our answers: module-wide, and it outlives
 * this process. */
int netlink_set_features(struct netlink *nl, bool replies);

#endif
