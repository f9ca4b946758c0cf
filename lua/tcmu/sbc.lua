--- Commands of disks (SBC-3 clause 5).
--
-- The complete truth about READ, WRITE and their kin; the C path does the
-- plain cases of READ and WRITE the same way, faster.  Three lengths are kept
-- apart: what the CDB asks for, what the fabric has room for (#cmd.data) and
-- what the device allows.  A function gets the handler's `self`, the command
-- and its layout; the CDB has passed tcmu.guard.

local guard = require "tcmu.guard"
local limits = require "tcmu.limits"
local sense = require "tcmu.sense"

local sbc = {}

local OUT_OF_RANGE <const> = sense.constant.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
local WRITE_PROTECTED <const> = sense.constant.WRITE_PROTECTED
local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local CHUNK <const> = 1 << 20       -- bytes written at once by WRITE SAME

-- tcmu requires this module, so it is looked up when a command comes.
local function tcmu() return require "tcmu" end

-- Raises unless the blocks are on the medium; INFORMATION is the first that is
-- not (SBC-3 4.18).  Numbers are unsigned: an LBA may have 64 bits.
local function check_range(dev, lba, blocks)
  local capacity <const> = dev.size // dev.block_size
  if not math.ult(capacity, lba) and not math.ult(capacity - lba, blocks) then
    return
  end
  error(OUT_OF_RANGE:info(math.ult(lba, capacity) and capacity or lba))
end

local function check_writable(dev)
  if dev.read_only or not dev.can.write then error(WRITE_PROTECTED) end
end

-- The bytes that a READ or WRITE names: offset and length.
local function transfer(cmd, layout)
  local dev <const> = cmd.dev
  check_range(dev, cmd.lba, cmd.blocks)
  if cmd.blocks > limits.of(dev).transfer then
    guard.refuse(layout, layout.blocks.name)
  end
  return cmd.lba * dev.block_size, cmd.blocks * dev.block_size
end

--- READ (6), (10), (12), (16).  FUA: what is in the cache is on the medium
-- before it is read (SBC-3 4.15).
function sbc.read(_, cmd, layout)
  local dev <const>, data <const> = cmd.dev, cmd.data
  local offset, length = transfer(cmd, layout)
  if length == 0 then return "" end
  if guard.field(cmd, layout, "fua") == 1 and dev.can.flush
     and dev.write_cache then
    dev:flush(offset, length)
  end
  if #data == length then
    dev:read(data, offset)
    return nil
  end
  local whole = tcmu().buffer(length)
  dev:read(whole, offset)
  return whole
end

--- WRITE (6), (10), (12), (16).  Data-Out that is too short is refused before
-- anything is written; of what is too long the CDB's blocks count.
function sbc.write(_, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = transfer(cmd, layout)
  check_writable(dev)
  if length == 0 then return end
  local data = cmd.data
  if #data < length then guard.refuse(layout, layout.blocks.name) end
  if #data > length then
    local exact = tcmu().buffer(length)
    exact:copy(0, data, 0, length)
    data = exact
  end
  dev:write(data, offset, guard.field(cmd, layout, "fua") == 1)
end

--- SYNCHRONIZE CACHE (10) and (16): 0 blocks mean all that follow.  IMMED
-- allows an early answer and does not demand it.
function sbc.synchronize_cache(_, cmd)
  local dev <const> = cmd.dev
  check_range(dev, cmd.lba, cmd.blocks)
  local offset = cmd.lba * dev.block_size
  local length = cmd.blocks * dev.block_size
  if length == 0 then length = dev.size - offset end
  if length > 0 then dev:flush(offset, length) end
end

--- READ CAPACITY (10): FFFFFFFFh says "ask READ CAPACITY (16)".
function sbc.read_capacity_10(_, cmd)
  local dev <const> = cmd.dev
  local last <const> = dev.size // dev.block_size - 1
  return string.pack(">I4I4", math.min(last, 0xFFFFFFFF), dev.block_size)
end

--- READ CAPACITY (16): LBPME and LBPRZ where UNMAP is real.
function sbc.read_capacity_16(_, cmd)
  local dev <const> = cmd.dev
  return string.pack(">I8I4BBBBc16", dev.size // dev.block_size - 1,
                     dev.block_size, 0, 0, dev.can.unmap and 0xC0 or 0, 0,
                     ("\0"):rep(16))
end

--- START STOP UNIT: there is nothing to spin, so both are accepted; before a
-- stop the cache is written unless NO_FLUSH (SBC-3 5.25).
function sbc.start_stop_unit(_, cmd, layout)
  local dev <const> = cmd.dev
  if guard.field(cmd, layout, "start") == 0 and dev.can.flush
     and guard.field(cmd, layout, "no_flush") == 0 then
    dev:flush(0, dev.size)
  end
end

-- UNMAP ---------------------------------------------------------------------

-- The ranges of an UNMAP parameter list, all checked: { lba, blocks }.
local function unmap_ranges(dev, list)
  if #list < 8 then error(BAD_LENGTH) end
  local most <const> = limits.of(dev)
  local announced = string.unpack(">I2", list, 3)
  -- A descriptor that is cut off does not count (SBC-3 5.28.2).
  local count = math.min(announced, #list - 8) // 16
  if count > most.unmap_descriptors then error(BAD_FIELD:at_param(2)) end

  local ranges, total = {}, 0
  for i = 1, count do
    local at = 8 + (i - 1) * 16
    local lba, blocks = string.unpack(">I8I4", list, at + 1)
    check_range(dev, lba, blocks)
    total = total + blocks
    if total > most.unmap_blocks then error(BAD_FIELD:at_param(at + 8)) end
    if blocks > 0 then ranges[#ranges + 1] = { lba, blocks } end
  end
  return ranges
end

--- UNMAP: nothing is unmapped unless the whole list is right.
function sbc.unmap(self, cmd, layout)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  local ranges = unmap_ranges(dev, list)
  check_writable(dev)
  for _, range in ipairs(ranges) do
    local offset = range[1] * dev.block_size
    local length = range[2] * dev.block_size
    local _ <close> = tcmu().lock(self, offset, length)
    dev:unmap(offset, length)
  end
end

-- WRITE SAME ----------------------------------------------------------------

-- Writes `pattern`, one block, over the range, a chunk at a time.
local function write_pattern(dev, pattern, offset, length)
  local most = math.min(CHUNK, limits.of(dev).transfer * dev.block_size)
  local chunk = math.min(length, most - most % dev.block_size)
  local buffer = tcmu().buffer(chunk)
  buffer:put(0, pattern)
  local filled = #pattern
  while filled < chunk do
    local n = math.min(filled, chunk - filled)
    buffer:copy(filled, buffer, 0, n)
    filled = filled + n
  end
  local finish <const> = offset + length
  while offset < finish do
    if finish - offset < chunk then
      local rest = tcmu().buffer(finish - offset)
      rest:copy(0, buffer, 0, finish - offset)
      buffer, chunk = rest, finish - offset
    end
    dev:write(buffer, offset, false)
    offset = offset + chunk
  end
end

--- WRITE SAME (10) and (16).  Data-Out is exactly one block, or with NDOB
-- nothing, which stands for zeroes.  UNMAP may unmap only what then reads as
-- was asked, which is a block of zeroes (SBC-3 4.7.3.4).
function sbc.write_same(_, cmd, layout)
  local dev <const> = cmd.dev
  check_range(dev, cmd.lba, cmd.blocks)
  if cmd.blocks == 0 or cmd.blocks > limits.of(dev).write_same then
    guard.refuse(layout, layout.blocks.name)
  end
  check_writable(dev)

  local zero = guard.field(cmd, layout, "ndob") == 1
  local pattern
  if not zero then
    if #cmd.data ~= dev.block_size then
      guard.refuse(layout, layout.blocks.name)
    end
    pattern = cmd.data:get(0, dev.block_size)
    zero = not pattern:find("[^\0]")
  end

  local offset, length = cmd.lba * dev.block_size, cmd.blocks * dev.block_size
  if not zero then
    write_pattern(dev, pattern, offset, length)
  elseif guard.field(cmd, layout, "unmap") == 1 then
    dev:unmap(offset, length)
  else
    dev:zero(offset, length)
  end
end

return sbc
