--- Commands that have waited for others find the device as it is by then, not as
--- it was when they came.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local SIZE <const> = 8 << 20
local LAST <const> = SIZE // BLOCK - 1
local SANITIZING <const> = scsi.LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS
local ABSENT <const> = scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN

-- A removable disk that takes its time to write.
local SLOW <const> = [[=slow
local tcmu = require "tcmu"
return tcmu.handler { name = "slow",
  options = { removable = tcmu.option.boolean { "it is", default = true } },
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    tcmu.sleep(100)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  unmap = function(self, cmd, offset, length)
    self.bytes:fill(0, offset, length)
  end,
  flush = function() tcmu.sleep(10) end,
}
]]

describe("behind a slow write", function()
  local dev, slow

  before_each(function()
    dev = assert(sim.device(SLOW, { size = SIZE, serial = "00112233" }))
    slow = dev:submit(make.write_10 { lba = 3, blocks = 1 }, ("w"):rep(BLOCK))
  end)
  after_each(function()
    assert.is.good(dev:wait(slow))
    dev:close()
  end)

  local function sanitize()
    return dev:submit(commands.overwrite("x", 1, { immed = true }))
  end

  local function eject()
    return dev:submit(make.start_stop_unit { loej = true, start = false })
  end

  local function unmap(...)
    local ranges = {}
    for i, lba in ipairs { ... } do
      ranges[i] = string.pack(">I8I4xxxx", lba, 1)
    end
    local list = table.concat(ranges)
    list = string.pack(">I2I2xxxx", #list + 6, #list) .. list
    return dev:submit(make.unmap { length = #list }, list)
  end

  local function write_protect()
    return dev:submit(commands.write_protect())
  end

  local function read(lba)
    return dev:cmd(commands.read(lba))
  end

  local function finish()
    dev:run(function() return false end)
  end

  it("a medium that is being sanitized meanwhile is not ejected", function()
    local first, second = sanitize(), eject()
    assert.is.good(dev:wait(first))
    assert.has.sense(dev:wait(second), SANITIZING)
    assert.has.sense(dev:cmd(make.start_stop_unit { loej = true,
                                                    start = true }), SANITIZING)
    assert.has.sense(dev:cmd(make.write_10 { lba = LAST, blocks = 1 },
                             ("n"):rep(BLOCK)), SANITIZING)
    finish()
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.equal(("x"):rep(BLOCK), read(LAST).data)
  end)

  it("a medium that is ejected meanwhile is not sanitized", function()
    local first, second = eject(), sanitize()
    assert.is.good(dev:wait(first))
    assert.has.sense(dev:wait(second), ABSENT)
    assert.has.sense(dev:cmd(make.test_unit_ready()), ABSENT)
    assert.is.good(dev:cmd(make.start_stop_unit { loej = true, start = true }))
    assert.equal(("w"):rep(BLOCK), read(3).data)
  end)

  it("a medium whose removal is prevented meanwhile stays", function()
    local first = eject()
    assert.is.good(dev:cmd(make.prevent_allow_medium_removal { prevent = 1 }))
    assert.has.sense(dev:wait(first), scsi.MEDIUM_REMOVAL_PREVENTED)
    assert.is.good(dev:cmd(make.test_unit_ready()))
  end)

  it("a medium whose removal is prevented while it is flushed stays",
  function()
    assert.is.good(dev:wait(slow))
    local first = eject()
    assert.is.good(dev:cmd(make.prevent_allow_medium_removal { prevent = 1 }))
    assert.has.sense(dev:wait(first), scsi.MEDIUM_REMOVAL_PREVENTED)
    assert.is.good(dev:cmd(make.test_unit_ready()))
  end)

  it("two ejects at a time are one", function()
    local first, second = eject(), eject()
    assert.is.good(dev:wait(first))
    assert.is.good(dev:wait(second))
    assert.has.sense(dev:cmd(make.test_unit_ready()), ABSENT)
  end)

  it("an UNMAP does not change a disk that is write protected meanwhile",
  function()
    assert.is.good(dev:cmd(make.write_10 { lba = LAST, blocks = 1 },
                           ("k"):rep(BLOCK)))
    slow = dev:submit(make.write_10 { lba = 3, blocks = 1 }, ("w"):rep(BLOCK))
    local first, second = unmap(3, LAST), write_protect()
    assert.is.good(dev:wait(second))
    assert.has.sense(dev:wait(first),
                     scsi.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED)
    assert.equal(("k"):rep(BLOCK), read(LAST).data)
  end)

  it("a FORMAT UNIT does not begin on a disk that is write protected meanwhile",
  function()
    local first, second = dev:submit(make.format_unit {}, ""), write_protect()
    assert.is.good(dev:wait(second))
    assert.has.sense(dev:wait(first),
                     scsi.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED)
    assert.equal(("w"):rep(BLOCK), read(3).data)
  end)

  it("an UNMAP does not change what SANITIZE has written", function()
    local first, second = sanitize(), unmap(3, LAST)
    assert.is.good(dev:wait(first))
    assert.has.sense(dev:wait(second), SANITIZING)
    finish()
    assert.equal(("x"):rep(BLOCK), read(LAST).data)
  end)

  it("no token is made of what is being sanitized", function()
    local first = sanitize()
    local list = string.pack(">s2", string.pack(">BxI4I4xxs2", 0, 0, 0,
      string.pack(">I8I4xxxx", 3, 2000)))
    local second = dev:submit(make.populate_token { list_identifier = 1,
      length = #list }, list)
    assert.is.good(dev:wait(first))
    assert.has.sense(dev:wait(second), SANITIZING)
    finish()
  end)
end)
