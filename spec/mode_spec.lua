--- MODE SENSE and MODE SELECT of tcmu.disk.
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local SIZE <const> = 1 << 20

-- A disk with a cache: flush is what it takes to have one.
local CACHED <const> = [[=cached
local tcmu = require "tcmu"
return tcmu.handler { name = "cached",
  open = function() return { flushes = 0 } end,
  read = function(_, cmd) cmd.data:fill(0) end,
  write = function() end,
  flush = function(self) self.flushes = self.flushes + 1 end,
  on = { [0xC0] = function(self)
    return string.pack(">I4", self.flushes)
  end },
}
]]

local CACHING <const> = "\x08\x12"
local CONTROL <const> = "\x0A\x0A"

describe("mode parameters", function()
  local dev

  local function open(options, path)
    options = options or {}
    options.size = options.size or SIZE
    dev = assert(sim.device(path or CACHED, options))
  end
  after_each(function() dev:close() end)

  local function sense6(fields)
    fields.length = fields.length or 255
    local r = dev:cmd(make.mode_sense_6(fields))
    assert.is.good(r)
    return r.data
  end

  local function page(code, pc)
    return sense6 { page = code, pc = pc, dbd = true }:sub(5)
  end

  -- MODE SELECT (6) of one page.
  local function select(text)
    local list = "\0\0\0\0" .. text
    return dev:cmd(make.mode_select_6 { pf = true, length = #list }, list)
  end

  local function caching(byte) return CACHING .. byte .. ("\0"):rep(17) end

  it("come with a header, a block descriptor and all pages in order",
  function()
    open()
    local data = sense6 { page = 0x3F }
    assert.equal(#data - 1, data:byte(1))
    assert.equal("0010" .. "08" .. "0000080000000200", hex(data:sub(2, 12)))
    assert.equal("010a" .. ("00"):rep(10) .. "0812" .. "04" .. ("00"):rep(17)
                 .. "0a0a" .. "0210004000" .. "00ffff0000"
                 .. "1c0a" .. "08" .. ("00"):rep(9), hex(data:sub(13)))
  end)

  it("come without a descriptor when DBD is set", function()
    open()
    assert.equal("170010000812", hex(sense6 { page = 8, dbd = true }:sub(1, 6)))
  end)

  it("come in the long form of MODE SENSE (10)", function()
    open { size = 4 << 40 }
    local r = dev:cmd(make.mode_sense_10 { page = 8, length = 255 })
    assert.equal("0022" .. "0010" .. "0000" .. "0008" .. "ffffffff00000200"
                 .. "0812", hex(r.data:sub(1, 18)))
    r = dev:cmd(make.mode_sense_10 { page = 8, llbaa = true, length = 255 })
    assert.equal("002a" .. "0010" .. "0100" .. "0010" .. "0000000200000000"
                 .. "00000000" .. "00000200" .. "0812", hex(r.data:sub(1, 26)))
  end)

  it("are cut to the allocation length, the header telling all", function()
    open()
    local data = sense6 { page = 0x3F, length = 4 }
    assert.equal(4, #data)
    assert.equal(67, data:byte(1))
  end)

  it("say which bits can be changed: WCE, D_SENSE and SWP", function()
    open()
    assert.equal("0812" .. "04" .. ("00"):rep(17), hex(page(8, 1)))
    assert.equal("0a0a" .. "040008" .. ("00"):rep(7), hex(page(10, 1)))
    assert.equal("010a" .. ("00"):rep(10), hex(page(1, 1)))
  end)

  it("have no cache to switch where the handler cannot flush", function()
    open({ write_cache = true }, "handlers/ramdisk.lua")
    assert.equal(0, page(8):byte(3))
    assert.equal(0, page(8, 1):byte(3))
    assert.has.sense(select(caching "\x04"),
                     scsi.INVALID_FIELD_IN_PARAMETER_LIST)
  end)

  it("are never saved", function()
    open()
    assert.has.sense(dev:cmd(make.mode_sense_6 { page = 8, pc = 3,
                                                 length = 255 }),
                     scsi.SAVING_PARAMETERS_NOT_SUPPORTED)
    assert.has.sense(dev:cmd(make.mode_select_6 { pf = true, sp = true }),
                     scsi.INVALID_FIELD_IN_CDB, 1, 0)
  end)

  it("do not exist for pages and subpages that are not there", function()
    open()
    assert.has.sense(dev:cmd(make.mode_sense_6 { page = 9, length = 255 }),
                     scsi.INVALID_FIELD_IN_CDB, 2, 5)
    for code, subpage in pairs { [10] = 2, [8] = 1, [0x3F] = 1 } do
      assert.has.sense(dev:cmd(make.mode_sense_6 { page = code,
                                                   subpage_code = subpage,
                                                   length = 255 }),
                       scsi.INVALID_FIELD_IN_CDB, 3)
    end
    assert.is.good(dev:cmd(make.mode_sense_6 { page = 0x3F,
                                               subpage_code = 0xFF,
                                               length = 255 }))
  end)

  it("have subpages, with a header of their own", function()
    open()
    local want = "4a01001c" .. "060060" .. ("00"):rep(25)
    for _, code in ipairs { 0x01, 0xFF } do
      local data = sense6 { page = 10, subpage_code = code, dbd = true }
      assert.equal(want, hex(data:sub(-32)))
    end
    assert.equal("0a0a", hex(sense6 { page = 10, subpage_code = 0xFF,
                                      dbd = true }:sub(5, 6)))
  end)

  it("say who sets the clock, and whether the kernel moves ports", function()
    -- TCMOS and SCSIP, without which SET TIMESTAMP were illegal; IALUAE.
    local function extension()
      return sense6 { page = 10, subpage_code = 1, dbd = true }:byte(9)
    end
    open()
    assert.equal(0x06, extension())
    dev:change("alua", { groups = "16 0 1 11 0 1 1 1" })
    assert.equal(0x07, extension())
    dev:change("alua", { groups = "16 0 1 11 0 0 1 1" })
    assert.equal(0x06, extension())
    dev:close()
    open({}, [[=stopped
      local tcmu = require "tcmu"
      local scsi = require "tcmu.scsi"
      return tcmu.handler { name = "stopped",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = { [scsi.MAINTENANCE_OUT] = {
          [scsi.action.SET_TIMESTAMP] = false } } }]])
    assert.equal(0x04, extension())
  end)

  it("have the thresholds of provisioning where space is counted", function()
    open({}, "handlers/ram.lua")
    assert.equal("5c02000c" .. ("00"):rep(12),
                 hex(sense6 { page = 0x1C, subpage_code = 2 }:sub(13)))
  end)

  it("show write protection", function()
    open({ read_only = true }, "handlers/ram.lua")
    assert.equal(0x90, sense6 { page = 8 }:byte(3))
  end)

  describe("that are selected", function()
    it("switch the write cache, and flush it before it is off", function()
      open { write_cache = true }
      assert.is.good(select(caching "\0"))
      assert.equal(0x00, page(8):byte(3))
      local r = dev:cmd("\xC0" .. ("\0"):rep(9), { data_in = 4 })
      assert.equal("\0\0\0\1", r.data)
      dev:cmd(make.write_10 { blocks = 1 }, ("x"):rep(512))
      r = dev:cmd("\xC0" .. ("\0"):rep(9), { data_in = 4 })
      assert.equal("\0\0\0\2", r.data)
      assert.is.good(select(caching "\x04"))
      assert.equal(0x04, page(8):byte(3))
    end)

    it("leave the default values alone", function()
      open { write_cache = true }
      select(caching "\0")
      assert.equal(0x04, page(8, 2):byte(3))
    end)

    it("choose the format of sense data", function()
      open()
      local bad = make.read_10 { lba = SIZE, blocks = 1 }
      assert.equal("fixed", dev:cmd(bad).sense.format)
      assert.is.good(select(CONTROL .. "\x06\x10\0\x40\0\0\xFF\xFF\0\0"))
      assert.equal("descriptor", dev:cmd(bad).sense.format)
      assert.equal(0x06, page(10):byte(3))
    end)

    it("write-protect the medium until they allow writing again", function()
      open({}, "handlers/ram.lua")
      local write = make.write_10 { blocks = 1 }
      assert.is.good(select(CONTROL .. "\2\x10\8\x40\0\0\xFF\xFF\0\0"))
      assert.equal(0x90, sense6 { page = 8 }:byte(3))
      assert.equal(0x08, page(10):byte(5))
      assert.has.sense(dev:cmd(write, ("x"):rep(512)),
                       scsi.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED)
      assert.is.good(select(CONTROL .. "\2\x10\0\x40\0\0\xFF\xFF\0\0"))
      assert.equal(0x10, sense6 { page = 8 }:byte(3))
      assert.is.good(dev:cmd(write, ("x"):rep(512)))
    end)

    it("may be subpages", function()
      open()
      local same = "\x4A\1\0\x1C\6\0\x60" .. ("\0"):rep(25)
      assert.is.good(select(same))
      local r = select("\x4A\1\0\x1C\6\0\x40" .. ("\0"):rep(25))
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.same({ byte = 10, bit = 5, cdb = false }, r.sense.pointer)
    end)

    it("may come with MODE SELECT (10) and its descriptors", function()
      open { write_cache = true }
      local short = string.pack(">I2BBBBs2", 0, 0, 0, 0, 0,
                                string.pack(">I4I4", 2048, 512))
      local long = string.pack(">I2BBBBs2", 0, 0, 0, 1, 0,
                               string.pack(">I8I4I4", 2048, 0, 512))
      for i, header in ipairs { short, long } do
        local list = header .. caching(i == 1 and "\0" or "\x04")
        assert.is.good(dev:cmd(make.mode_select_10 { pf = true,
                                                     length = #list }, list))
        assert.equal(i == 1 and 0 or 4, page(8):byte(3))
      end
    end)

    it("change nothing when one of them is wrong", function()
      open { write_cache = true }
      local r = select(caching "\0" .. CONTROL .. ("\0"):rep(10))
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.same({ byte = 26, bit = 1, cdb = false }, r.sense.pointer)
      assert.equal(0x04, page(8):byte(3))
    end)

    it("are refused with a pointer to the field", function()
      open { write_cache = true }
      local cases = {
        { caching "\x05", 6, 0 },               -- RCD cannot be changed
        { "\x08\x11" .. ("\0"):rep(17), 5 },    -- length of the page
        { "\x09\x02\0\0", 4 },                  -- no such page
        { "\x88\x12" .. ("\0"):rep(18), 4 },    -- PS
      }
      for _, case in ipairs(cases) do
        local r = select(case[1])
        assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
        assert.same({ byte = case[2], bit = case[3], cdb = false },
                    r.sense.pointer)
      end
    end)

    it("cannot change the number or the size of blocks", function()
      open()
      for _, descriptor in ipairs { string.pack(">I4I4", 2047, 512),
                                    string.pack(">I4I4", 2048, 1024) } do
        local list = "\0\0\0\8" .. descriptor
        assert.has.sense(dev:cmd(make.mode_select_6 { pf = true,
                                                      length = #list }, list),
                         scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      end
      local list = "\0\0\0\8" .. string.pack(">I4I4", 0, 512)
      assert.is.good(dev:cmd(make.mode_select_6 { pf = true, length = #list },
                             list))
    end)

    it("are refused when they are cut off", function()
      open()
      local list = "\0\0\0\0" .. caching "\x04"
      for n = 1, #list - 1 do
        local r = dev:cmd(make.mode_select_6 { pf = true, length = n },
                          list:sub(1, n))
        if n == 4 then assert.is.good(r)
        else assert.has.sense(r, scsi.PARAMETER_LIST_LENGTH_ERROR) end
      end
      assert.is.good(dev:cmd(make.mode_select_6 { pf = true }))
      assert.has.sense(dev:cmd(make.mode_select_6 { pf = true,
                                                    length = #list },
                               list:sub(1, 8)),
                       scsi.INVALID_FIELD_IN_CDB, 4)
    end)

    it("must be pages, not a vendor's own format", function()
      open()
      local list = "\0\0\0\0" .. caching "\x04"
      assert.has.sense(dev:cmd(make.mode_select_6 { length = #list }, list),
                       scsi.INVALID_FIELD_IN_CDB, 1, 4)
    end)
  end)
end)
