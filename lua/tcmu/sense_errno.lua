--- What an operating system error means in SCSI: data, no logic.
--
-- Each line: errno name, number on Linux (the generic numbers, which every
-- architecture with LIO modules in Debian uses), what a failed read becomes and
-- what a failed write becomes.  A name stands for a constant of tcmu.scsi or,
-- after "status.", for a status.  Chosen so that what will not get better is
-- not retried by the initiator, and what will is.

local BUSY <const> = "status.BUSY"
local FULL <const> = "SPACE_ALLOCATION_FAILED_WRITE_PROTECT"
local PROTECTED <const> = "WRITE_PROTECTED"
local READ <const> = "UNRECOVERED_READ_ERROR"
local WRITE <const> = "WRITE_ERROR"
local GONE <const> = "LOGICAL_UNIT_COMMUNICATION_FAILURE"
local SLOW <const> = "LOGICAL_UNIT_COMMUNICATION_TIME_OUT"
local BUG <const> = "INTERNAL_TARGET_FAILURE"

return {
  -- The back end has no room: told as the standard tells it (SBC-3 4.7.3.6), so
  -- that the initiator stops instead of trying again.
  { "ENOSPC", 28, READ, FULL },
  { "EDQUOT", 122, READ, FULL },
  { "EFBIG", 27, READ, FULL },

  { "EROFS", 30, READ, PROTECTED },
  { "EPERM", 1, READ, PROTECTED },
  { "EACCES", 13, READ, PROTECTED },

  -- The medium.
  { "EIO", 5, READ, WRITE },
  { "ENODATA", 61, READ, WRITE },
  { "EBADMSG", 74, READ, WRITE },
  { "EILSEQ", 84, READ, WRITE },
  { "EREMOTEIO", 121, READ, WRITE },

  -- Not now: the initiator tries again by itself.
  { "ENOMEM", 12, BUSY, BUSY },
  { "EAGAIN", 11, BUSY, BUSY },
  { "EBUSY", 16, BUSY, BUSY },
  { "EINTR", 4, BUSY, BUSY },
  { "EMFILE", 24, BUSY, BUSY },
  { "ENFILE", 23, BUSY, BUSY },
  { "ENOBUFS", 105, BUSY, BUSY },
  { "ECANCELED", 125, "status.TASK_ABORTED", "status.TASK_ABORTED" },

  -- What is behind us has gone.
  { "ENXIO", 6, GONE, GONE },
  { "ENODEV", 19, GONE, GONE },
  { "EPIPE", 32, GONE, GONE },
  { "ENETDOWN", 100, GONE, GONE },
  { "ENETUNREACH", 101, GONE, GONE },
  { "ECONNABORTED", 103, GONE, GONE },
  { "ECONNRESET", 104, GONE, GONE },
  { "ENOTCONN", 107, GONE, GONE },
  { "ESHUTDOWN", 108, GONE, GONE },
  { "ECONNREFUSED", 111, GONE, GONE },
  { "EHOSTDOWN", 112, GONE, GONE },
  { "EHOSTUNREACH", 113, GONE, GONE },
  { "ESTALE", 116, GONE, GONE },
  { "ETIMEDOUT", 110, SLOW, SLOW },

  -- Nothing that an initiator could have caused.
  { "EBADF", 9, BUG, BUG },
  { "EFAULT", 14, BUG, BUG },
  { "EINVAL", 22, BUG, BUG },
  { "ENOSYS", 38, BUG, BUG },
  { "EOPNOTSUPP", 95, BUG, BUG },
}
