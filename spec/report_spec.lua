--- LOG SENSE and the reports of SPC-4 about the device as such.
local commands = require "spec.commands"
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb

describe("a disk", function()
  local dev

  local function open(options, path)
    options = options or {}
    options.size = 8 << 20
    dev = assert(sim.device(path or "handlers/ram.lua", options))
  end
  before_each(function() open() end)
  after_each(function() dev:close() end)

  describe("asked for LOG SENSE", function()
    local function log(fields)
      fields.length, fields.pc = fields.length or 255, fields.pc or 1
      return dev:cmd(make.log_sense(fields))
    end

    it("lists its pages, and all of them with subpages", function()
      assert.equal("00000003" .. "000c2f", hex(log { page_code = 0 }.data))
      assert.equal("40ff0008" .. "0000" .. "00ff" .. "0c00" .. "2f00",
                   hex(log { page_code = 0, subpage_code = 0xFF }.data))
    end)

    it("counts the space in use in sets of the size that page B2h tells",
    function()
      assert.equal("0c00000c" .. "00020308" .. "00000000" .. "01000000",
                   hex(log { page_code = 0x0C }.data))
      dev:cmd(make.write_10 { lba = 0, blocks = 1 }, ("x"):rep(512))
      dev:cmd(make.write_10 { lba = 4096, blocks = 2048 },
              ("x"):rep(1 << 20))
      assert.equal("00000002", hex(log { page_code = 0x0C }.data):sub(17, 24))
    end)

    it("counts no space in use that lies behind the last block", function()
      dev:close()
      local path <const> = os.tmpname()
      finally(function() os.remove(path) end)
      local f = assert(io.open(path, "wb"))
      f:write(("x"):rep(10 << 20))
      f:close()
      open({ options = "path=" .. path }, "handlers/file.lua")
      assert.equal("00000008", hex(log { page_code = 0x0C }.data):sub(17, 24))
    end)

    it("has no exception to tell", function()
      assert.equal("2f000008" .. "00000304" .. "0000ff00",
                   hex(log { page_code = 0x2F }.data))
    end)

    it("refuses what it does not have", function()
      assert.has.sense(log { page_code = 0x0D },
                       scsi.INVALID_FIELD_IN_CDB, 2, 5)
      assert.has.sense(log { page_code = 0x2F, subpage_code = 1 },
                       scsi.INVALID_FIELD_IN_CDB, 3)
      assert.has.sense(log { page_code = 0x2F, parameter_pointer = 1 },
                       scsi.INVALID_FIELD_IN_CDB, 5)
      assert.has.sense(log { page_code = 0x2F, sp = true },
                       scsi.INVALID_FIELD_IN_CDB, 1, 0)
    end)

    it("has lists of parameters only, for which PC means nothing", function()
      for _, page in ipairs { 0x0C, 0x2F } do
        local now = log { page_code = page, pc = 1 }
        assert.is.good(now)
        for pc = 0, 3 do
          assert.equal(now.data, log { page_code = page, pc = pc }.data)
        end
      end
    end)

    it("does not count what nobody counts", function()
      dev:close()
      open(nil, "handlers/ramdisk.lua")
      assert.equal("00000002" .. "002f", hex(log { page_code = 0 }.data))
    end)
  end)

  it("has ABORT TASK and LOGICAL UNIT RESET, which are the kernel's", function()
    local command = make.report_supported_task_management_functions
    assert.equal("88000000", hex(dev:cmd(command { length = 64 }).data))
    assert.equal("8800000c" .. ("00"):rep(12),
                 hex(dev:cmd(command { length = 64, repd = true }).data))
    assert.has.sense(dev:cmd(command { length = 3 }),
                     scsi.INVALID_FIELD_IN_CDB, 6)
  end)

  it("tells a unit attention in the data of REQUEST SENSE, and then no more",
  function()
    -- SPC-4 6.39; INQUIRY leaves it alone.
    assert.equal(0, (dev:change("size", { size = 16 << 20 })))
    assert.is.good(dev:cmd(make.inquiry { length = 36 }))
    local r = dev:cmd(make.request_sense { length = 18 })
    assert.is.good(r)
    assert.is_true(sense.decode(r.data):is(scsi.CAPACITY_DATA_HAS_CHANGED))
    assert.equal(0, sense.decode(dev:cmd(make.request_sense
                                         { length = 18 }).data).key)
    assert.is.good(dev:cmd(make.test_unit_ready()))
  end)

  it("tells nothing of a status that others shall get, and leaves it to them",
  function()
    local on <const> = [[=busy
      local tcmu = require "tcmu"
      local scsi = require "tcmu.scsi"
      return tcmu.handler { name = "busy",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = {
          [0xC1] = function(_, cmd)
            cmd.dev:set { attention = scsi.status.BUSY }
          end,
          [0xC2] = function(_, cmd)
            cmd.dev:set { not_ready = function(other)
              if other.opcode == scsi.TEST_UNIT_READY then
                error(scsi.status.BUSY)
              end
            end }
          end,
        } }]]
    local busy <close> = assert(sim.device(on))
    local function told()
      local r = busy:cmd(make.request_sense { length = 18 })
      assert.is.good(r)
      return sense.decode(r.data).key
    end
    assert.is.good(busy:cmd(commands.vendor(0xC1)))
    assert.equal(0, told())
    assert.has.status(busy:cmd(make.test_unit_ready()), 0x08)
    assert.is.good(busy:cmd(commands.vendor(0xC2)))
    assert.equal(0, told())
    assert.has.status(busy:cmd(make.test_unit_ready()), 0x08)
  end)

  it("tells the time, and takes another", function()
    local function ask()
      local r = dev:cmd(make.report_timestamp { length = 12 })
      local length, origin, ms = string.unpack(">I2BxI6", r.data)
      assert.equal(10, length)
      return ms, origin
    end
    local before = os.time()
    local ms, origin = ask()
    assert.equal(3, origin)
    assert.is_true(ms >= before * 1000 and ms < (os.time() + 2) * 1000)
    local never = dev:cmd(make.set_timestamp { length = 12 },
                          "\0\0\0\0\xF1\0\0\0\x10\0\0\0")
    assert.has.sense(never, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    assert.equal(4, never.sense.pointer.byte)
    assert.equal(3, select(2, ask()))
    assert.is.good(dev:cmd(make.set_timestamp { length = 12 },
                           "\0\0\0\0\0\0\0\0\x10\0\0\0"))
    ms, origin = ask()
    assert.equal(2, origin)
    assert.is_true(ms >= 4096 and ms < 10000)
    assert.has.sense(dev:cmd(make.set_timestamp { length = 8 },
                             ("\0"):rep(8)), scsi.PARAMETER_LIST_LENGTH_ERROR)
  end)

  describe("asked for identifying information", function()
    local function ask(kind)
      return dev:cmd(make.report_identifying_information {
        information_type = kind, length = 300 })
    end
    local function set(kind, text)
      return dev:cmd(make.set_identifying_information {
        information_type = kind, length = #text }, text)
    end

    it("says which types there are", function()
      -- The type is in the upper seven bits of a descriptor.
      assert.equal("00000008" .. "00000040" .. "04000100",
                   hex(ask(0x7F).data))
      assert.has.sense(ask(1), scsi.INVALID_FIELD_IN_CDB, 10, 7)
    end)

    it("gives back what it was given, after a restart too", function()
      local directory = os.tmpname()
      os.remove(directory)
      assert(os.execute("mkdir " .. directory))
      dev:close()
      open { name = "disk", state_dir = directory }
      assert.equal("\0\0\0\0", ask(0).data)
      assert.is.good(set(0, "shelf 7"))
      assert.is.good(set(2, "Bücher\0"))
      dev:close()
      open { name = "disk", state_dir = directory }
      assert.equal("\0\0\0\7shelf 7", ask(0).data)
      assert.equal("\0\0\0\8Bücher\0", ask(2).data)
      assert.is.good(set(0, ""))
      assert.equal("\0\0\0\0", ask(0).data)
      os.execute("rm -r " .. directory)
    end)

    it("takes no more than it says, and no text that is none", function()
      assert.has.sense(set(0, ("x"):rep(65)), scsi.INVALID_FIELD_IN_CDB, 6)
      for _, text in ipairs { "no end", "\xFF\0" } do
        assert.has.sense(set(2, text), scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      end
    end)
  end)
end)
