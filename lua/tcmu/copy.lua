--- EXTENDED COPY and RECEIVE COPY RESULTS (SPC-4 6.4, 6.17 to 6.25).
--
-- Copies between ranges of blocks of this device; how a copy ended is kept
-- until somebody has asked.  Lists of all initiators are in one pot, since a
-- ring entry names none of them; and since a device is not told either when an
-- initiator is gone, which would end the keeping, nothing is kept for long.

local copy_list = require "tcmu.copy_list"
local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local sense = require "tcmu.sense"
local vpd = require "tcmu.vpd"

local copy = {}

local COPY_ABORTED <const> = 0x0A
local UNREACHABLE <const> = sense.constant.COPY_TARGET_DEVICE_NOT_REACHABLE
-- ILLEGAL REQUEST with OPERATION IN PROGRESS: the list identifier is in use.
local IN_USE <const> = sense.new(0x05, 0x00, 0x16)
local IN_PROGRESS <const>, GOOD <const>, BAD <const> = 0, 1, 2
local KEPT_SECONDS <const> = 30
local IN_BACKGROUND <const> = 0x11
local CHECK_CONDITION <const> = 0x02

-- Copying ---------------------------------------------------------------------

-- True if the designator is one of the device's own, in page 83h.
local function is_this(dev, target)
  local page = vpd.body(dev, 0x83) or ""
  local at = 1
  while at + 3 <= #page do
    local code_set, kind, name = string.unpack(">BBxs1", page, at)
    if code_set == target.code_set and kind & 0x3F == target.kind
       and name == target.name then
      return true
    end
    at = at + 4 + #name
  end
  return false
end

-- A failure of a segment: its number in the first bytes of COMMAND-SPECIFIC
-- INFORMATION, its place by a field pointer (SPC-4 6.4.7).
local function abort(number, segment, code)
  local value = code or sense.new(COPY_ABORTED, 0, 0)
  error(value:specific(number):at_param(segment.at))
end

local function check(dev, request)
  local mine = {}
  for i, target in ipairs(request.targets) do
    mine[i - 1] = is_this(dev, target)
  end
  for number, segment in ipairs(request.segments) do
    if not mine[segment.from] or not mine[segment.to] then
      abort(number - 1, segment, UNREACHABLE)
    end
    for _, lba in ipairs { segment.source, segment.destination } do
      if not pcall(extent.check, dev, lba, segment.blocks) then
        abort(number - 1, segment)
      end
    end
  end
end

-- One range over another of the same device; where they overlap from the end
-- that does not harm what is still to be read.
local function move(self, dev, segment)
  local size <const> = dev.block_size
  local length <const> = segment.blocks * size
  local from <const>, to <const> = segment.source * size,
                                   segment.destination * size
  local _ <close> = core.lock(self, to, length)
  local parts = {}
  for at, n in extent.chunks(dev, 0, length) do
    parts[#parts + 1] = { at, n }
  end
  local first, last, step = 1, #parts, 1
  if to > from then first, last, step = #parts, 1, -1 end
  for i = first, last, step do
    local at, n = parts[i][1], parts[i][2]
    local buffer = core.buffer(n)
    dev:read(buffer, from + at)
    dev:write(buffer, to + at, false)
  end
end

local function do_segments(self, dev, request, record)
  for number, segment in ipairs(request.segments) do
    local ok, why = pcall(move, self, dev, segment)
    if not ok then
      record.failure = why
      if sense.is(why) then error(why) end
      core.log("error", dev.hba .. "/" .. dev.name, tostring(why))
      abort(number - 1, segment)
    end
    record.segments = number
    record.blocks = record.blocks + segment.blocks
  end
end

local function perform(self, dev, request, record)
  local ok, why = pcall(do_segments, self, dev, request, record)
  record.status = ok and GOOD or BAD
  record.ended = os.time()
  if not ok then error(why, 0) end
end

-- Forgets what has ended a while ago.
local function tidy(copies)
  for i = #copies, 1, -1 do
    local ended = copies[i].ended
    if ended and os.time() - ended > KEPT_SECONDS then
      table.remove(copies, i)
    end
  end
end

local function find(dev, id)
  local copies = dev.copies or {}
  tidy(copies)
  for i, record in ipairs(copies) do
    if record.id == id then return record, i end
  end
end

-- A record of the copy; the oldest that has ended makes room.
local function enter(dev, request)
  local record = { id = request.id, status = IN_PROGRESS, segments = 0,
                   blocks = 0 }
  if not request.keep then return record end
  local copies = dev.copies or {}
  dev.copies = copies
  local old, i = find(dev, request.id)
  if old and old.status == IN_PROGRESS then
    error(IN_USE)
  end
  if old then table.remove(copies, i) end
  if #copies >= copy_list.limits.copies then table.remove(copies, 1) end
  copies[#copies + 1] = record
  return record
end

local function extended_copy(self, cmd, layout, long)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  local request = copy_list.read(dev, list, long)
  check(dev, request)
  if #request.segments > 0 then extent.check_writable(dev) end
  local record = enter(dev, request)
  if request.immed then
    core.spawn(perform, self, dev, request, record)
  else
    perform(self, dev, request, record)
  end
end

--- EXTENDED COPY (LID1).
function copy.lid1(self, cmd, layout)
  extended_copy(self, cmd, layout, false)
end

--- EXTENDED COPY (LID4): the same with longer list identifiers and IMMED.
function copy.lid4(self, cmd, layout)
  extended_copy(self, cmd, layout, true)
end

-- Results ---------------------------------------------------------------------

-- The record that is asked for; one that has ended is forgotten with it.
local function asked(cmd, layout)
  local id = guard.field(cmd, layout, "list_identifier")
  local record, i = find(cmd.dev, id)
  if not record then guard.refuse(layout, "list_identifier") end
  if record.status ~= IN_PROGRESS then table.remove(cmd.dev.copies, i) end
  return record
end

--- RECEIVE COPY STATUS (LID1): SPC-4 table 238.  Counts are in blocks.
function copy.status_lid1(_, cmd, layout)
  local record = asked(cmd, layout)
  local count, unit = record.blocks * cmd.dev.block_size, 0
  while count >> (10 * unit) > 0xFFFFFFFF do unit = unit + 1 end
  return string.pack(">I4BI2BI4", 8, record.status, record.segments, unit,
                     count >> (10 * unit))
end

--- RECEIVE COPY STATUS (LID4): SPC-4 table 240; the transfer count is in bytes.
function copy.status_lid4(_, cmd, layout)
  local record = asked(cmd, layout)
  local running <const> = record.status == IN_PROGRESS
  local text = sense.is(record.failure) and sense.encode(record.failure, true)
               or ""
  return string.pack(">I4BBI2I4BBBBI8I2c6", 28 + #text,
    1,                              -- EXTENDED COPY (LID4) it was
    running and IN_BACKGROUND or record.status,
    0, 0,
    record.status == BAD and CHECK_CONDITION or 0,
    #text, #text, 0,
    record.blocks * cmd.dev.block_size, record.segments,
    ("\0"):rep(6)) .. text
end

--- RECEIVE COPY OPERATING PARAMETERS: SPC-4 table 236.
function copy.operating_parameters(_, cmd)
  local most <const> = copy_list.limits
  local dev <const> = cmd.dev
  return string.pack(">s4", string.pack(">BxxxI2I2I4I4I4I4I4xxI2BBBBxxxs1",
    0,                              -- SNLID
    most.targets, most.segments, most.descriptors,
    most.segment_blocks * dev.block_size, 0, -- of a segment, of inline data
    0, 0,                           -- held data, stream transfers
    most.copies, most.copies,                    -- copies at the same time
    math.tointeger(math.log(dev.block_size, 2)), 0, 0, -- granularities
    string.char(table.unpack(copy_list.types))))
end

return copy
