/* netlink.c - generic netlink family TCM-USER, over libnl-genl.
 *
 * Two sockets: events come on one that never blocks; requests go out on the
 * other and wait for their acknowledgement, which the kernel has queued by
 * the time the send returns.  So an event never sits between a request and
 * its answer.
 */
#include "netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#define FAMILY "TCM-USER"
#define GROUP "config"
#define VERSION 2

/* Room for a burst of events while control is busy, in bytes. */
#define RECEIVE_BUFFER (1 << 20)

/* Own definitions: linux/target_core_user.h does not get on with libc's
 * struct iovec.  DONE of an event is the event's number plus 3. */
enum { DONE = 3, SET_FEATURES = 7 };

enum attribute {
  A_DEVICE = 1,
  A_MINOR,
  A_PAD,
  A_CONFIG,
  A_SIZE,
  A_WRITE_CACHE,
  A_STATUS,
  A_DEVICE_ID,
  A_REPLIES,
  A_LAST = A_REPLIES,
};

static struct nla_policy policy[A_LAST + 1] = {
  [A_DEVICE] = { .type = NLA_STRING },
  [A_MINOR] = { .type = NLA_U32 },
  [A_CONFIG] = { .type = NLA_STRING },
  [A_SIZE] = { .type = NLA_U64 },
  [A_WRITE_CACHE] = { .type = NLA_U8 },
  [A_DEVICE_ID] = { .type = NLA_U32 },
};

struct netlink {
  struct nl_sock *events, *requests;
  int family, group;
  int error;                    /* the last request's, as an errno */
};

/* libnl folds errnos into fewer codes of its own: keep the kernel's. */
static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
  struct netlink *nl = arg;

  (void)from;
  nl->error = e->error;
  return -NLE_FAILURE;
}

static struct nl_sock *connect_socket(void)
{
  struct nl_sock *sk = nl_socket_alloc();
  int fd;

  if (!sk)
    return NULL;
  if (genl_connect(sk) < 0) {
    nl_socket_free(sk);
    return NULL;
  }

  fd = nl_socket_get_fd(sk);
  fcntl(fd, F_SETFD, fcntl(fd, F_GETFD) | FD_CLOEXEC);
  return sk;
}

static int no_sockets(const char **why)
{
  *why = "generic netlink sockets cannot be opened: is this a sandbox that "
         "forbids AF_NETLINK?";
  return -EPROTONOSUPPORT;
}

static int join(struct netlink *nl, const char **why)
{
  nl->family = genl_ctrl_resolve(nl->requests, FAMILY);
  if (nl->family < 0) {
    *why = "the kernel has no netlink family " FAMILY ": type "
           "'modprobe target_core_user'";
    return -ENOENT;
  }
  nl->group = genl_ctrl_resolve_grp(nl->requests, FAMILY, GROUP);
  if (nl->group < 0) {
    *why = "the kernel's family " FAMILY " has no group '" GROUP "': this "
           "kernel's target_core_user is too old";
    return -ENOENT;
  }
  if (nl_socket_add_membership(nl->events, nl->group) < 0) {
    *why = "joining the netlink group '" GROUP "' was refused: run as root, "
           "or with CAP_NET_ADMIN";
    return -EPERM;
  }
  return 0;
}

int netlink_open(struct netlink **out, const char **why)
{
  struct netlink *nl;
  int rc;

  *out = NULL;
  *why = "no memory";
  nl = calloc(1, sizeof(*nl));
  if (!nl)
    return -ENOMEM;

  nl->events = connect_socket();
  nl->requests = connect_socket();
  rc = nl->events && nl->requests ? join(nl, why) : no_sockets(why);
  if (rc < 0) {
    netlink_close(nl);
    return rc;
  }

  nl_socket_set_nonblocking(nl->events);
  nl_socket_set_buffer_size(nl->events, RECEIVE_BUFFER, 0);
  nl_socket_modify_err_cb(nl->requests, NL_CB_CUSTOM, on_error, nl);
  *out = nl;
  return 0;
}

void netlink_close(struct netlink *nl)
{
  if (!nl)
    return;
  nl_socket_free(nl->events);
  nl_socket_free(nl->requests);
  free(nl);
}

int netlink_fd(const struct netlink *nl)
{
  return nl_socket_get_fd(nl->events);
}

int netlink_group(const struct netlink *nl)
{
  return nl->group;
}

/* False for what is not an event that this program knows. */
static bool read_event(struct netlink *nl, struct nlmsghdr *msg,
                       struct netlink_event *e)
{
  struct nlattr *tb[A_LAST + 1];
  int command;

  if (msg->nlmsg_type != nl->family || !genlmsg_valid_hdr(msg, 0) ||
      genlmsg_parse(msg, 0, tb, A_LAST, policy) < 0)
    return false;
  command = genlmsg_hdr(msg)->cmd;
  if (command < NETLINK_ADDED || command > NETLINK_RECONFIG ||
      !tb[A_DEVICE] || !tb[A_MINOR] || !tb[A_DEVICE_ID])
    return false;

  *e = (struct netlink_event){
    .command = (enum netlink_command)command,
    .minor = nla_get_u32(tb[A_MINOR]),
    .device_id = nla_get_u32(tb[A_DEVICE_ID]),
  };
  nla_strlcpy(e->device, tb[A_DEVICE], sizeof(e->device));
  if (command != NETLINK_RECONFIG)
    return true;

  if (tb[A_CONFIG]) {
    e->change = NETLINK_CONFIG;
    nla_strlcpy(e->config, tb[A_CONFIG], sizeof(e->config));
  } else if (tb[A_SIZE]) {
    e->change = NETLINK_SIZE;
    e->size = nla_get_u64(tb[A_SIZE]);
  } else if (tb[A_WRITE_CACHE]) {
    e->change = NETLINK_WRITE_CACHE;
    e->write_cache = nla_get_u8(tb[A_WRITE_CACHE]) != 0;
  }
  return true;
}

int netlink_next(struct netlink *nl, struct netlink_event *out)
{
  /* An event is two names and a few numbers; the kernel sends one message
   * per datagram. */
  union {
    struct nlmsghdr msg;
    char bytes[8192];
  } in;
  struct sockaddr_nl from;
  socklen_t fromlen;
  ssize_t n;

  for (;;) {
    fromlen = sizeof(from);
    n = recvfrom(netlink_fd(nl), &in, sizeof(in), 0, (struct sockaddr *)&from,
                 &fromlen);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return errno == EAGAIN ? 0 : -errno;
    if (from.nl_pid == 0 && nlmsg_ok(&in.msg, (int)n) &&
        read_event(nl, &in.msg, out))
      return 1;
  }
}

static struct nl_msg *request(struct netlink *nl, int command)
{
  struct nl_msg *msg = nlmsg_alloc();

  if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, nl->family, 0, 0,
                          (uint8_t)command, VERSION)) {
    nlmsg_free(msg);
    return NULL;
  }
  return msg;
}

/* Sends, frees and waits for the acknowledgement. */
static int send_request(struct netlink *nl, struct nl_msg *msg)
{
  int rc;

  nl->error = 0;
  rc = nl_send_sync(nl->requests, msg);
  if (rc >= 0)
    return 0;
  return nl->error < 0 ? nl->error : -EIO;
}

int netlink_done(struct netlink *nl, enum netlink_command command,
                 uint32_t device_id, int status)
{
  struct nl_msg *msg = request(nl, command + DONE);

  if (!msg)
    return -ENOMEM;
  if (nla_put_u32(msg, A_DEVICE_ID, device_id) < 0 ||
      nla_put_s32(msg, A_STATUS, status) < 0) {
    nlmsg_free(msg);
    return -ENOMEM;
  }
  return send_request(nl, msg);
}

int netlink_set_features(struct netlink *nl, bool replies)
{
  struct nl_msg *msg = request(nl, SET_FEATURES);

  if (!msg)
    return -ENOMEM;
  if (nla_put_u8(msg, A_REPLIES, replies) < 0) {
    nlmsg_free(msg);
    return -ENOMEM;
  }
  return send_request(nl, msg);
}
