--- Reading and writing a zoned disk (ZBC clause 4.4).
--
-- Writes of one zone go one after the other: whoever holds the lock of a
-- zone's write pointer has checked it, writes, and moves it.  So a pointer
-- never tells of data that are not there, and of writes that arrive in order
-- none overtakes another.  Reads are unrestricted (URSWRZ 1): what lies behind
-- a write pointer reads as zeroes, whatever the store has there.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local sbc = require "tcmu.sbc"
local sense = require "tcmu.sense"

local zone_io = {}

local MISCOMPARE <const> = sense.constant.MISCOMPARE_DURING_VERIFY_OPERATION

-- The locks of write pointers, one per zone, lie behind the end of any medium.
-- A command waits for one while it holds its blocks; who holds one never waits
-- for blocks.
local POINTERS <const> = 1 << 62

-- Reading -------------------------------------------------------------------

-- The blocks as an initiator sees them.
local function read_blocks(self, dev, lba, blocks)
  local size <const> = dev.block_size
  local whole = core.buffer(blocks * size)
  for first, n in self.zones:data(lba, blocks) do
    local part = n == blocks and whole or core.buffer(n * size)
    dev:read(part, first * size)
    if n < blocks then whole:copy((first - lba) * size, part, 0, n * size) end
  end
  return whole
end

--- READ (6), (10), (12), (16), (32): across zones, too.
function zone_io.read(self, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = extent.of(cmd, layout)
  if length == 0 then return "" end
  local _, first = self.zones:data(cmd.lba, cmd.blocks)()
  if first == cmd.blocks then return sbc.read(self, cmd, layout) end
  if guard.field(cmd, layout, "fua") == 1 and dev.write_cache then
    dev:flush(offset, length)
  end
  return read_blocks(self, dev, cmd.lba, cmd.blocks)
end

-- Values of BYTCHK (SBC-3 5.30).
local NOTHING <const>, ALL <const>, RESERVED <const> = 0, 1, 2

-- INFORMATION is the offset in Data-Out of the first byte that differs.
local function differ(data, at, medium, from, n)
  local same, first = data:compare(at, medium, from, n)
  if not same then error(MISCOMPARE:info(at + first)) end
end

--- VERIFY (10), (12), (16), (32), with every value of BYTCHK.
function zone_io.verify(self, cmd, layout)
  local dev <const> = cmd.dev
  local what <const> = guard.field(cmd, layout, "bytchk")
  if what == RESERVED then guard.refuse(layout, "bytchk") end
  local offset, length
  if what == NOTHING then
    offset, length = extent.unlimited(cmd)
  else
    offset, length = extent.of(cmd, layout)
  end
  if length == 0 then return end
  local data
  if what ~= NOTHING then
    data = extent.data_out(cmd, what == ALL and length or dev.block_size)
  end
  for at, n in extent.chunks(dev, offset, length) do
    local medium = read_blocks(self, dev, at // dev.block_size,
                               n // dev.block_size)
    if what == ALL then
      differ(data, at - offset, medium, 0, n)
    elseif data then
      for from = 0, n - 1, #data do differ(data, 0, medium, from, #data) end
    end
  end
end

-- Writing -------------------------------------------------------------------

-- Lets fn(stable) write the blocks of the command, where they are allowed.
local function writing(self, cmd, layout, fn)
  local dev <const>, set <const> = cmd.dev, self.zones
  local fua <const> = guard.field(cmd, layout, "fua") == 1
  local number <const> = set:at(cmd.lba)
  if set:is_conventional(number) then
    set:admit(cmd.lba, cmd.blocks)
    return fn(fua)
  end
  local _ <close> = core.lock(self, POINTERS + number, 1)
  local moves <const> = set:admit(cmd.lba, cmd.blocks)
  fn(fua)
  if moves then set:advance(number, cmd.blocks) end
  set.state:save(fua or not dev.write_cache)
end

--- WRITE (6), (10), (12), (16), (32).
function zone_io.write(self, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = extent.of(cmd, layout)
  extent.check_writable(dev)
  if length == 0 then return end
  local data = extent.data_out(cmd, length)
  writing(self, cmd, layout, function(stable)
    dev:write(data, offset, stable)
  end)
end

--- WRITE SAME (10), (16), (32).
function zone_io.write_same(self, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length, pattern = extent.same(cmd, layout)
  pattern = pattern or ("\0"):rep(dev.block_size)
  writing(self, cmd, layout, function()
    extent.fill(dev, pattern, offset, length)
  end)
end

return zone_io
