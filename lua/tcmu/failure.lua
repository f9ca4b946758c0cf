--- What becomes of an error: sense for the initiator, a line in the log, one
--- sentence for control.
--
-- C calls these under pcall; none may wait.

local core = require "tcmu.core"
local sense = require "tcmu.sense"

local failure = {}

local EINVAL <const> = 22
local LOG_BYTES <const> = 8192      -- of what a handler has raised

local function is_io_error(err)
  return getmetatable(err) == core.io_error
end

local function log(dev, text)
  if #text > LOG_BYTES then text = text:sub(1, LOG_BYTES) .. " ..." end
  core.log("error", dev.hba .. "/" .. dev.name, text)
end

--- The sense value for what was raised.  What is none is logged: an I/O error
-- with what it says, anything else as the text that what(err) gives.
function failure.value(dev, err, what)
  if is_io_error(err) then
    log(dev, err.message)
    return sense.from_errno(err.errno, err.verb ~= "read")
  end
  if sense.is(err) then return err end
  log(dev, what(err))
  return sense.constant.INTERNAL_TARGET_FAILURE
end

--- Status byte and sense bytes for what a command raised.
function failure.command(dev, err, traceback, bytes)
  local value <const> = failure.value(dev, err, function()
    return ("in command %02Xh: %s"):format(bytes:byte(1),
                                           traceback or tostring(err))
  end)
  if value.status ~= 0x02 then return value.status end
  return value.status, sense.encode(value, dev.descriptor_sense)
end

--- The same for an errno of a store that C has met.
function failure.store(dev, errno, is_write)
  log(dev, ("%s failed: %s"):format(is_write and "a write" or "I/O",
                                    core.strerror(errno)))
  local value = sense.from_errno(errno, is_write)
  if value.status ~= 0x02 then return value.status end
  return value.status, sense.encode(value, dev.descriptor_sense)
end

--- One sentence and an errno for what open or a change raised.
function failure.reason(err, traceback)
  if is_io_error(err) then return err.message, err.errno end
  if type(err) == "string" then
    -- "file.lua:12: text": a bug has its place in the log, a refusal a text.
    core.log("debug", nil, traceback or err)
    return err, EINVAL
  end
  if sense.is(err) then return sense.describe(err), EINVAL end
  return traceback or tostring(err), EINVAL
end

return failure
