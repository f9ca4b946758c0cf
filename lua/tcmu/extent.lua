--- The blocks that a command names: where they may be, and whether they may be
--- had or changed.
--
-- Checks that READ, WRITE and all commands like them share, so that every
-- limit is enforced in one way.  Numbers are unsigned: an LBA may have 64 bits.

local core = require "tcmu.core"
local guard = require "tcmu.guard"
local limits = require "tcmu.limits"
local sense = require "tcmu.sense"

local extent = {}

local OUT_OF_RANGE <const> = sense.constant.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
local WRITE_PROTECTED <const> = sense.constant.WRITE_PROTECTED
local SOFTWARE_PROTECTED <const> =
  sense.constant.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED
local TOO_SHORT <const> =
  sense.constant.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT
local ALL <const> = 1 << 62         -- more bytes than any disk has
local CHUNK <const> = 1 << 20       -- bytes that are moved at once

--- Raises unless the blocks are on the medium; INFORMATION is the first that
-- is not (SBC-3 4.18).
function extent.check(dev, lba, blocks)
  local capacity <const> = dev.size // dev.block_size
  if not math.ult(capacity, lba) and not math.ult(capacity - lba, blocks) then
    return
  end
  error(OUT_OF_RANGE:info(math.ult(lba, capacity) and capacity or lba))
end

--- Raises if the device is not ready for such a command: for one that has
-- waited for others, who may have begun something or taken the medium out.
function extent.check_ready(dev, opcode)
  if dev.not_ready then dev.not_ready { dev = dev, opcode = opcode } end
end

--- Locks the blocks from a byte on, and those that a change of size adds
-- meanwhile; `harmless` and the rest are tcmu.lock's.  Waits.
function extent.lock_from(self, offset, harmless)
  return core.lock(self, offset, ALL - offset, harmless)
end

--- Raises if the medium may not be changed.
function extent.check_writable(dev)
  if dev.read_only or not dev.can.write then error(WRITE_PROTECTED) end
  if dev.software_protected then error(SOFTWARE_PROTECTED) end
end

--- Checks the blocks of a command against the medium and against `most`
-- (MAXIMUM TRANSFER LENGTH if absent).
-- @return their first byte and their length in bytes
function extent.of(cmd, layout, most)
  local dev <const> = cmd.dev
  local blocks <const> = cmd.blocks
  extent.check(dev, cmd.lba, blocks)
  if blocks > (most or limits.of(dev).transfer) then
    guard.refuse(layout, layout.blocks.name)
  end
  return cmd.lba * dev.block_size, blocks * dev.block_size
end

--- The same without a limit, for commands that move no data to the initiator.
function extent.unlimited(cmd)
  local dev <const> = cmd.dev
  extent.check(dev, cmd.lba, cmd.blocks)
  return cmd.lba * dev.block_size, cmd.blocks * dev.block_size
end

--- What WRITE SAME names: offset and length in bytes, and the block to be
-- written everywhere; nil with NDOB, which stands for zeroes.
function extent.same(cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = extent.unlimited(cmd)
  extent.check_writable(dev)
  if cmd.blocks == 0 or cmd.blocks > limits.of(dev).write_same then
    guard.refuse(layout, layout.blocks.name)
  end
  if guard.field(cmd, layout, "ndob") == 1 then return offset, length end
  if #cmd.data ~= dev.block_size then
    guard.refuse(layout, layout.blocks.name)
  end
  return offset, length, cmd.data:get()
end

--- Data-Out of exactly `length` bytes: cut if there is more, and refused if
-- there is less.  Then the CDB is right and what the fabric's command says of
-- its data is not, as the kernel's own backstores answer it, too.
function extent.data_out(cmd, length)
  local data = cmd.data
  if #data < length then error(TOO_SHORT) end
  if #data == length then return data end
  local exact = require("tcmu").buffer(length)
  exact:copy(0, data, 0, length)
  return exact
end

--- for offset, n in extent.chunks(dev, offset, length): walks over a range in
-- parts of at most a MiB and of MAXIMUM TRANSFER LENGTH.  Lets others go first
-- between two of them, for what is done to each may never wait.
function extent.chunks(dev, offset, length)
  local most <const> = math.min(CHUNK, limits.of(dev).transfer * dev.block_size)
  local step <const> = math.max(dev.block_size, most - most % dev.block_size)
  local at, finish = offset - step, offset + length
  return function()
    at = at + step
    if at >= finish then return nil end
    if at > offset then core.sleep(0) end
    return at, math.min(step, finish - at)
  end
end

--- Writes `pattern`, which divides a block or is one, over a range of whole
-- blocks.  `told(done)` is called after each part.  Waits; raises.
function extent.fill(dev, pattern, offset, length, told)
  local tcmu <const> = require "tcmu"
  local buffer
  for at, n in extent.chunks(dev, offset, length) do
    if not buffer or #buffer ~= n then
      local filled = math.min(#pattern, n)
      local before = buffer
      buffer = tcmu.buffer(n)
      if before then
        buffer:copy(0, before, 0, n)
      else
        buffer:put(0, pattern:sub(1, filled))
        while filled < n do
          local more = math.min(filled, n - filled)
          buffer:copy(filled, buffer, 0, more)
          filled = filled + more
        end
      end
    end
    dev:write(buffer, at, false)
    if told then told(at + n - offset) end
  end
end

return extent
