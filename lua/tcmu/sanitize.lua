--- SANITIZE and FORMAT UNIT (SBC-3 4.11, 5.3, 5.24).
--
-- What is checked before they start, and what they do to the medium; how they
-- run is in tcmu.operation.

local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local operation = require "tcmu.operation"
local sense = require "tcmu.sense"

local sanitize = {}

local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR

-- After a SANITIZE that failed without AUSE, the next may not bring it in
-- (SBC-3 5.24.1).
local function check_ause(cmd, layout)
  local late <const> = operation.restricted(cmd.dev)
  if late and guard.field(cmd, layout, "ause") == 1 then
    guard.refuse(layout, "ause")
  end
end

-- A pattern of any length up to a block, repeated to fill one.
local function block_of(dev, pattern)
  local times = (dev.block_size + #pattern - 1) // #pattern
  return pattern:rep(times):sub(1, dev.block_size)
end

local function run(self, cmd, layout, job)
  job.kind, job.ause = "sanitize", guard.field(cmd, layout, "ause")
  operation.run(self, cmd.dev, job, guard.field(cmd, layout, "immed") == 1)
end

--- SANITIZE - OVERWRITE: INVERT, OVERWRITE COUNT and the initialization
-- pattern (SBC-3 table 102).
function sanitize.overwrite(self, cmd, layout)
  local dev <const> = cmd.dev
  check_ause(cmd, layout)
  local length <const> = guard.field(cmd, layout, "parameter_list_length")
  if length <= 4 or length > dev.block_size + 4 then
    guard.refuse(layout, "parameter_list_length")
  end
  local list = guard.parameters(cmd, layout)
  local flags, size = string.unpack(">BxI2", list)
  local passes = flags & 0x1F
  if flags & 0x60 ~= 0 then error(BAD_FIELD:at_param(0, 6)) end
  if passes == 0 then error(BAD_FIELD:at_param(0, 4)) end
  if size == 0 or size > dev.block_size or size > #list - 4 then
    error(BAD_FIELD:at_param(2))
  end
  extent.check_writable(dev)
  run(self, cmd, layout, {
    how = "overwrite", pattern = block_of(dev, list:sub(5, 4 + size)),
    passes = passes, invert = flags >> 7,
  })
end

local function no_parameters(cmd, layout)
  if guard.field(cmd, layout, "parameter_list_length") ~= 0 then
    guard.refuse(layout, "parameter_list_length")
  end
end

--- SANITIZE - BLOCK ERASE.
function sanitize.block_erase(self, cmd, layout)
  check_ause(cmd, layout)
  no_parameters(cmd, layout)
  extent.check_writable(cmd.dev)
  run(self, cmd, layout, { how = "erase" })
end

--- SANITIZE - EXIT FAILURE MODE: only if the SANITIZE that failed had AUSE.
function sanitize.exit_failure_mode(self, cmd, layout)
  no_parameters(cmd, layout)
  if not operation.forgive(self, cmd.dev) then
    guard.refuse(layout, "service_action")
  end
end

-- FORMAT UNIT ---------------------------------------------------------------

local IMMED <const>, IP <const>, FOV <const> = 0x02, 0x08, 0x80
local NO_FORMAT <const> = 7         -- DEFECT LIST FORMAT 111b

-- What the parameter list asks for: the pattern (nil: ours) and IMMED.
local function format_parameters(dev, list, long)
  local header <const> = long and 8 or 4
  if #list < header then error(BAD_LENGTH) end
  if list:byte(1) ~= 0 then error(BAD_FIELD:at_param(0)) end
  local flags = list:byte(2)
  -- Options mean something with FOV only; of them a device without defects
  -- has nothing to do for DPRY, DCRT and STPF.
  if flags & FOV == 0 and flags & ~IMMED ~= 0 then
    error(BAD_FIELD:at_param(1, 6))
  end
  if flags & 0x05 ~= 0 then error(BAD_FIELD:at_param(1, 2)) end
  local defects = string.unpack(long and ">I4" or ">I2", list,
                                long and 5 or 3)
  if long and list:byte(4) ~= 0 then error(BAD_FIELD:at_param(3)) end
  if defects ~= 0 then error(BAD_FIELD:at_param(long and 4 or 2)) end
  local immed <const> = flags & IMMED ~= 0
  if flags & IP == 0 then return nil, immed end

  if #list < header + 4 then error(BAD_LENGTH) end
  local modifier, kind, size = string.unpack(">BBI2", list, header + 1)
  if modifier & ~0x20 ~= 0 then error(BAD_FIELD:at_param(header, 7)) end
  if kind > 1 then error(BAD_FIELD:at_param(header + 1)) end
  if kind == 0 then return nil, immed end
  if size == 0 or size > dev.block_size or size > #list - header - 4 then
    error(BAD_FIELD:at_param(header + 2))
  end
  return list:sub(header + 5, header + 4 + size), immed
end

--- FORMAT UNIT: every block reads as zeroes afterwards, or as the
-- initialization pattern.
function sanitize.format_unit(self, cmd, layout)
  local dev <const> = cmd.dev
  local format <const> = guard.field(cmd, layout, "defect_list_format")
  local pattern, immed
  -- Without a list LONGLIST and CMPLST are ignored, and the format is 000b
  -- (SBC-3 5.3.1); none of the formats is 111b.
  if guard.field(cmd, layout, "fmtdata") == 0 then
    if format ~= 0 then guard.refuse(layout, "defect_list_format") end
  else
    if format == NO_FORMAT then guard.refuse(layout, "defect_list_format") end
    pattern, immed = format_parameters(dev, cmd.data:get(),
      guard.field(cmd, layout, "longlist") == 1)
  end
  extent.check_writable(dev)
  local job = { kind = "format", how = "erase" }
  if pattern then
    job.how, job.pattern = "overwrite", block_of(dev, pattern)
    job.passes, job.invert = 1, 0
  end
  operation.run(self, dev, job, immed)
end

return sanitize
