--- tcmu.sense: values that commands are failed with, and their bytes.
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

describe("a sense value", function()
  it("carries key, code and qualifier of its name", function()
    local value = scsi.INVALID_FIELD_IN_CDB
    assert.same({ 0x02, 0x05, 0x24, 0x00 },
                { value.status, value.key, value.asc, value.ascq })
  end)

  it("has the key by which Linux knows that zones are short", function()
    for _, name in ipairs { "INSUFFICIENT_ZONE_RESOURCES",
                            "INSUFFICIENT_ZONE_RESOURCES_TO_COMPLETE_WRITE",
                            "WRITE_ERROR_INSUFFICIENT_ZONE_RESOURCES" } do
      assert.equal(0x7, scsi[name].key, name)       -- DATA PROTECT: ZBC 4.4.3
    end
  end)

  it("is the same object each time it is named", function()
    assert.equal(scsi.WRITE_PROTECTED, scsi.WRITE_PROTECTED)
    assert.is_true(rawequal(scsi.WRITE_PROTECTED, scsi.WRITE_PROTECTED))
  end)

  it("cannot be changed, not even in a field that it has", function()
    assert.has_error(function() scsi.WRITE_PROTECTED.key = 3 end)
    assert.has_error(function() scsi.WRITE_PROTECTED.colour = "red" end)
    assert.equal(7, scsi.WRITE_PROTECTED.key)
  end)

  it("leaves the original alone when it is given details", function()
    local value = scsi.INVALID_FIELD_IN_CDB:at(3, 4):info(9)
    assert.same({ byte = 3, bit = 4, cdb = true }, value.pointer)
    assert.equal(9, value.information)
    assert.is_nil(scsi.INVALID_FIELD_IN_CDB.pointer)
  end)

  it("means the same with and without details, but is not equal", function()
    local plain = scsi.MISCOMPARE_DURING_VERIFY_OPERATION
    local exact = plain:info(7)
    assert.is_true(exact:is(plain))
    assert.is_false(exact == plain)
    assert.is_true(exact == plain:info(7))
    assert.is_false(plain:is(scsi.WRITE_ERROR))
    assert.is_false(plain:is("MISCOMPARE"))
  end)

  it("survives error and pcall as itself", function()
    local ok, raised = pcall(error, scsi.WRITE_PROTECTED)
    assert.is_false(ok)
    assert.is_true(rawequal(raised, scsi.WRITE_PROTECTED))
    assert.is_true(sense.is(raised))
    assert.is_false(sense.is({ key = 5 }))
  end)

  it("can be made of any key and code", function()
    local value = sense.new(0x9, 0x80, 0x01)
    assert.same({ 9, 0x80, 1 }, { value.key, value.asc, value.ascq })
    assert.has_error(function() sense.new(16, 0, 0) end)
    assert.has_error(function() sense.new(5, 256, 0) end)
  end)

  it("has a name that says which is near when the name is wrong", function()
    assert.has_error(function() return scsi.WRITE_PROTECTD end,
      "tcmu.scsi has no 'WRITE_PROTECTD', did you mean 'WRITE_PROTECTED'?")
  end)
end)

describe("a status value", function()
  it("is of the same kind but has no sense data", function()
    assert.is_true(sense.is(scsi.status.BUSY))
    assert.equal(0x08, scsi.status.BUSY.status)
    assert.equal(0x28, scsi.status.TASK_SET_FULL.status)
    assert.equal("BUSY", tostring(scsi.status.BUSY))
    assert.has_error(function() sense.encode(scsi.status.BUSY) end)
  end)

  it("does not exist for CHECK CONDITION, which needs sense data", function()
    assert.has_error(function() return scsi.status.CHECK_CONDITION end)
  end)
end)

describe("sense data in fixed format", function()
  it("are 18 bytes with the code at 12 and 13", function()
    assert.equal("70000500000000" .. "0a" .. "00000000" .. "2400"
                 .. "00" .. "000000",
                 hex(sense.encode(scsi.INVALID_FIELD_IN_CDB)))
  end)

  it("point to byte and bit of the CDB", function()
    local bytes = sense.encode(scsi.INVALID_FIELD_IN_CDB:at(0x102, 3))
    assert.equal("cb0102", hex(bytes:sub(16, 18)))
  end)

  it("point to whole bytes without a bit", function()
    local bytes = sense.encode(scsi.INVALID_FIELD_IN_CDB:at(2))
    assert.equal("c00002", hex(bytes:sub(16, 18)))
  end)

  it("tell the parameter list from the CDB", function()
    local value = scsi.INVALID_FIELD_IN_PARAMETER_LIST:at_param(9, 7)
    assert.equal("8f0009", hex(sense.encode(value):sub(16, 18)))
  end)

  it("are VALID with INFORMATION of up to 32 bits", function()
    local bytes = sense.encode(scsi.UNRECOVERED_READ_ERROR:info(0xFFFFFFFF))
    assert.equal("f00003ffffffff", hex(bytes:sub(1, 7)))
  end)

  it("are not VALID where INFORMATION does not fit", function()
    local bytes = sense.encode(scsi.UNRECOVERED_READ_ERROR:info(1 << 32))
    assert.equal("70000300000000", hex(bytes:sub(1, 7)))
  end)

  it("have progress in the last two bytes", function()
    local value = scsi.LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS
    assert.equal("808000",
                 hex(sense.encode(value:progressing(0x8000)):sub(16, 18)))
  end)

  it("have filemark, end of medium and length in the key's byte", function()
    local value = scsi.FILEMARK_DETECTED:stream { filemark = true, eom = true }
    assert.equal(0xC0, sense.encode(value):byte(3))
    value = scsi.NO_ADDITIONAL_SENSE_INFORMATION:stream { ili = true }
    assert.equal(0x20, sense.encode(value):byte(3))
  end)
end)

describe("sense data in descriptor format", function()
  it("are 8 bytes when there are no details", function()
    assert.equal("7207270000000000",
                 hex(sense.encode(scsi.WRITE_PROTECTED, true)))
  end)

  it("carry INFORMATION of 64 bits", function()
    local bytes = sense.encode(scsi.WRITE_ERROR:info(1 << 40), true)
    assert.equal("72030c000000000c" .. "000a8000" .. "0000010000000000",
                 hex(bytes))
  end)

  it("carry the field pointer in its own descriptor", function()
    local bytes = sense.encode(scsi.INVALID_FIELD_IN_CDB:at(1, 4), true)
    assert.equal("7205240000000008" .. "02060000" .. "cc0001" .. "00",
                 hex(bytes))
  end)

  it("carry command-specific information and stream flags", function()
    local value = scsi.END_OF_DATA_DETECTED:specific(5):stream { ili = true }
    assert.equal("7200000500000010" .. "010a0000" .. "0000000000000005"
                 .. "04020020", hex(sense.encode(value, true)))
  end)
end)

describe("sense.decode", function()
  local detailed = {
    scsi.INVALID_FIELD_IN_CDB:at(1, 0),
    scsi.INVALID_FIELD_IN_PARAMETER_LIST:at_param(300),
    scsi.UNRECOVERED_READ_ERROR:info(77),
    scsi.COPY_TARGET_DEVICE_NOT_REACHABLE:specific(3),
    scsi.LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS:progressing(100),
    scsi.FILEMARK_DETECTED:stream { filemark = true }:info(4),
  }

  for _, format in ipairs { "fixed", "descriptor" } do
    it("gives back what was encoded in " .. format .. " format", function()
      for _, value in ipairs(detailed) do
        local back = sense.decode(sense.encode(value, format == "descriptor"))
        assert.equal(format, back.format)
        assert.equal(tostring(value), tostring(back))
        assert.is_true(back == value)
      end
    end)
  end

  it("knows deferred errors", function()
    local bytes = "\x71" .. sense.encode(scsi.WRITE_ERROR):sub(2)
    assert.is_true(sense.decode(bytes).deferred)
  end)

  it("reads short data without failing", function()
    for n = 3, 17 do
      local bytes = sense.encode(scsi.WRITE_ERROR:info(1)):sub(1, n)
      assert.equal(3, sense.decode(bytes).key)
    end
  end)

  it("ignores descriptors that are cut off or unknown", function()
    local bytes = sense.encode(scsi.WRITE_ERROR:info(1), true)
    for n = 8, #bytes - 1 do
      assert.is_nil(sense.decode(bytes:sub(1, n)).information)
    end
    local odd = "\x72\x03\x0C\0\0\0\0\x10\x7F\x02\0\0" .. bytes:sub(9)
    assert.equal(1, sense.decode(odd).information)
  end)

  it("says so when the bytes are no sense data", function()
    local value, message = sense.decode("")
    assert.is_nil(value)
    assert.matches("not sense data", message)
    assert.is_nil((sense.decode(("\0"):rep(18))))
  end)
end)

describe("sense.describe", function()
  it("is one sentence with names, codes and details", function()
    assert.equal("ILLEGAL REQUEST: INVALID FIELD IN CDB (24h/00h) "
                 .. "in CDB byte 1 bit 4",
                 sense.describe(scsi.INVALID_FIELD_IN_CDB:at(1, 4)))
    assert.equal("NOT READY: LOGICAL UNIT NOT READY, FORMAT IN PROGRESS "
                 .. "(04h/04h) at 50 %",
                 sense.describe(sense.encode(
                   scsi.LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS
                   :progressing(0x8000))))
  end)

  it("copes with codes that no table has", function()
    assert.equal("VENDOR SPECIFIC: a code without a name (80h/12h)",
                 sense.describe(sense.new(9, 0x80, 0x12)))
    assert.equal("HARDWARE ERROR: DIAGNOSTIC FAILURE ON COMPONENT 85h "
                 .. "(40h/85h)", sense.describe(sense.new(4, 0x40, 0x85)))
  end)
end)

describe("sense.from_errno", function()
  it("tells a full back end so that nobody tries again", function()
    local value = sense.from_errno("ENOSPC", true)
    assert.is_true(value:is(scsi.SPACE_ALLOCATION_FAILED_WRITE_PROTECT))
    assert.equal(7, value.key)
  end)

  it("tells a failed read from a failed write", function()
    assert.is_true(sense.from_errno("EIO"):is(scsi.UNRECOVERED_READ_ERROR))
    assert.is_true(sense.from_errno("EIO", true):is(scsi.WRITE_ERROR))
  end)

  it("takes numbers of either sign for the names", function()
    assert.is_true(sense.from_errno(-28, true):is(sense.from_errno("ENOSPC",
                                                                   true)))
    assert.is_true(sense.from_errno(30, true):is(scsi.WRITE_PROTECTED))
  end)

  it("answers BUSY where trying again helps", function()
    assert.is_true(sense.from_errno("ENOMEM", true):is(scsi.status.BUSY))
  end)

  it("takes what it does not know for a medium error", function()
    local value = sense.from_errno("EWHATEVER")
    assert.is_true(value:is(scsi.UNRECOVERED_READ_ERROR))
    assert.is_true(sense.from_errno(9999, true):is(scsi.WRITE_ERROR))
  end)

  it("names only constants that exist", function()
    for _, line in ipairs(require "tcmu.sense_errno") do
      assert.is_true(sense.is(sense.from_errno(line[1], false)), line[1])
      assert.is_true(sense.is(sense.from_errno(line[2], true)), line[1])
    end
  end)
end)
