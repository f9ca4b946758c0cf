--- EXTENDED COPY and RECEIVE COPY RESULTS (SPC-4 6.4, 6.17 to 6.25).
--
-- Copies between ranges of blocks of this device and of other disks of the
-- process, see tcmu.copy_end.  Tokens for what is to be copied: tcmu.rod.

local copy_end = require "tcmu.copy_end"
local copy_list = require "tcmu.copy_list"
local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local records = require "tcmu.copy_records"
local sense = require "tcmu.sense"

local copy = {}

local COPY_ABORTED <const> = 0x0A
local ABORTED <const> = sense.new(COPY_ABORTED, 0, 0)
local INEXACT <const> = sense.new(COPY_ABORTED, 0x26, 0x0A)
local WRITE_REFUSED <const> = sense.constant.THIRD_PARTY_DEVICE_FAILURE
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local LID1 <const>, LID4 <const> = records.LID1, records.LID4

-- Copying ---------------------------------------------------------------------

-- A failure of a segment: its number in the first bytes of COMMAND-SPECIFIC
-- INFORMATION, its place by a field pointer (SPC-4 6.4.7).
local function located(number, segment, value)
  return value:specific(number - 1):at_param(segment.at)
end

-- The ends that target descriptors name, by their numbers; and for those that
-- cannot be reached, why.
local function find_ends(self, dev, targets)
  local ends, reasons, known = {}, {}, {}
  for i, target in ipairs(targets) do
    local found, why = copy_end.find(self, dev, target, known)
    if found and found.block_size ~= target.block_size then
      error(BAD_FIELD:at_param(target.block_size_at))
    end
    ends[i - 1], reasons[i - 1] = found, why
  end
  return ends, reasons
end

-- The bytes of a segment, which counts blocks of its source or, with DC, of its
-- destination (SPC-4 table 139).
local function length_of(segment, source, destination)
  local unit <const> = segment.by_destination and destination or source
  return segment.blocks * unit.block_size
end

-- Why a segment cannot be copied, or nil.
local function obstacle(segment, ends, reasons)
  local source, destination = ends[segment.from], ends[segment.to]
  if not source or not destination then
    return reasons[segment.from] or reasons[segment.to]
           or sense.constant.COPY_TARGET_DEVICE_NOT_REACHABLE
  end
  if not destination.writable then return WRITE_REFUSED end
  local length <const> = length_of(segment, source, destination)
  for _, place in ipairs { { source, segment.source },
                           { destination, segment.destination } } do
    local side, lba = place[1], place[2]
    if length % side.block_size ~= 0 then return INEXACT end
    if not pcall(extent.check, side, lba, length // side.block_size) then
      return ABORTED
    end
  end
end

-- Nothing is copied unless all can be.
local function check(dev, request, ends, reasons)
  for number, segment in ipairs(request.segments) do
    local value = obstacle(segment, ends, reasons)
    if value then error(located(number, segment, value)) end
    if ends[segment.to].dev then extent.check_writable(dev) end
  end
end

local function move(segment, ends)
  local source, destination = ends[segment.from], ends[segment.to]
  local length <const> = length_of(segment, source, destination)
  copy_end.move(source, destination, segment.source * source.block_size,
                segment.destination * destination.block_size, length)
  return length
end

local function do_segments(record, dev, request, ends)
  for number, segment in ipairs(request.segments) do
    records.go_on(record, dev)
    record.segments = number
    local ok, result = pcall(move, segment, ends)
    if not ok then
      if not sense.is(result) then
        core.log("error", dev.hba .. "/" .. dev.name, tostring(result))
        result = ABORTED
      end
      if result.key == COPY_ABORTED then
        result = located(number, segment, result)
      end
      error(result, 0)
    end
    record.bytes = record.bytes + result
  end
end

local function extended_copy(self, cmd, layout, action)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  local request = copy_list.read(list, action == LID4)
  if request.keep then records.forget(dev, request.id) end
  local ends, reasons = find_ends(self, dev, request.targets)
  local record = records.enter(dev, action, request.id, request.keep)
  record.background = request.immed
  local can, why = pcall(check, dev, request, ends, reasons)
  if not can then
    records.perform(record, function() error(why, 0) end)
  elseif request.immed then
    -- What goes wrong then is for RECEIVE COPY STATUS.
    core.background(pcall, records.perform, record, do_segments, dev, request,
                    ends)
  else
    records.perform(record, do_segments, dev, request, ends)
  end
end

--- EXTENDED COPY (LID1).
function copy.lid1(self, cmd, layout)
  extended_copy(self, cmd, layout, LID1)
end

--- EXTENDED COPY (LID4): the same with longer list identifiers and IMMED.
function copy.lid4(self, cmd, layout)
  extended_copy(self, cmd, layout, LID4)
end

-- Results ---------------------------------------------------------------------

-- The record that is asked for, if it is `good`; else there is none.
local function asked(cmd, layout, good)
  local id = guard.field(cmd, layout, "list_identifier")
  local record = records.find(cmd.dev, id)
  if not record or not good(record) then
    guard.refuse(layout, "list_identifier")
  end
  return record
end

local function any() return true end
local function runs(record) return not record.ended end
local function untold(record) return not record.told end
local function ended(record) return record.action == LID1 and record.ended end

--- RECEIVE COPY STATUS (LID1): SPC-4 table 238.  Of a copy that has ended it is
-- told once.
function copy.status_lid1(_, cmd, layout)
  local record = asked(cmd, layout, untold)
  record.told = record.ended
  local count, unit = record.bytes, 0
  while count >> (10 * unit) > 0xFFFFFFFF do unit = unit + 1 end
  return string.pack(">I4BI2BI4", 8, record.status, record.segments, unit,
                     count >> (10 * unit))
end

--- RECEIVE COPY STATUS (LID4): SPC-4 table 240.
function copy.status_lid4(_, cmd, layout)
  local record = asked(cmd, layout, any)
  return string.pack(">s4", records.describe(record, cmd.dev))
end

--- RECEIVE COPY FAILURE DETAILS (LID1): SPC-4 table 237.  There are none of a
-- copy that has not failed, and they are told once.
function copy.failure_details_lid1(_, cmd, layout)
  local dev <const> = cmd.dev
  local record = asked(cmd, layout, ended)
  records.forget(dev, record.id)
  if record.status == records.GOOD then return string.pack(">I4", 0) end
  local status, text = records.verdict(record, dev.descriptor_sense)
  return string.pack(">s4", string.pack(">c52Bxs2", ("\0"):rep(52), status,
                                        text))
end

--- COPY OPERATION ABORT: waits until nothing is moved any more (SPC-4
-- 5.17.4.7).
function copy.abort(_, cmd, layout) records.abort(asked(cmd, layout, runs)) end

--- RECEIVE COPY OPERATING PARAMETERS: SPC-4 table 236.
function copy.operating_parameters(_, cmd)
  local most <const> = copy_list.limits
  local dev <const> = cmd.dev
  return string.pack(">s4", string.pack(">BxxxI2I2I4I4I4I4I4xxI2BBBBxxxs1",
    1,                              -- SNLID: LIST ID USAGE may be 11b
    most.targets, most.segments, most.descriptors,
    most.segment_blocks * dev.block_size, 0, -- of a segment, of inline data
    0, 0,                           -- held data, stream transfers
    records.most, records.most,     -- copies at the same time
    math.tointeger(math.log(dev.block_size, 2)), 0, 0, -- granularities
    string.char(table.unpack(copy_list.types))))
end

return copy
