--- START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL on a removable disk.
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local ABSENT <const> = scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN

describe("a removable disk", function()
  local dev

  before_each(function()
    dev = assert(sim.device("handlers/ram.lua",
                            { size = 1 << 20, options = "removable=yes" }))
  end)
  after_each(function() dev:close() end)

  local function load_eject(start)
    return dev:cmd(make.start_stop_unit { loej = true, start = start })
  end

  local function prevent(value)
    return dev:cmd(make.prevent_allow_medium_removal { prevent = value })
  end

  it("says so in INQUIRY", function()
    assert.equal(0x80, dev:cmd(make.inquiry { length = 36 }).data:byte(2))
  end)

  it("has nothing to read after it was ejected, until it is loaded", function()
    dev:cmd(make.write_10 { blocks = 1 }, ("x"):rep(512))
    assert.is.good(load_eject(false))
    for _, cdb in ipairs { make.test_unit_ready(), make.read_10 { blocks = 1 },
                           make.read_capacity_10(),
                           make.read_capacity_16 { length = 32 },
                           make.sanitize_block_erase() } do
      assert.has.sense(dev:cmd(cdb), ABSENT)
    end
    assert.has.sense(dev:cmd(make.write_10 { blocks = 1 }, ("y"):rep(512)),
                     ABSENT)
    assert.is.good(dev:cmd(make.inquiry { length = 36 }))
    assert.is.good(dev:cmd(make.mode_sense_6 { page = 8, length = 64 }))
    assert.is.good(load_eject(true))
    assert.equal(("x"):rep(512), dev:cmd(make.read_10 { blocks = 1 }).data)
  end)

  it("tells why it is not ready by REQUEST SENSE, too", function()
    local function told(desc)
      return sense.decode(dev:cmd(make.request_sense { length = 252,
                                                       desc = desc }).data)
    end
    assert.equal(0, told().key)
    assert.is.good(load_eject(false))
    for _, desc in ipairs { false, true } do
      assert.is_true(told(desc):is(ABSENT))
    end
    assert.is.good(load_eject(true))
    assert.equal(0, told().key)
  end)

  it("can neither be ejected nor loaded while that is prevented", function()
    assert.is.good(prevent(1))
    assert.has.sense(load_eject(false), scsi.MEDIUM_REMOVAL_PREVENTED)
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.is.good(prevent(0))
    assert.is.good(load_eject(false))
    assert.is.good(prevent(1))
    assert.has.sense(load_eject(true), scsi.MEDIUM_REMOVAL_PREVENTED)
    assert.has.sense(prevent(2), scsi.INVALID_FIELD_IN_CDB, 4, 1)
  end)

  it("can be ejected again after a LUN RESET", function()
    prevent(1)
    dev:abort()
    assert.is.good(load_eject(false))
    assert.has.sense(dev:cmd(make.test_unit_ready()), ABSENT)
  end)

  it("takes every power condition for the one it has", function()
    for condition = 1, 15 do
      assert.is.good(dev:cmd(make.start_stop_unit {
        power_condition = condition, loej = true }))
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end
  end)
end)

describe("a fixed disk", function()
  it("has no medium that could be prevented from anything", function()
    local dev <close> = sim.device("handlers/ram.lua", { size = 1 << 20 })
    assert.has.sense(dev:cmd(make.prevent_allow_medium_removal { prevent = 1 }),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
    assert.has.sense(dev:cmd(make.start_stop_unit { loej = true }),
                     scsi.INVALID_FIELD_IN_CDB, 4, 1)
  end)
end)
