--- cmd:moved: a command that ends with sense, and with some of its data.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

describe("cmd:moved", function()
  local SOURCE <const> = [[=partial
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "partial",
  open = function(dev) return { store = tcmu.store.zero(dev.size) } end,
  on = {
    [0xC0] = function(_, cmd)
      cmd.data:put(0, "some text")
      cmd:moved(cmd:u8(1))
      error(scsi.NO_ADDITIONAL_SENSE_INFORMATION:stream { ili = true })
    end,
    [0xC1] = function(_, cmd)
      cmd:moved(4)
      error(scsi.NO_ADDITIONAL_SENSE_INFORMATION)
    end,
    [0xC2] = function(_, cmd) cmd:moved(#cmd.data + 1) end,
  },
}
]]
  local dev

  before_each(function() dev = assert(sim.device(SOURCE)) end)
  after_each(function() dev:close() end)

  local function ask(opcode, n)
    dev.kernel:poison(0xEE)
    return dev:cmd(string.char(opcode, n) .. ("\0"):rep(8), { data_in = 64 })
  end

  it("sends so many bytes with the sense", function()
    local r = ask(0xC0, 4)
    assert.is_true(r.sense.ili)
    assert.equal("some", r.data)
    assert.equal("some text" .. ("\0"):rep(55), ask(0xC0, 64).data)
  end)

  it("sends sense alone for 0, and where nothing was put", function()
    assert.equal("", ask(0xC0, 0).data or "")
    assert.equal("", ask(0xC1, 0).data or "")
  end)

  it("does not go past the data", function()
    assert.has.sense(ask(0xC2, 0), scsi.INTERNAL_TARGET_FAILURE)
  end)
end)
