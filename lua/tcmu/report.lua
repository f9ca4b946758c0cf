--- Reports about the device as such: task management, clock, and the text that
--- an administrator has left with it (SPC-4 clause 6).

local guard = require "tcmu.guard"
local keep = require "tcmu.keep"
local sense = require "tcmu.sense"

local report = {}

-- Of all functions the kernel's core has ABORT TASK and LOGICAL UNIT RESET.
local ATS <const>, LURS <const> = 0x80, 0x08

--- REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, with REPD in the long form that
-- has no time-outs to tell (SPC-4 tables 278 and 279).
function report.task_management(_, cmd, layout)
  if guard.field(cmd, layout, "allocation_length") < 4 then
    guard.refuse(layout, "allocation_length")
  end
  if guard.field(cmd, layout, "repd") == 0 then
    return string.char(ATS | LURS, 0, 0, 0)
  end
  return string.char(ATS | LURS, 0, 0, 12) .. ("\0"):rep(12)
end

-- TIMESTAMP ORIGIN (SPC-4 table 68).
local BY_COMMAND <const>, OTHERWISE <const> = 2, 3

local function now() return os.time() * 1000 end

--- REPORT TIMESTAMP: milliseconds since 1970, by the host's clock unless SET
-- TIMESTAMP has said otherwise.
function report.timestamp(_, cmd)
  local shift <const> = cmd.dev.clock_shift
  return string.pack(">I2BxI6xx", 10, shift and BY_COMMAND or OTHERWISE,
                     now() + (shift or 0) & 0xFFFFFFFFFFFF)
end

--- SET TIMESTAMP: until the host restarts.
function report.set_timestamp(_, cmd, layout)
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  if #list < 12 then error(sense.constant.PARAMETER_LIST_LENGTH_ERROR) end
  if list:byte(5) > 0xF0 then           -- SPC-4 6.46
    error(sense.constant.INVALID_FIELD_IN_PARAMETER_LIST:at_param(4))
  end
  cmd.dev.clock_shift = string.unpack(">I6", list, 5) - now()
end

-- Information types and how long they may be (SPC-4 6.32).
local PLAIN <const>, TEXT <const>, SUPPORTED <const> = 0x00, 0x02, 0x7F
local MOST <const> = { [PLAIN] = 64, [TEXT] = 256 }

local function kept_as(kind) return ("identifying_%d"):format(kind) end

--- REPORT IDENTIFYING INFORMATION: what SET IDENTIFYING INFORMATION has left,
-- or which types there are.
function report.identifying(_, cmd, layout)
  local kind <const> = guard.field(cmd, layout, "information_type")
  if kind == SUPPORTED then
    local list = string.pack(">BxI2BxI2", PLAIN << 1, MOST[PLAIN],
                             TEXT << 1, MOST[TEXT])
    return string.pack(">xxs2", list)
  end
  if not MOST[kind] then guard.refuse(layout, "information_type") end
  local text = keep.read(cmd.dev)[kept_as(kind)] or ""
  return string.pack(">xxs2", text)
end

--- SET IDENTIFYING INFORMATION: survives restarts.  An empty list takes it
-- away.
function report.set_identifying(_, cmd, layout)
  local kind <const> = guard.field(cmd, layout, "information_type")
  if not MOST[kind] then guard.refuse(layout, "information_type") end
  if guard.field(cmd, layout, "parameter_list_length") > MOST[kind] then
    guard.refuse(layout, "parameter_list_length")
  end
  local text = guard.parameters(cmd, layout)
  -- Text is UTF-8 that ends with a zero (SPC-4 6.41).
  if kind == TEXT and text ~= ""
     and not (text:sub(-1) == "\0" and utf8.len(text)) then
    error(sense.constant.INVALID_FIELD_IN_PARAMETER_LIST)
  end
  keep.change(cmd.dev, { [kept_as(kind)] = text ~= "" and text or false })
end

return report
