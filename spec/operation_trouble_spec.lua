--- FORMAT UNIT and SANITIZE when something else goes wrong: code that has to be
--- stopped, a loss of power, commands that come at the same time.
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local SIZE <const> = 4 << 20

-- What the specs change in a disk: functions of its handler.
local function disk(more)
  return [[=disk
local tcmu = require "tcmu"
local handler = { name = "disk",
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
}
]] .. more .. " return tcmu.handler(handler)"
end

describe("an operation", function()
  local dev

  local function open(path, options)
    options = options or {}
    options.size = options.size or SIZE
    dev = assert(sim.device(path, options))
  end
  after_each(function() if dev then dev:close() end end)

  describe("whose task the watchdog stops", function()
    setup(function() core.budget(50) end)
    teardown(function() core.budget(2000) end)

    it("has failed, and can be done again", function()
      open(disk [[
        local write <const> = handler.write
        function handler.write(self, cmd, offset, length)
          if offset > 0 and not self.stopped then
            self.stopped = true
            while true do end
          end
          return write(self, cmd, offset, length)
        end
      ]])
      assert.has.sense(dev:cmd(make.format_unit {}, ""),
                       scsi.FORMAT_COMMAND_FAILED)
      assert.has.sense(dev:cmd(make.test_unit_ready()),
                       scsi.FORMAT_COMMAND_FAILED)
      assert.is.good(dev:cmd(make.format_unit {}, ""))
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end)
  end)
end)
