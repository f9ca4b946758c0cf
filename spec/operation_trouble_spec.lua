--- FORMAT UNIT and SANITIZE when something else goes wrong: code that has to be
--- stopped, a loss of power, commands that come at the same time.
local commands = require "spec.commands"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local SIZE <const> = 4 << 20
local SANITIZING <const> = scsi.LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS

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

  local function overwrite(pattern, fields)
    return dev:submit(commands.overwrite(pattern, 1, fields))
  end

  local function read(lba)
    return dev:cmd(commands.read(lba))
  end

  local function finish()
    dev:run(function() return false end)
  end

  describe("that is remembered", function()
    local directory

    before_each(function()
      directory = os.tmpname()
      os.remove(directory)
      assert(os.execute("mkdir " .. directory))
    end)
    after_each(function() os.execute("rm -rf " .. directory) end)

    local function kept(name)
      local f <close> = assert(io.open(directory .. "/sim_disk"))
      return math.tointeger(f:read("a"):match("operation_" .. name .. "=(%d+)"))
    end

    -- A medium that fails once from 2 MiB on, when that is asked for by C0h.
    local FRAGILE <const> = disk [[
      local write <const> = handler.write
      function handler.write(self, cmd, offset, length)
        tcmu.sleep(100)
        if self.bad and offset + length > 2 << 20 then
          self.bad = false
          error "no luck"
        end
        return write(self, cmd, offset, length)
      end
      handler.on = { [0xC0] = function(self) self.bad = true end }
    ]]

    it("is not forgotten by what ends the failure of the one before",
    function()
      local options <const> = { name = "disk", state_dir = directory }
      open(FRAGILE, options)
      local text <const> = "shelf"        -- so that there is a file to replace
      assert.is.good(dev:cmd(make.set_identifying_information
                             { length = #text }, text))
      assert.is.good(dev:cmd("\xC0" .. ("\0"):rep(5)))
      assert.has.sense(dev:wait(overwrite("x", { ause = true })),
                       scsi.SANITIZE_COMMAND_FAILED)
      local left = dev:submit(make.sanitize_exit_failure_mode())
      local again = overwrite("z", { immed = true })
      assert.is.good(dev:wait(left))
      assert.is.good(dev:wait(again))
      assert.has.sense(dev:cmd(make.write_10 { lba = 8191, blocks = 1 },
                               ("n"):rep(BLOCK)), SANITIZING)
      dev:close "remove"
      open(FRAGILE, options)
      assert.has.sense(dev:cmd(make.test_unit_ready()), SANITIZING)
      finish()
      assert.equal(("z"):rep(BLOCK), read(8191).data)
    end)

    it("has failed if the device has another size after a restart", function()
      for _, size in ipairs { 2 * SIZE, SIZE // 2 } do
        local options <const> = { name = "disk", state_dir = directory }
        open(FRAGILE, options)
        assert.is.good(dev:wait(overwrite("x", { immed = true })))
        dev:close "remove"
        options.size = size
        open(FRAGILE, options)
        assert.has.sense(dev:cmd(make.test_unit_ready()),
                         scsi.SANITIZE_COMMAND_FAILED)
        assert.has.sense(read(0), scsi.SANITIZE_COMMAND_FAILED)
        assert.is.good(dev:wait(overwrite "x"))
        assert.equal(("x"):rep(BLOCK), read(size // BLOCK - 1).data)
        dev:close()
      end
    end)

    it("is not overlooked where what is remembered cannot be read", function()
      local path <const> = directory .. "/sim_disk"
      assert(os.execute("mkdir " .. path))
      local refused, why = sim.device("handlers/ram.lua",
        { name = "disk", state_dir = directory })
      assert.is_nil(refused)
      assert.matches(path .. " cannot be read (Is a directory)", why, 1, true)
      dev = nil
    end)

    -- A disk of which one byte for each MiB is kept, in a cache first.  C1h is
    -- a loss of power.
    local CACHED <const> = [[=cached
local tcmu = require "tcmu"
stable, cache = stable or {}, cache or {}
local function flush()
  for at, byte in pairs(cache) do stable[at] = byte end
  cache = {}
end
return tcmu.handler { name = "cached",
  open = function() return {} end,
  read = function(_, cmd, offset, length)
    local at <const> = offset >> 20
    cmd.data:put(0, (cache[at] or stable[at] or "o"):rep(length))
  end,
  write = function(_, cmd, offset)
    cache[offset >> 20] = cmd.data:get(0, 1)
  end,
  flush = flush,
  on = { [0xC1] = function() cache = {} end },
}
]]

    it("goes on after a loss of power from where all is on the medium",
    function()
      local host <close> = sim.host()
      local options <const> = { name = "disk", state_dir = directory,
                                size = 600 << 20 }
      dev = assert(host:device(CACHED, options))
      -- What the handler has in common stays as long as one device.
      local other <const> = assert(host:device(CACHED, { size = 1 << 20 }))
      local function lose_power()
        assert.is.good(other:cmd("\xC1" .. ("\0"):rep(9)))
      end
      assert.is.good(dev:wait(overwrite("x", { immed = true })))
      dev:run(function() return kept "done" > 0 end)
      lose_power()
      dev:close "remove"
      lose_power()
      dev = assert(host:device(CACHED, options))
      finish()
      assert.is.good(dev:cmd(make.test_unit_ready()))
      for mib = 0, 599 do
        assert.equal("x", read(mib << 11).data:sub(1, 1))
      end
    end)
  end)

  it("of FORMAT UNIT on a large thin disk ends before the time-out", function()
    open("handlers/ram.lua", { size = 1 << 40, block_size = 4096,
                               cmd_time_out = 30 })
    assert.is.good(dev:cmd(make.format_unit {}, ""))
  end)

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
