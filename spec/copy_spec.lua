--- EXTENDED COPY and RECEIVE COPY RESULTS.
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local BLOCKS <const> = 8192
local segment <const>, numbered <const> = lists.segment, lists.numbered
local lid1 <const>, lid4 <const> = lists.lid1, lists.lid4
local COPY_ABORTED <const> = sense.new(0x0A, 0, 0)
local CLEARED <const> = sense.new(0x0A, 0x2F, 0x02)
local IMMED <const>, G_SENSE <const> = 1, 2     -- of LID4
local HOLD <const>, RESERVED <const>, NO_ID <const> = 0, 1, 3  -- LIST ID USAGE

describe("EXTENDED COPY", function()
  local dev, designators

  local function open(path)
    dev = assert(sim.device(path or "handlers/ram.lua", {
      size = BLOCK * BLOCKS, serial = "0123456789abcdef" }))
    designators = lists.names(dev)
  end
  before_each(function() open() end)
  after_each(function() dev:close() end)

  local function target(designator)
    return lists.target(designator or designators[2])
  end

  local function copy(list, command)
    return dev:cmd(make[command or "extended_copy_lid1"] { length = #list },
                   list)
  end

  local function write(lba, data)
    dev:cmd(make.write_16 { lba = lba, blocks = #data // BLOCK }, data)
  end

  local function read(lba, n)
    return dev:cmd(make.read_16 { lba = lba, blocks = n }).data
  end

  it("copies from one place of the disk to another", function()
    for _, designator in ipairs(designators) do
      if #designator <= 24 then
        local data = numbered(300)
        write(0, data)
        assert.is.good(copy(lid1(target(designator),
                                 segment(0, 0, 300, 0, 5000))))
        assert.equal(data, read(5000, 300))
        write(5000, ("\0"):rep(#data))
      end
    end
  end)

  it("copies in Lua as well, and by the long form", function()
    dev:close()
    open "handlers/ramdisk.lua"
    local data = numbered(5)
    write(7, data)
    assert.is.good(copy(lid4(target(), segment(0, 0, 5, 7, 100), 1 << 20),
                        "extended_copy_lid4"))
    assert.equal(data, read(100, 5))
  end)

  it("copies what overlaps as if it did not", function()
    local data = numbered(4000)
    for _, to in ipairs { 10, 100 } do
      write(50, data:sub(1, 2000 * BLOCK))
      write(2050, data:sub(2000 * BLOCK + 1))
      assert.is.good(copy(lid1(target(), segment(0, 0, 4000, 50, to))))
      assert.is_true(data == read(to, 2000) .. read(to + 2000, 2000))
    end
  end)

  it("does its segments in order", function()
    write(0, ("a"):rep(BLOCK))
    assert.is.good(copy(lid1(target(), segment(0, 0, 1, 0, 1)
                                       .. segment(0, 0, 2, 0, 2))))
    assert.equal(("a"):rep(4 * BLOCK), read(0, 4))
  end)

  it("does nothing for an empty list", function()
    assert.is.good(dev:cmd(make.extended_copy_lid1 { length = 0 }))
  end)

  it("refuses lists that are cut off, and what exceeds its limits", function()
    local list = lid1(target(), segment(0, 0, 1, 0, 1))
    for n = 1, #list - 1 do
      assert.has.sense(copy(list:sub(1, n)), scsi.PARAMETER_LIST_LENGTH_ERROR)
    end
    assert.has.sense(copy(lid1(target():rep(9), "")),
                     scsi.TOO_MANY_TARGET_DESCRIPTORS)
    assert.has.sense(copy(lid1(target(), segment(0, 0, 0, 0, 0):rep(65))),
                     scsi.TOO_MANY_SEGMENT_DESCRIPTORS)
    assert.has.sense(copy(lid1(target():rep(9),
                               segment(0, 0, 0, 0, 0):rep(65))),
                     scsi.PARAMETER_LIST_LENGTH_ERROR)
  end)

  it("refuses descriptors that it does not know", function()
    local good = segment(0, 0, 1, 0, 1)
    assert.has.sense(copy(lid1("\xE0" .. target():sub(2), good)),
                     scsi.UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE)
    assert.has.sense(copy(lid1(target(), "\x03" .. good:sub(2))),
                     scsi.UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE)
    local r = copy(lid1(target():sub(1, 30) .. "\4\0", good))
    assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    assert.equal(16 + 29, r.sense.pointer.byte)
  end)

  it("copies nothing if a segment cannot be copied, and says which", function()
    write(0, ("a"):rep(BLOCK))
    local good = segment(0, 0, 1, 0, 1)
    local cases = {
      [segment(0, 1, 1, 0, 2)] = scsi.COPY_TARGET_DEVICE_NOT_REACHABLE,
      [segment(0, 0, 2, 0, BLOCKS - 1)] = COPY_ABORTED,
      [segment(0, 0, 2, BLOCKS, 0)] = COPY_ABORTED,
    }
    for bad, want in pairs(cases) do
      local r = copy(lid1(target(), good .. bad))
      assert.has.sense(r, want)
      assert.equal(1, r.sense.command_specific)
      assert.equal(("\0"):rep(BLOCK), read(1, 1))
    end
    local stranger = designators[2]:sub(1, -2) .. "\x77"
    assert.has.sense(copy(lid1(target(stranger), good)),
                     scsi.COPY_TARGET_DEVICE_NOT_REACHABLE)
  end)

  it("leaves its result until somebody has asked", function()
    local function status(id)
      return dev:cmd(make.receive_copy_status_lid1 { list_identifier = id,
                                                     length = 64 })
    end
    assert.has.sense(status(1), scsi.INVALID_FIELD_IN_CDB, 2)
    assert.is.good(copy(lid1(target(), segment(0, 0, 3, 0, 10), 1)))
    assert.is.good(copy(lid1(target(), segment(0, 0, 3, 0, 10), 0, NO_ID)))
    assert.equal(string.pack(">I4BI2BI4", 8, 1, 1, 0, 3 * BLOCK),
                 status(1).data)
    assert.has.sense(status(1), scsi.INVALID_FIELD_IN_CDB, 2)
    assert.has.sense(status(0), scsi.INVALID_FIELD_IN_CDB, 2)

    assert.is.good(copy(lid4(target(), segment(0, 0, 3, 0, 10), 0x12345678,
                             IMMED), "extended_copy_lid4"))
    dev:run(function() return false end)
    local r = dev:cmd(make.receive_copy_status_lid4 {
      list_identifier = 0x12345678, length = 64 })
    assert.is.good(r)
    assert.equal(28, (string.unpack(">I4", r.data)))
    assert.equal(1, r.data:byte(6))
    assert.equal(3 * BLOCK, (string.unpack(">I8", r.data, 17)))
  end)

  -- The answer of RECEIVE COPY STATUS (LID4): SPC-4 table 240.
  local function long_status(id)
    local r = dev:cmd(make.receive_copy_status_lid4 { list_identifier = id,
                                                      length = 255 })
    if r.status ~= 0 then return r end
    local action, state, delay, status, field, length, unit, count, segments =
      string.unpack(">BBxxI4BBBBI8I2", r.data, 5)
    assert.equal(28 + field, #r.data - 4)
    assert.is_true(length <= field and field % 4 == 0)
    return { action = action, state = state, delay = delay, status = status,
             unit = unit, count = count, segments = segments,
             sense = sense.decode(r.data:sub(33, 32 + length)) }
  end

  it("tells of LID1 and LID4 in the form of LID4 as often as asked", function()
    local list = segment(0, 0, 3, 0, 10):rep(2)
    assert.is.good(copy(lid1(target(), list, 1)))
    assert.is.good(copy(lid4(target(), list, 2), "extended_copy_lid4"))
    for action = 0, 1 do
      for _ = 1, 2 do
        assert.same({ action = action, state = 1, delay = 0xFFFFFFFE,
                      status = 0, unit = 0, count = 6 * BLOCK, segments = 2 },
                    long_status(action + 1))
      end
    end
  end)

  it("keeps why it failed", function()
    local function details(id, length)
      return dev:cmd(make.receive_copy_failure_details_lid1 {
        list_identifier = id, length = length or 255 })
    end
    assert.has.sense(details(1), scsi.INVALID_FIELD_IN_CDB, 2)
    local failed = copy(lid1(target(), segment(0, 0, 1, 0, 1)
                                       .. segment(0, 9, 1, 0, 1), 1))
    assert.has.sense(failed, scsi.COPY_TARGET_DEVICE_NOT_REACHABLE)
    local told = long_status(1)
    assert.same({ 2, 2 }, { told.state, told.status })
    assert.equal(failed.sense:is(told.sense), true)
    -- RECEIVE COPY STATUS (LID1) forgets its own answer only.
    for _, want in ipairs { 0, 2 } do
      local r = dev:cmd(make.receive_copy_status_lid1 { list_identifier = 1,
                                                        length = 64 })
      assert.equal(want, r.status)
    end
    local r = details(1)
    assert.is.good(r)
    assert.equal(#r.data - 4, (string.unpack(">I4", r.data)))
    assert.equal(2, r.data:byte(57))
    assert.equal(failed.sense_bytes:sub(1, 18),
                 (string.unpack(">s2", r.data, 59)))
    assert.has.sense(details(1), scsi.INVALID_FIELD_IN_CDB, 2)

    assert.is.good(copy(lid1(target(), segment(0, 0, 1, 0, 1), 2)))
    assert.equal("\0\0\0\0", details(2).data)
    -- Of another kind of command there are none.
    assert.is.good(copy(lid4(target(), segment(0, 0, 1, 0, 1), 3),
                        "extended_copy_lid4"))
    assert.has.sense(details(3), scsi.INVALID_FIELD_IN_CDB, 2)
    -- And 0 bytes of it are enough to have it forgotten.
    copy(lid1(target(), segment(0, 9, 1, 0, 1), 4))
    assert.is.good(details(4, 0))
    assert.has.sense(details(4), scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("is not told of once a refused one has had its list identifier",
     function()
    assert.is.good(copy(lid1(target(), segment(0, 0, 1, 0, 1), 1)))
    assert.equal(1, long_status(1).state)
    local bad <const> = lists.target(designators[2], 4096)
    assert.has.sense(copy(lid1(bad, segment(0, 0, 1, 0, 1), 1)),
                     scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    assert.has.sense(long_status(1), scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("can be aborted by its list identifier", function()
    local SLOW <const> = [[=slow
      local tcmu = require "tcmu"
      return tcmu.handler { name = "slow",
        open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
        read = function(self, cmd, offset, n)
          tcmu.sleep(1000)
          cmd.data:copy(0, self.bytes, offset, n)
        end,
        write = function(self, cmd, offset, n)
          self.bytes:copy(offset, cmd.data, 0, n)
        end }]]
    local function abort(id)
      return dev:cmd(make.copy_operation_abort { list_identifier = id })
    end
    assert.has.sense(abort(1), scsi.INVALID_FIELD_IN_CDB, 2)
    dev:close()
    open(SLOW)
    local list = segment(0, 0, 1, 0, 1):rep(10)
    -- In the background.
    assert.is.good(copy(lid4(target(), list, 1, IMMED), "extended_copy_lid4"))
    assert.has.sense(dev:cmd(make.receive_copy_failure_details_lid1 {
      list_identifier = 1, length = 64 }), scsi.INVALID_FIELD_IN_CDB, 2)
    local told = long_status(1)
    assert.same({ 0x12, 0xFFFFFFFF }, { told.state, told.delay })
    assert.is.good(abort(1))
    assert.same({ action = 1, state = 0x60, delay = 0xFFFFFFFE, status = 0x40,
                  unit = 0, count = BLOCK, segments = 1 }, long_status(1))
    assert.is_true(dev:now() < 2)
    assert.has.sense(abort(1), scsi.INVALID_FIELD_IN_CDB, 2)
    -- In the foreground, where its own command says so.
    list = lid1(target(), list, 2)
    local running = dev:submit(make.extended_copy_lid1 { length = #list }, list)
    for _ = 1, 5 do dev.shard:turn(false) end
    assert.equal(0x11, long_status(2).state)
    local aborting = dev:submit(make.copy_operation_abort
                                { list_identifier = 2 })
    assert.has.sense(dev:wait(running), CLEARED)
    assert.is.good(dev:wait(aborting))
    assert.equal(0x60, long_status(2).state)
  end)

  it("refuses list identifiers and flags that mean nothing", function()
    local what = target()
    local one = segment(0, 0, 1, 0, 10)
    local function refused(list, command, byte, bit)
      local r = copy(list, command)
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.same({ byte = byte, bit = bit, cdb = false }, r.sense.pointer)
    end
    refused(lid1(what, one, 1, RESERVED), nil, 1, 4)
    refused(lid1(what, one, 1, NO_ID), nil, 0)
    refused(lid4(what, one, 1, 0, RESERVED), "extended_copy_lid4", 1, 4)
    refused(lid4(what, one, 1, 0, NO_ID), "extended_copy_lid4", 20)
    -- The kernel passes no sense data with GOOD, which G_SENSE asks for.
    refused(lid4(what, one, 1, G_SENSE), "extended_copy_lid4", 15, 1)
    -- SPC-4 6.4.2 says "in CDB" of these two, though they are not there.
    for _, list in ipairs { lid4(what, one, 1, IMMED | G_SENSE),
                            lid4(what, one, 0, IMMED, NO_ID) } do
      assert.has.sense(copy(list, "extended_copy_lid4"),
                       scsi.INVALID_FIELD_IN_CDB)
    end
  end)

  it("is answered before it is done only if that is asked for", function()
    local function status_after(flags)
      dev:close()
      open [[=slow
        local tcmu = require "tcmu"
        return tcmu.handler { name = "slow",
          open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
          read = function(self, cmd, offset, n)
            tcmu.sleep(1000)
            cmd.data:copy(0, self.bytes, offset, n)
          end,
          write = function(self, cmd, offset, n)
            self.bytes:copy(offset, cmd.data, 0, n)
          end }]]
      assert.is.good(copy(lid4(target(), segment(0, 0, 1, 0, 10), 5, flags,
                               HOLD), "extended_copy_lid4"))
      return dev:cmd(make.receive_copy_status_lid4 {
        list_identifier = 5, length = 64 }).data:byte(6)
    end
    assert.equal(0x01, status_after(0))         -- completed
    assert.equal(0x12, status_after(IMMED))     -- in the background
  end)

  it("tells what it can do", function()
    local r = dev:cmd(make.receive_copy_operating_parameters { length = 255 })
    assert.equal(#r.data - 4, (string.unpack(">I4", r.data)))
    local targets, segments, list, most = string.unpack(">I2I2I4I4", r.data, 9)
    assert.same({ 8, 64, 8 * 32 + 64 * 28, 0xFFFF * BLOCK },
                { targets, segments, list, most })
    assert.equal("\2\x02\xE4", r.data:sub(44))
    -- SNLID, and with it TOTAL CONCURRENT COPIES.
    assert.equal(1, r.data:byte(5))
    assert.equal(16, (string.unpack(">I2", r.data, 35)))
  end)
end)
