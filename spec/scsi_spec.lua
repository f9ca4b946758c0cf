--- tcmu.scsi: the names of SCSI.
local scsi = require "tcmu.scsi"
local suggest = require "tcmu.suggest"

describe("tcmu.scsi", function()
  it("has operation codes by the standard's names", function()
    assert.same({ 0x00, 0x12, 0x28, 0x8A, 0x42, 0x89 },
                { scsi.TEST_UNIT_READY, scsi.INQUIRY, scsi.READ_10,
                  scsi.WRITE_16, scsi.UNMAP, scsi.COMPARE_AND_WRITE })
  end)

  it("has the opcodes that service actions share, and the actions", function()
    assert.same({ 0x9E, 0xA3, 0x7F, 0x48 },
                { scsi.SERVICE_ACTION_IN_16, scsi.MAINTENANCE_IN,
                  scsi.VARIABLE_LENGTH, scsi.SANITIZE })
    assert.equal(0x10, scsi.action.READ_CAPACITY_16)
    assert.equal(0x0C, scsi.action.REPORT_SUPPORTED_OPERATION_CODES)
  end)

  it("raises for a name that it does not have", function()
    assert.has_error(function() return scsi.INQIURY end,
                     "tcmu.scsi has no 'INQIURY', did you mean 'INQUIRY'?")
    assert.has_error(function() return scsi.action.READ_CAPACITY_61 end,
      "no service action is called 'READ_CAPACITY_61', "
      .. "did you mean 'READ_CAPACITY_16'?")
    assert.has_error(function() return scsi.status.BUSSY end,
                     "no status is called 'BUSSY', did you mean 'BUSY'?")
  end)

  it("builds vital product data pages", function()
    assert.equal("\0\x80\0\5LUA-1", scsi.vpd(0x80, "LUA-1"))
    assert.equal("\5\xC0\0\0", scsi.vpd(0xC0, "", 5))
  end)
end)

describe("a suggestion", function()
  it("is the nearest word of all lists", function()
    assert.equal("read", suggest.nearest("raed", { "read", "write" }))
    assert.equal("write", suggest.nearest("wriet", { "read" }, { write = 1 }))
  end)

  it("is not made when nothing is near", function()
    assert.is_nil(suggest.nearest("banana", { "read", "write" }))
    assert.equal("", suggest.hint("banana", { "read" }))
  end)
end)
