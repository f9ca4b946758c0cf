--- The handler contract for the disk's bytes: read, write, flush and unmap, and
--- what becomes of what they return.
local commands = require "spec.commands"
local inline = require "spec.inline"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512

local device <const>, source <const> = inline.device, inline.source
local read <const>, vendor <const>, write <const> = commands.read,
  commands.vendor, commands.write

describe("read", function()
  it("fills the data that it is asked for", function()
    local dev <close> = device [[
      read = function(_, cmd, offset, length)
        cmd.data:put(0, ("%d+%d"):format(offset, length))
        assert(length == #cmd.data)
      end]]
    local r = dev:cmd(read(5, 3))
    assert.is.good(r)
    assert.equal("2560+1536", r.data:match("^[^\0]+"))
    assert.equal(3 * BLOCK, #r.data)
  end)

  it("may return a string or a buffer instead", function()
    for _, reply in ipairs { "('r'):rep(length)",
      "(function() local b = tcmu.buffer(length) b:fill(114) return b end)()",
      "(function() cmd.data:fill(114) return cmd.data end)()" } do
      local dev <close> = device("read = function(_, cmd, offset, length) "
                                 .. "return " .. reply .. " end")
      for _, cdb in ipairs { read(0, 2),
                             scsi.cdb.read_10 { lba = 0, length = 2, dpo = 1 } } do
        local r = dev:cmd(cdb)
        assert.is.good(r)
        assert.is_true(r.data == ("r"):rep(2 * BLOCK))
      end
    end
  end)

  it("gives zeroes where it writes nothing", function()
    local dev <close> = device "read = function() end"
    assert.is_true(dev:cmd(read(0, 2)).data == ("\0"):rep(2 * BLOCK))
  end)

  it("that returns too little is a bug, not a short disk", function()
    local dev <close> = device "read = function() return 'short' end"
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INTERNAL_TARGET_FAILURE)
    local slow <close> = assert(sim.device(
      source "read = function() return 'short' end", { no_fast_path = true }))
    assert.has.sense(slow:cmd(read(0, 1)), scsi.INTERNAL_TARGET_FAILURE)
  end)

  it("is not asked for blocks beyond the end, or for none", function()
    local dev <close> = device([[
      read = function() error "asked" end]], { size = 1 << 20 })
    assert.has.sense(dev:cmd(read(2048, 1)),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    assert.has.sense(dev:cmd(read(2047, 2)),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    assert.is.good(dev:cmd(read(0, 0)))
  end)

  it("reports an I/O error as a medium error", function()
    local dev <close> = device [[
      open = function()
        return { s = tcmu.store.memory(1 << 20) } end,
      read = function(self, cmd) self.s:read(cmd.data, 1 << 20) end]]
    local r = dev:cmd(read(0, 1))
    assert.equal(0x02, r.status)
    assert.is_not_nil(r.sense)
    assert.is_not.equal(0x04, r.sense.key)
  end)
end)

describe("write", function()
  it("gets the data, and its result does not matter", function()
    local dev <close> = device [[
      open = function() return {} end,
      read = function(self, cmd) return self.data end,
      write = function(self, cmd, offset, length)
        self.data = cmd.data:get(0, length)
      end]]
    assert.is.good(dev:cmd(write(0, 2, "w")))
    assert.is_true(dev:cmd(read(0, 2)).data == ("w"):rep(2 * BLOCK))
  end)

  it("that is missing makes the disk read-only", function()
    local dev <close> = device "read = function() end"
    assert.has.sense(dev:cmd(write(0, 1, "x")), scsi.WRITE_PROTECTED)
  end)

  it("is not reached on a device that is read-only", function()
    local dev <close> = device([[read = function() end,
      write = function() error "reached" end]], { read_only = true })
    assert.has.sense(dev:cmd(write(0, 1, "x")), scsi.WRITE_PROTECTED)
  end)

  it("sees the pattern of WRITE SAME as ordinary data", function()
    local dev <close> = device [[
      open = function() return { n = 0, bytes = 0 } end,
      read = function() end,
      write = function(self, cmd, offset, length)
        assert(#cmd.data == length)
        assert(not cmd.data:get(0, length):find("[^p]"))
        assert(cmd.opcode == 0x41)
        self.bytes = self.bytes + length
      end,
      on = { [0xC1] = function(self) return tostring(self.bytes) end }]]
    assert.is.good(dev:cmd(scsi.cdb.write_same_10 { lba = 0, length = 3000 },
                           ("p"):rep(BLOCK)))
    assert.equal(tostring(3000 * BLOCK), dev:cmd(vendor(0xC1)).data)
  end)
end)

describe("flush", function()
  local FLUSHING <const> = [[
    read = function() log[#log + 1] = "r" end,
    write = function() log[#log + 1] = "w" end,
    flush = function(_, cmd, offset, length)
      log[#log + 1] = ("f%d+%d"):format(offset, length)
    end,
    on = { [0xC1] = function() return table.concat(log, " ") .. "." end }]]

  local function told(dev) return dev:cmd(vendor(0xC1)).data end

  it("follows every write while there is no write cache", function()
    local dev <close> = device(FLUSHING, { write_cache = false })
    dev:cmd(write(1, 2, "x"))
    assert.equal("w f512+1024.", told(dev))
  end)

  it("follows a write with FUA, and precedes a read with FUA", function()
    local dev <close> = device(FLUSHING)
    dev:cmd(write(1, 1, "x"))
    dev:cmd(scsi.cdb.write_10 { lba = 1, length = 1, fua = 1 },
            ("x"):rep(BLOCK))
    dev:cmd(scsi.cdb.read_10 { lba = 1, length = 1, fua = 1 })
    assert.equal("w w f512+512 f512+512 r.", told(dev))
  end)

  it("is SYNCHRONIZE CACHE; 0 blocks mean all that follow", function()
    local dev <close> = device(FLUSHING, { size = 1 << 20 })
    dev:cmd(scsi.cdb.synchronize_cache_10 { lba = 4, length = 2 })
    dev:cmd(scsi.cdb.synchronize_cache_10 { lba = 2046 })
    assert.equal("f2048+1024 f1047552+1024.", told(dev))
  end)

  it("that is missing means: no write cache is advertised, no command", function()
    local dev <close> = device [[read = function() end,
                                 write = function() end]]
    assert.has.sense(dev:cmd(scsi.cdb.synchronize_cache_10 {}),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
    local caching = dev:cmd(scsi.cdb.mode_sense_6 {
      page_code = 8, allocation_length = 64 }).data
    assert.equal(0, caching:byte(4 + caching:byte(4) + 3) & 0x04)
  end)

  it("runs once more when the cache is switched off", function()
    local dev <close> = device(FLUSHING, { size = 1 << 20 })
    assert.equal(0, (dev:change("write_cache", { write_cache = false })))
    assert.equal("f0+1048576.", told(dev))
  end)
end)

describe("unmap", function()
  it("is called once for each descriptor", function()
    local dev <close> = device [[
      read = function() end, write = function() end,
      unmap = function(_, cmd, offset, length)
        log[#log + 1] = ("u%d+%d"):format(offset, length)
      end,
      on = { [0xC1] = function() return table.concat(log, " ") .. "." end }]]
    local list = string.pack(">I2I2I4I8I4I4I8I4I4", 38, 32, 0,
                             2, 4, 0, 100, 1, 0)
    assert.is.good(dev:cmd(scsi.cdb.unmap { parameter_list_length = #list },
                           list))
    assert.equal("u1024+2048 u51200+512.", dev:cmd(vendor(0xC1)).data)
  end)

  it("that is missing means that UNMAP is not a command", function()
    local dev <close> = device [[read = function() end,
                                 write = function() end]]
    assert.has.sense(dev:cmd(scsi.cdb.unmap {}, ("\0"):rep(8)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)
