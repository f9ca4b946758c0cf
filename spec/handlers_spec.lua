--- The shipped handlers, each through the simulator.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512

local function pattern(blocks, seed)
  local parts = {}
  for i = 1, blocks do
    parts[i] = string.pack("<I8", i * 7919 + seed):rep(BLOCK // 8)
  end
  return table.concat(parts)
end

for _, name in ipairs { "ram", "ramdisk" } do
  describe("handlers/" .. name, function()
    local dev

    before_each(function()
      dev = assert(sim.device("handlers/" .. name .. ".lua",
                              { size = 4 << 20 }))
    end)
    after_each(function() dev:close() end)

    it("gives back what was written, across pages", function()
      local data = pattern(200, 1)
      assert.is.good(dev:cmd(scsi.cdb.write_10 { lba = 60, length = 200 }, data))
      local r = dev:cmd(scsi.cdb.read_10 { lba = 60, length = 200 })
      assert.is.good(r)
      assert.is_true(r.data == data)
    end)

    it("reads as zeroes where nothing was written", function()
      local r = dev:cmd(scsi.cdb.read_16 { lba = 1000, length = 8 })
      assert.is.good(r)
      assert.equal(("\0"):rep(8 * BLOCK), r.data)
    end)

    it("forgets what is unmapped, and nothing beside it", function()
      local data = pattern(300, 2)
      dev:cmd(scsi.cdb.write_10 { lba = 0, length = 300 }, data)
      local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, 100, 150, 0)
      assert.is.good(dev:cmd(scsi.cdb.unmap { parameter_list_length = #list },
                             list))
      local r = dev:cmd(scsi.cdb.read_10 { lba = 0, length = 300 })
      assert.is_true(r.data == data:sub(1, 100 * BLOCK)
        .. ("\0"):rep(150 * BLOCK) .. data:sub(250 * BLOCK + 1))
    end)
  end)
end

describe("handlers/whoami", function()
  local dev

  before_each(function()
    dev = assert(sim.device("handlers/whoami.lua", { size = 1 << 20 }))
  end)
  after_each(function() dev:close() end)

  it("puts its own name into standard INQUIRY data", function()
    local r = dev:cmd(scsi.cdb.inquiry { length = 96 })
    assert.is.good(r)
    assert.equal("ACME    Teaching disk   ", r.data:sub(9, 32))
  end)

  it("counts in its serial number", function()
    local r = dev:cmd(scsi.cdb.inquiry { evpd = 1, page_code = 0x80,
                                         length = 96 })
    assert.equal("LUA-0001", r.data:sub(5))
  end)

  it("says where in the CDB the bad field was", function()
    assert.has.sense(dev:cmd("\xC1\1\0\0\0\0\0\0\0\0"),
                     scsi.INVALID_FIELD_IN_CDB, 1)
  end)

  it("lets other commands overtake its vendor command, which waits", function()
    local slow = dev:submit("\xC1\0\0\0\0\0\0\0\0\0")
    local quick = dev:submit(scsi.cdb.test_unit_ready())
    assert.equal(quick, dev:next_done())
    assert.equal(slow, dev:next_done())
    assert.equal("asked nicely\0", slow.result.data)
  end)
end)

describe("handlers/zero", function()
  it("forgets what is written", function()
    local dev <close> = assert(sim.device("handlers/zero.lua"))
    assert.is.good(dev:cmd(scsi.cdb.write_10 { lba = 0, length = 1 },
                           pattern(1, 3)))
    local r = dev:cmd(scsi.cdb.read_10 { lba = 0, length = 1 })
    assert.equal(("\0"):rep(BLOCK), r.data)
  end)
end)

describe("handlers/file", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("serves a file, and the file has what was written", function()
    os.remove(path)
    local dev = assert(sim.device("handlers/file.lua", {
      size = 1 << 20, options = "path=" .. path .. ";create=yes",
    }))
    local data = pattern(16, 4)
    assert.is.good(dev:cmd(scsi.cdb.write_10 { lba = 8, length = 16 }, data))
    assert.is.good(dev:cmd(scsi.cdb.synchronize_cache_10 {}))
    assert.is_true(dev:cmd(scsi.cdb.read_10 { lba = 8, length = 16 }).data
                   == data)
    dev:close()
    local f = assert(io.open(path, "rb"))
    assert.equal(1 << 20, f:seek("end"))
    f:seek("set", 8 * BLOCK)
    assert.is_true(f:read(16 * BLOCK) == data)
    f:close()
  end)

  it("refuses a file that is too small, with a sentence", function()
    local dev, why = sim.device("handlers/file.lua", { size = 1 << 20,
                                                       options = path })
    assert.is_nil(dev)
    assert.matches("has 0 bytes and the device needs 1048576", why)
  end)

  it("refuses writes when it is read only", function()
    local f = assert(io.open(path, "wb"))
    f:write(("r"):rep(1 << 20))
    f:close()
    local dev <close> = assert(sim.device("handlers/file.lua", {
      size = 1 << 20, options = "path=" .. path .. ";mode=ro",
    }))
    assert.has.sense(dev:cmd(scsi.cdb.write_10 { lba = 0, length = 1 },
                             ("w"):rep(512)), scsi.WRITE_PROTECTED)
    assert.equal("r", dev:cmd(scsi.cdb.read_10 { lba = 0, length = 1 })
                      .data:sub(1, 1))
  end)
end)
