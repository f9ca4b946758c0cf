--- REPORT SUPPORTED OPERATION CODES: what is told is what is answered.
local cdb = require "tcmu.cdb"
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb

describe("REPORT SUPPORTED OPERATION CODES", function()
  local dev

  local function open(path, options)
    dev = assert(sim.device(path or "handlers/ram.lua",
                            options or { size = 1 << 20 }))
  end
  after_each(function() dev:close() end)

  local function ask(fields)
    fields.length = fields.length or 4096
    return dev:cmd(make.report_supported_operation_codes(fields))
  end

  local function one(opcode, action, option)
    local r = ask { reporting_options = option or 3,
                    requested_operation_code = opcode,
                    requested_service_action = action or 0 }
    assert.is.good(r)
    return hex(r.data)
  end

  -- "28", "9e/10" and so on, in the order of the list.
  local function all(rctd)
    local r = ask { rctd = rctd }
    assert.is.good(r)
    assert.equal(#r.data - 4, (string.unpack(">I4", r.data)))
    local step = rctd and 20 or 8
    local list, lengths = {}, {}
    for at = 5, #r.data, step do
      local opcode, action, flags, length =
        string.unpack(">BxI2xBI2", r.data, at)
      assert.equal(rctd and 2 or 0, flags & 2)
      local name = flags & 1 == 1 and ("%02x/%02x"):format(opcode, action)
                   or ("%02x"):format(opcode)
      list[#list + 1], lengths[name] = name, length
    end
    return list, lengths
  end

  it("lists the commands of a disk", function()
    open()
    assert.equal("00 03 04 08 0a 12 15 16 17 1a 1b 25 28 2a 2e 2f 34 37 41 42 "
      .. "48/01 48/02 48/1f 4d 55 56 57 5a 5e/00 5e/01 5e/02 5e/03 5f/00 5f/01 "
      .. "5f/02 5f/03 5f/04 5f/05 5f/06 5f/07 7f/09 7f/0a 7f/0b 7f/0c 7f/0d "
      .. "83/00 83/01 83/10 83/11 83/1c 84/00 84/03 84/04 84/05 84/07 "
      .. "88 89 8a 8b 8e 8f 90 93 9c 9e/10 9e/12 a0 a3/05 a3/0c a3/0d a3/0f "
      .. "a4/06 a4/0f a8 aa ae af b7",
      table.concat(all(), " "))
  end)

  it("lists reservations only while the kernel answers them", function()
    open(nil, { size = 1 << 20, reservations = false })
    local list = table.concat(all(), " ")
    for _, code in ipairs { "16", "17", "56", "57", "5e", "5f" } do
      assert.is_nil((" " .. list):find(" " .. code))
    end
    assert.matches("a0", list)
  end)

  it("lists SYNCHRONIZE CACHE where there is something to flush", function()
    open [[=cached
      local tcmu = require "tcmu"
      return tcmu.handler { name = "cached", flush = function() end,
        read = function(_, cmd) cmd.data:fill(0) end,
        write = function() end }]]
    local list = table.concat(all(), " ")
    assert.matches("35", list)
    assert.matches("91", list)
    assert.is_nil(list:find("42"))          -- and no UNMAP without unmap
  end)

  it("has the length of every CDB", function()
    open()
    local _, lengths = all()
    for name, length in pairs(lengths) do
      local opcode = tonumber(name:sub(1, 2), 16)
      local want = opcode == 0x7F and 32 or cdb.length(string.char(opcode))
      assert.equal(want, length, name)
    end
  end)

  it("adds a timeouts descriptor to each when asked", function()
    open()
    assert.same(all(false), (all(true)))
    local r = ask { rctd = true, reporting_options = 1,
                    requested_operation_code = 0x12 }
    assert.equal("0083" .. "0006" .. "1201ffffff00" .. "000a"
                 .. ("00"):rep(10), hex(r.data))
  end)

  it("gives usage data for one command", function()
    open()
    assert.equal("0003" .. "000a" .. "281cffffffff1fffff00", one(0x28, 0, 1))
    assert.equal("0003" .. "0010" .. "9e10000000000000" .. "0000ffffffff0000",
                 one(0x9E, 0x10, 2))
    assert.equal("0003" .. "0006" .. "1201ffffff00", one(0x12))
    assert.equal("0003" .. "0010" .. "9309" .. ("ff"):rep(12) .. "1f00",
                 one(0x93))
  end)

  it("accepts every bit of the usage data, and no other", function()
    open()
    for _, opcode in ipairs { 0x28, 0x88, 0x12, 0x1A, 0x25 } do
      local usage = one(opcode):sub(9):gsub("%x%x", function(pair)
        return string.char(tonumber(pair, 16))
      end)
      for byte = 2, #usage do
        for bit = 0, 7 do
          if usage:byte(byte) & 1 << bit == 0 then
            local bytes = { string.byte(("\0"):rep(#usage), 1, -1) }
            bytes[1], bytes[byte] = opcode, 1 << bit
            local r = dev:cmd(string.char(table.unpack(bytes)),
                              { data_in = 512 })
            assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB)
            assert.equal(byte - 1, r.sense.pointer.byte)
          end
        end
      end
    end
  end)

  it("says of others that they are not supported", function()
    open()
    assert.equal("00010000", one(0x4C))
    assert.equal("00010000", one(0xC1))
    assert.equal("00010000", one(0x9E, 0x1F))
    assert.equal("00010000", one(0xC1, 0, 2))
  end)

  it("refuses the wrong question about service actions", function()
    open()
    local function wrong(option, opcode)
      assert.has.sense(ask { reporting_options = option,
                             requested_operation_code = opcode },
                       scsi.INVALID_FIELD_IN_CDB, 3)
    end
    wrong(1, 0x9E)
    wrong(2, 0x12)
    assert.has.sense(ask { reporting_options = 4 },
                     scsi.INVALID_FIELD_IN_CDB, 2, 2)
  end)

  it("is cut to the allocation length", function()
    open()
    assert.equal(10, #ask { length = 10 }.data)
  end)

  it("follows what a handler adds, takes over and switches off", function()
    open [[=own
      local tcmu = require "tcmu"
      local scsi = require "tcmu.scsi"
      return tcmu.handler { name = "own",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = {
          [0xC1] = function() end,
          [scsi.LOG_SELECT] = function() end,
          [scsi.INQUIRY] = function(_, cmd) return cmd:default() end,
          [scsi.UNMAP] = false,
          [scsi.MAINTENANCE_IN] = {
            [scsi.action.REPORT_TIMESTAMP] = function() return "now" end,
          [scsi.action.REPORT_ALIASES] = function() return "none" end,
          },
        } }]]
    local list = table.concat(all(), " ")
    assert.matches("41 48/01.* 4c 4d 55", list)
    assert.matches("a3/0b a3/0c a3/0d a3/0f", list)
    assert.matches("c1$", list)
    assert.equal("0005" .. "000a" .. "c1ffffffffffffffff00", one(0xC1))
    assert.equal("0003", one(0x12):sub(1, 4))
    assert.equal("00010000", one(0x42))
    assert.equal("now", dev:cmd(make.report_timestamp { length = 9 }).data)
  end)

  it("leaves out what a bare device does not answer", function()
    open([[=bare
      local tcmu = require "tcmu"
      return tcmu.handler { name = "bare", device = tcmu.bare,
        on = { [0xA3] = { [0x0C] = require("tcmu.disk").on[0xA3][0x0C] } } }]])
    assert.equal("00 03 12 16 17 56 57", table.concat(all(), " "):sub(1, 20))
    assert.matches("5f/07 a0 a3/0c$", table.concat(all(), " "))
  end)
end)
