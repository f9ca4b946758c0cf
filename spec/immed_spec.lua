--- SYNCHRONIZE CACHE with IMMED: a flush that fails when its command has been
--- answered already is told by the next SYNCHRONIZE CACHE, and only there.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512

-- C0h has the next flush fail, with a sense value or as a bug of the handler.
local LUA <const> = [[=weak
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler { name = "weak",
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  flush = function(self)
    tcmu.sleep(10)
    local fail = self.fail
    self.fail = nil
    if fail == 1 then error(scsi.WRITE_ERROR) elseif fail then error "bug" end
  end,
  on = { [0xC0] = function(self, cmd) self.fail = cmd:u8(2) end },
}]]

-- The same for a store, which C serves where it can: only Lua's flush fails.
local STORE <const> = [[=weak
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler { name = "weak",
  open = function(dev)
    local self = { store = tcmu.store.file(%q, "c", dev.size) }
    function dev.flush()
      local fail = self.fail
      self.fail = nil
      if fail == 1 then error(scsi.WRITE_ERROR) elseif fail then error "bug" end
    end
    return self
  end,
  on = { [0xC0] = function(self, cmd) self.fail = cmd:u8(2) end },
}]]

describe("a flush that nobody waits for", function()
  local path, dev

  local function open(source)
    dev = assert(sim.device(source, { size = 1 << 20 }))
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)             -- for the store to make
  end)
  after_each(function()
    dev:close()
    os.remove(path)
  end)

  local function fail(how)
    assert.is.good(dev:cmd(string.char(0xC0, 0, how) .. ("\0"):rep(7)))
  end

  local function synchronize(immed)
    return dev:cmd(make.synchronize_cache_10 { immed = immed })
  end

  for name, source in pairs { handler = LUA, store = STORE } do
    it("tells its failure to the next SYNCHRONIZE CACHE of a " .. name,
       function()
      open(source:gsub("%%q", ("%q"):format(path)))
      fail(1)
      assert.is.good(synchronize(true))
      dev:run(function() return false end)
      assert.is.good(dev:cmd(make.write_10 { blocks = 1 }, ("x"):rep(BLOCK)))
      assert.is.good(dev:cmd(make.read_10 { blocks = 1 }))
      assert.has.sense(synchronize(), scsi.WRITE_ERROR)
      assert.is.good(synchronize())
      assert.is.good(dev:cmd(make.synchronize_cache_16 {}))
    end)

    it("tells it to one with IMMED too, and a bug as such, of a " .. name,
       function()
      open(source:gsub("%%q", ("%q"):format(path)))
      fail(2)
      assert.is.good(synchronize(true))
      dev:run(function() return false end)
      assert.has.sense(synchronize(true), scsi.INTERNAL_TARGET_FAILURE)
      dev:run(function() return false end)
      assert.is.good(synchronize(true))
    end)
  end
end)
