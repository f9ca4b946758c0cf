--- tcmu.zoned when commands come at the same time: writes to a zone go in their
--- order.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512

local function data(byte, n) return byte:rep(BLOCK * (n or 1)) end

-- Writes that take their time, each less than the one before; vendor command
-- C0h says in which order they came, and fails the next write if byte 1 is 1.
local SLOW <const> = [[=slow
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "slow", device = tcmu.zoned,
  open = function(dev)
    return { bytes = tcmu.buffer(dev.size), notes = {}, pause = 1000,
      zones = tcmu.zoned.layout(dev, {
        zone_size = 65536, conventional = 0, max_open = 1,
        state = tcmu.store.memory }) }
  end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.pause = self.pause - 100
    tcmu.sleep(self.pause)
    if self.fails then
      self.fails = false
      error(scsi.INTERNAL_TARGET_FAILURE)
    end
    self.notes[#self.notes + 1] = offset // 512
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  on = { [0xC0] = function(self, cmd)
    self.fails = cmd:u8(1) == 1
    return table.concat(self.notes, " ")
  end },
}
]]

describe("commands of a zoned disk at the same time", function()
  local dev

  before_each(function() dev = assert(sim.device(SLOW, { size = 8 << 16 })) end)
  after_each(function() dev:close() end)

  local function write(lba, n)
    return dev:submit(make.write_16 { lba = lba, blocks = n }, data("w", n))
  end

  local function notes(fails)
    return dev:cmd(string.char(0xC0, fails and 1 or 0) .. ("\0"):rep(8)).data
  end

  it("write to one zone in the order of their arrival", function()
    local list = {}
    for i = 0, 4 do list[i + 1] = write(i * 2, 2) end
    for _, one in ipairs(list) do
      assert.equal(one, dev:next_done())
      assert.is.good(one.result)
    end
    assert.equal("0 2 4 6 8", notes())
  end)

  it("do not hold up writes to another zone", function()
    local first, second = write(0, 1), write(128, 1)
    assert.equal(second, dev:next_done())
    assert.equal(first, dev:next_done())
    assert.is.good(first.result)
    assert.is.good(second.result)
  end)

  it("reset a zone after the writes before and before those behind", function()
    local before = write(0, 3)
    local reset = dev:submit(make.reset_write_pointer { zone_id = 0 })
    local behind = write(0, 1)
    for _, one in ipairs { before, reset, behind } do
      assert.is.good(dev:wait(one))
    end
    local r = dev:cmd(make.read_16 { lba = 0, blocks = 2 })
    assert.is_true(r.data == data("w") .. data("\0"))
  end)

  it("do not reset a zone of a disk that is write protected meanwhile",
  function()
    local before = write(0, 1)
    local reset = dev:submit(make.reset_write_pointer { zone_id = 0 })
    assert.is.good(dev:cmd(commands.write_protect()))
    assert.is.good(dev:wait(before))
    assert.has.sense(dev:wait(reset),
                     scsi.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED)
    local r = dev:cmd(make.read_16 { lba = 0, blocks = 1 })
    assert.is_true(r.data == data("w"))
  end)

  it("leave the pointer where it was when a write fails", function()
    notes(true)
    local bad, late = write(0, 2), write(2, 2)
    assert.has.sense(dev:wait(bad), scsi.INTERNAL_TARGET_FAILURE)
    assert.has.sense(dev:wait(late), scsi.UNALIGNED_WRITE_COMMAND)
    assert.is.good(dev:wait(write(0, 2)))
    assert.is.good(dev:wait(write(2, 2)))
  end)

  it("give a write's place in the queue away when it is aborted", function()
    local first, second = write(0, 1), write(1, 1)
    dev:abort(second)
    assert.is.good(dev:wait(first))
    assert.is.good(dev:wait(write(1, 1)))
  end)
end)
