--- tcmu.cdb and tcmu.encode: the layouts and what is derived from them.
local cdb = require "tcmu.cdb"
local encode = require "tcmu.encode"
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"

local make = scsi.cdb

describe("CDB lengths", function()
  it("follow from the group of the opcode, vendors' groups included", function()
    local lengths = {}
    for opcode = 0x00, 0xE0, 0x20 do
      lengths[#lengths + 1] = cdb.length(string.char(opcode))
    end
    assert.same({ 6, 10, 10, 12, 16, 12, 10, 10 }, lengths)
  end)

  it("follow from byte 7 for opcode 7Fh", function()
    assert.equal(32, cdb.length("\x7F\0\0\0\0\0\0\x18"))
    assert.equal(8, cdb.length("\x7F"))
  end)
end)

describe("every layout", function()
  for _, layout in ipairs(cdb.all()) do
    it("is sound: " .. layout.name, function()
      assert.is_true(layout.direction == "in" or layout.direction == "out"
                     or layout.direction == "none")
      local taken = {}
      for _, field in ipairs(layout.fields) do
        for i = 0, field.width - 1 do
          local bit = field.byte * 8 + (7 - field.bit) + i
          assert.is_nil(taken[bit], field.name .. " overlaps")
          assert.is_true(bit < layout.length * 8, field.name .. " runs past")
          taken[bit] = true
        end
      end
    end)

    it("gives back what was encoded: " .. layout.name, function()
      local values, n = {}, 0
      for _, field in ipairs(layout.fields) do
        n = n + 1
        if field.name ~= "operation_code" and field.name ~= "service_action"
           and field.name ~= "additional_cdb_length" then
          values[field.name] = (n * 0x0123456789ABCDEF) & field.limit
        end
      end
      local bytes = encode.bytes(layout, values)
      assert.equal(layout.length, #bytes)
      assert.equal(layout, cdb.find(bytes))
      for name, value in pairs(values) do
        assert.equal(value, cdb.get(bytes, layout.field[name]), name)
      end
    end)
  end

  it("that takes a list or gives data has the length of it", function()
    for _, layout in ipairs(cdb.all()) do
      if layout.direction == "out" then
        assert.is_truthy(layout.parameter or layout.blocks
                         or layout.id == "format_unit"
                         or layout.id == "reassign_blocks", layout.name)
      elseif layout.direction == "in" then
        assert.is_truthy(layout.allocation or layout.blocks
                         or layout.id == "read_capacity_10", layout.name)
      end
    end
  end)
end)

describe("cdb.find", function()
  it("tells commands of one opcode apart by service action", function()
    assert.equal("READ CAPACITY (16)", cdb.find("\x9E\x10").name)
    assert.equal("GET LBA STATUS", cdb.find("\x9E\x12").name)
    assert.is_nil(cdb.find("\x9E\x1F"))
  end)

  it("reads the service action of 32-byte CDBs from bytes 8 and 9", function()
    assert.equal("READ (32)", cdb.find("\x7F\0\0\0\0\0\0\x18\0\9").name)
  end)

  it("knows nothing of vendors' opcodes", function()
    assert.is_nil(cdb.find("\xC1\0\0\0\0\0"))
  end)

  it("refuses a device type that has no tables", function()
    assert.has_error(function() cdb.find("\0", "dsik") end,
                     "no CDB layouts for 'dsik', did you mean 'disk'?")
  end)
end)

describe("scsi.cdb", function()
  -- Bytes as the standards' tables have them.
  local cases = {
    { "000000000000", make.test_unit_ready() },
    { "120183006000", make.inquiry { evpd = true, page_code = 0x83,
                                     length = 96 } },
    { "081fffff0800", make.read_6 { lba = 0x1FFFFF, length = 8 } },
    { "28180001020300000400", make.read_10 { lba = 0x10203, blocks = 4,
                                             dpo = true, fua = 1 } },
    { "a8000000000100000002" .. "0000", make.read_12 { lba = 1, blocks = 2 } },
    { "8a00" .. "ffffffffffffffff" .. "00000001" .. "0000",
      make.write_16 { lba = -1, blocks = 1 } },
    { "93090000000000000010" .. "00000020" .. "0000",
      make.write_same_16 { lba = 16, blocks = 32, unmap = true, ndob = true } },
    { "9e10000000000000000000000020" .. "0000",
      make.read_capacity_16 { length = 32 } },
    { "a30c839e0010" .. "000000ff" .. "0000",
      make.report_supported_operation_codes {
        rctd = true, reporting_options = 3, requested_operation_code = 0x9E,
        requested_service_action = 0x10, length = 255 } },
    { "5a104805" .. "000000" .. "0100" .. "00",
      make.mode_sense_10 { llbaa = true, pc = 1, page = 8, subpage_code = 5,
                           length = 256 } },
    { "4200000000000000" .. "1800", make.unmap { length = 24 } },
    { "89000000000000000005" .. "000000" .. "01" .. "0000",
      make.compare_and_write { lba = 5, blocks = 1 } },
    { "7f000000000000180009" .. "0800" .. "0000000000000007" .. "00000000"
      .. "0000" .. "0000" .. "00000003",
      make.read_32 { lba = 7, blocks = 3, fua = true } },
  }
  for _, case in ipairs(cases) do
    it("makes " .. case[1], function()
      assert.equal(case[1], hex(case[2]))
    end)
  end

  it("says which field was meant", function()
    assert.has_error(function() make.read_10 { transfer_lenght = 1 } end,
      "READ (10) has no field 'transfer_lenght', "
      .. "did you mean 'transfer_length'?")
  end)

  it("says which command was meant", function()
    assert.has_error(function() make.raed_10 {} end,
      "no command is called 'raed_10', did you mean 'read_10'?")
  end)

  it("refuses a number that does not fit the field", function()
    assert.has_error(function() make.read_10 { lba = 1 << 32 } end,
      "READ (10): logical_block_address must be a whole number from 0 to "
      .. "4294967295, not 4294967296")
    assert.has_error(function() make.read_10 { lba = -1 } end)
    assert.has_error(function() make.read_10 { lba = 0.5 } end)
    assert.has_error(function() make.inquiry { evpd = 2 } end)
  end)
end)

describe("usage data", function()
  it("have a bit for everything that is accepted and no more", function()
    assert.equal("281cffffffff1fffff00", hex(cdb.usage(cdb.by_id "read_10")))
    assert.equal("1201ffffff00", hex(cdb.usage(cdb.by_id "inquiry")))
  end)

  it("have the service action itself", function()
    assert.equal("9e100000000000000000ffffffff0000",
                 hex(cdb.usage(cdb.by_id "read_capacity_16")))
    assert.equal("7f000000" .. "00001f18" .. "0009",
                 hex(cdb.usage(cdb.by_id "read_32")):sub(1, 20))
  end)

  it("follow what the device can do", function()
    local layout = cdb.by_id "write_same_16"
    assert.equal(0x01, cdb.usage(layout, {}):byte(2))
    assert.equal(0x09, cdb.usage(layout, { unmap = true }):byte(2))
  end)
end)

describe("cdb.violation", function()
  local read = cdb.by_id "read_10"

  it("finds nothing in a CDB that keeps to the usage data", function()
    assert.is_nil(cdb.violation(read, make.read_10 { lba = 1, fua = true }))
  end)

  it("points to the leftmost bit of a field that must be 0", function()
    assert.same({ 1, 7 },
                { cdb.violation(read, make.read_10 { rdprotect = 1 }) })
  end)

  it("points to the very bit where no field is", function()
    assert.same({ 1, 1 }, { cdb.violation(read, "\x28\2\0\0\0\0\0\0\1\0") })
    assert.same({ 6, 7 }, { cdb.violation(read, "\x28\0\0\0\0\0\xC0\0\1\0") })
  end)

  it("points to NACA", function()
    assert.same({ 9, 2 }, { cdb.violation(read, make.read_10 { control = 4 }) })
  end)
end)
