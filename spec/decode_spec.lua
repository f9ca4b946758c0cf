--- tcmu.decode: CDBs for people.
local decode = require "tcmu.decode"
local scsi = require "tcmu.scsi"

local make = scsi.cdb

describe("decode.fields", function()
  it("names fields as the standard does, single bits as booleans", function()
    local fields = decode.fields(make.inquiry { evpd = true, page_code = 0x80,
                                                length = 255 })
    assert.same({ operation_code = 0x12, evpd = true, page_code = 0x80,
                  allocation_length = 255, control = 0 }, fields)
  end)

  it("reads 64-bit addresses", function()
    local fields = decode.fields(make.read_16 { lba = 0x123456789ABCDEF0,
                                                blocks = 1 })
    assert.equal(0x123456789ABCDEF0, fields.logical_block_address)
  end)

  it("takes 0 for 256 blocks in READ (6) and nowhere else", function()
    assert.equal(256, decode.fields(make.read_6 { lba = 0 }).transfer_length)
    assert.equal(0, decode.fields(make.read_10 { lba = 0 }).transfer_length)
  end)

  it("is nil for what no layout describes", function()
    assert.is_nil(decode.fields("\xC1\0\0\0\0\0"))
  end)
end)

describe("decode.name", function()
  it("is the standard's name", function()
    assert.equal("READ CAPACITY (16)", decode.name(make.read_capacity_16()))
    assert.equal("COMPARE AND WRITE", decode.name("\x89"))
  end)

  it("is the best that can be said of the rest", function()
    assert.equal("opcode C1h", decode.name("\xC1\1"))
    assert.equal("SERVICE ACTION IN (16), service action 1Fh",
                 decode.name("\x9E\x1F"))
    assert.equal("VARIABLE LENGTH, service action 123h",
                 decode.name("\x7F\0\0\0\0\0\0\x18\x01\x23"))
  end)
end)

describe("decode.explain", function()
  local cases = {
    { make.test_unit_ready(),
      "TEST UNIT READY asks whether the device is ready." },
    { make.read_10 { lba = 2048, blocks = 8, fua = true },
      "READ (10) reads 8 blocks from LBA 2048, with FUA." },
    { make.write_6 { lba = 1, length = 1 },
      "WRITE (6) writes 1 block from LBA 1." },
    { make.inquiry { evpd = 1, page = 0x83, length = 96 },
      "INQUIRY with EVPD, PAGE CODE = 83h (Device Identification), "
      .. "ALLOCATION LENGTH = 96." },
    { make.inquiry { length = 36 }, "INQUIRY with ALLOCATION LENGTH = 36." },
    { make.inquiry { evpd = 1, length = 4 },
      "INQUIRY with EVPD, PAGE CODE = 00h (Supported VPD Pages), "
      .. "ALLOCATION LENGTH = 4." },
    { make.inquiry { page = 0x80, length = 36 },
      "INQUIRY with PAGE CODE = 80h (must be 0 without EVPD), "
      .. "ALLOCATION LENGTH = 36." },
    { make.mode_sense_6 { page = 8, pc = 1, length = 192 },
      "MODE SENSE (6) with PC = 1 (changeable values), PAGE CODE = 08h "
      .. "(Caching), ALLOCATION LENGTH = 192." },
    { "\x28\2\0\0", "READ (10) reads 0 blocks from LBA 0, with reserved bits "
      .. "02h in byte 1 (only 4 of its 10 bytes are here)." },
    { make.write_10 { blocks = 1, control = 4 },
      "WRITE (10) writes 1 block from LBA 0, with CONTROL = 04h (NACA)." },
    { "\xC1\0\0\0\0\0", "Opcode C1h is a command that no table here "
      .. "describes." },
    { "", "An empty CDB." },
  }
  for _, case in ipairs(cases) do
    it("says: " .. case[2], function()
      assert.equal(case[2], decode.explain(case[1]))
    end)
  end

  it("has one sentence for every possible first byte", function()
    for opcode = 0, 255 do
      for _, rest in ipairs { "", ("\0"):rep(31), ("\xFF"):rep(31) } do
        local text = decode.explain(string.char(opcode) .. rest)
        assert.matches("^%u.*%.$", text)
        assert.is_nil(text:find("\n"))
      end
    end
  end)
end)

describe("decode.table", function()
  it("has a row for each field in the order of the bytes", function()
    local rows = decode.table(make.read_10 { lba = 2048, blocks = 8 })
    local names = {}
    for i, row in ipairs(rows) do names[i] = row.field end
    assert.same({ "OPERATION CODE", "RDPROTECT", "DPO", "FUA", "RARC",
                  "LOGICAL BLOCK ADDRESS", "GROUP NUMBER", "TRANSFER LENGTH",
                  "CONTROL" }, names)
    assert.same({ byte = 2, bit = 7, width = 32, value = 2048, text = "2048",
                  field = "LOGICAL BLOCK ADDRESS", meaning = "" }, rows[6])
    assert.equal("READ (10)", rows[1].meaning)
    assert.equal("28h", rows[1].text)
  end)

  it("shows reserved bits that are not 0", function()
    local rows = decode.table("\x00\x00\x40\x00\x00\x00")
    assert.equal("RESERVED", rows[2].field)
    assert.equal(2, rows[2].byte)
    assert.equal("40h", rows[2].text)
  end)

  it("is nil for what no layout describes", function()
    assert.is_nil(decode.table("\xC1"))
  end)
end)
