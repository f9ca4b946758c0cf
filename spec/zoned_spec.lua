--- handlers/zoned.lua and tcmu.zoned, as an initiator sees them: what the disk
--- says of itself and its zones, and where it can be written.
local disk = require "spec.zoned_disk"
local scsi = require "tcmu.scsi"
local zones = require "tcmu.zones"

local make = scsi.cdb
local is = zones.condition
local NONE <const> = -1
local BLOCK <const>, CONVENTIONAL <const>, FIRST <const>, MOST <const> =
  disk.BLOCK, disk.CONVENTIONAL, disk.FIRST, disk.MOST
local ZONE <const>, ZONES <const> = disk.ZONE, disk.ZONES

local condition <const>, data <const>, manage <const>, read <const> =
  disk.condition, disk.data, disk.manage, disk.read
local report <const>, start_of <const>, write <const>, zone <const> =
  disk.report, disk.start_of, disk.write, disk.zone

describe("a zoned disk", function()
  local dev

  before_each(function() dev = disk.make() end)
  after_each(disk.clean)

  describe("says of itself that it", function()
    it("is of peripheral device type 14h and claims ZBC", function()
      local r = dev:cmd(make.inquiry { length = 96 })
      assert.equal(0x14, r.data:byte(1))
      assert.truthy(r.data:find("\x06\x20", 59, true))
    end)

    it("reads behind a write pointer and limits open zones (page B6)",
    function()
      local r = dev:cmd(make.inquiry { evpd = 1, page_code = 0xB6,
                                       length = 255 })
      assert.is.good(r)
      assert.equal(64, #r.data)
      assert.equal("\x14\xB6\0\x3C\1\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
                   .. string.pack(">I4", MOST), r.data:sub(1, 20))
    end)

    it("has page B6 in the list, and no page about thin provisioning",
    function()
      local r = dev:cmd(make.inquiry { evpd = 1, page_code = 0, length = 255 })
      local list = r.data:sub(5)
      assert.truthy(list:find("\xB6", 1, true))
      assert.truthy(list:find("\xB1", 1, true))
      assert.falsy(list:find("\xB2", 1, true))
    end)

    it("leaves the ZONED field of page B1 to the device type", function()
      local r = dev:cmd(make.inquiry { evpd = 1, page_code = 0xB1,
                                       length = 255 })
      assert.equal(0, r.data:byte(9) & 0x30)
    end)

    it("counts all zones in READ CAPACITY (16), which RC_BASIS says", function()
      local r = dev:cmd(make.read_capacity_16 { allocation_length = 32 })
      local last, size, flags = string.unpack(">I8I4B", r.data)
      assert.same({ ZONES * ZONE - 1, BLOCK, 0x10 }, { last, size, flags })
    end)

    it("has the commands of ZBC, and none that would write anywhere",
    function()
      local function support(opcode, action)
        local r = dev:cmd(make.report_supported_operation_codes {
          reporting_options = 3, requested_operation_code = opcode,
          requested_service_action = action or 0, allocation_length = 64 })
        assert.is.good(r)
        return r.data:byte(2) & 7
      end
      for action = 1, 4 do assert.equal(3, support(0x94, action)) end
      assert.equal(3, support(0x95, 0))
      assert.equal(3, support(0x88))
      for _, opcode in ipairs { 0x04, 0x42, 0x89, 0x8B, 0x9C } do
        assert.equal(1, support(opcode))
      end
      assert.has.sense(dev:cmd(make.unmap { parameter_list_length = 0 }, ""),
                       scsi.INVALID_COMMAND_OPERATION_CODE)
    end)
  end)

  describe("reports zones and", function()
    it("describes each: type, condition, length, start and pointer", function()
      local all = report()
      assert.equal(ZONES * 64, all.length)
      assert.equal(ZONES * ZONE - 1, all.last)
      assert.equal(3, all.same)         -- as long as each other, but two types
      assert.equal(ZONES, #all)
      for n = 0, ZONES - 1 do
        local conventional = n < CONVENTIONAL
        assert.same({ kind = conventional and 1 or 2,
                      condition = conventional and 0 or 1,
                      flags = conventional and 0 or 0x10, length = ZONE,
                      start = start_of(n),
                      pointer = conventional and NONE or start_of(n) },
                    all[n + 1])
      end
    end)

    it("starts with the zone that has the block asked for", function()
      local some = report { zone_start_lba = start_of(5) + 7 }
      assert.equal(3 * 64, some.length)
      assert.equal(start_of(5), some[1].start)
    end)

    it("counts all zones, but with PARTIAL only those that fit", function()
      local room = { allocation_length = 64 + 2 * 64 + 63 }
      local some = report(room)
      assert.equal(ZONES * 64, some.length)
      assert.equal(2, #some)
      room.partial = 1
      assert.equal(2 * 64, report(room).length)
      assert.equal(0, report { partial = 1, allocation_length = 64 }.length)
    end)

    it("picks zones by their condition", function()
      assert.is.good(write(start_of(2), 1))
      assert.is.good(manage("open_zone", 3))
      assert.is.good(write(start_of(4), 1))
      assert.is.good(manage("close_zone", 4))
      assert.is.good(manage("finish_zone", 5))
      local want = {
        [0x00] = { 0, 1, 2, 3, 4, 5, 6, 7 }, [0x01] = { 6, 7 },
        [0x02] = { 2 }, [0x03] = { 3 }, [0x04] = { 4 }, [0x05] = { 5 },
        [0x06] = {}, [0x07] = {}, [0x10] = {}, [0x11] = {},
        [0x3E] = { 0, 1, 2, 3, 4, 5, 6, 7 }, [0x3F] = { 0, 1 },
      }
      for option, numbers in pairs(want) do
        local got = report { reporting_options = option }
        local list = {}
        for i, one in ipairs(got) do list[i] = one.start // ZONE end
        assert.same(numbers, list)
        assert.equal(#numbers * 64, got.length)
      end
    end)

    it("refuses reporting options that there are not", function()
      for _, option in ipairs { 0x08, 0x12, 0x3D } do
        assert.has.sense(dev:cmd(make.report_zones {
          reporting_options = option, allocation_length = 512 }),
          scsi.INVALID_FIELD_IN_CDB, 14, 5)
      end
    end)

    it("refuses to start behind the last zone", function()
      for _, lba in ipairs { ZONES * ZONE, -1 } do
        assert.has.sense(dev:cmd(make.report_zones {
          zone_start_lba = lba, allocation_length = 512 }),
          scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      end
    end)

    it("leaves nothing stale in what it sends", function()
      dev.kernel:poison(0xEE)
      local r = dev:cmd(make.report_zones { allocation_length = 4096 })
      assert.is_nil(r.data:find("\xEE", 1, true))
    end)
  end)

  describe("with a write pointer", function()
    it("opens a zone by the first write and moves its pointer", function()
      assert.is.good(write(FIRST, 3, "a"))
      assert.is.good(write(FIRST + 3, 2, "b"))
      local first = zone(2)
      assert.equal(is.IMPLICITLY_OPEN, first.condition)
      assert.equal(FIRST + 5, first.pointer)
      assert.is_true(read(FIRST, 5) == data("a", 3) .. data("b", 2))
    end)

    it("refuses a write anywhere else, and nothing is written", function()
      assert.is.good(write(FIRST, 4, "a"))
      for _, lba in ipairs { FIRST, FIRST + 3, FIRST + 5 } do
        assert.has.sense(write(lba, 1, "x"), scsi.UNALIGNED_WRITE_COMMAND)
      end
      assert.is_true(read(FIRST, 8) == data("a", 4) .. data("\0", 4))
      assert.equal(FIRST + 4, zone(2).pointer)
    end)

    it("refuses a write over the end of a zone", function()
      assert.is.good(write(FIRST, ZONE - 1))
      assert.has.sense(write(FIRST + ZONE - 1, 2),
                       scsi.WRITE_BOUNDARY_VIOLATION)
      assert.equal(FIRST + ZONE - 1, zone(2).pointer)
    end)

    it("is full after the last block, and takes no more", function()
      assert.is.good(write(FIRST, ZONE))
      assert.equal(is.FULL, condition(2))
      assert.equal(NONE, zone(2).pointer)
      assert.has.sense(write(FIRST, 1), scsi.INVALID_FIELD_IN_CDB, 2)
      assert.is_true(read(FIRST, ZONE) == data("w", ZONE))
    end)

    it("takes writes of no blocks anywhere", function()
      assert.is.good(dev:cmd(make.write_16 { lba = FIRST + 9, blocks = 0 }, ""))
      assert.equal(is.EMPTY, condition(2))
    end)

    it("moves no pointer for Data-Out that is too short", function()
      assert.has.sense(dev:cmd(make.write_16 { lba = FIRST, blocks = 2 },
                               data("x", 1)),
                       scsi.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
      assert.equal(is.EMPTY, condition(2))
    end)

    it("reads as zeroes behind the pointer, across zones too", function()
      assert.is.good(write(FIRST - 1, 1, "c"))
      assert.is.good(write(FIRST, 2, "a"))
      assert.is.good(write(FIRST + ZONE, 1, "b"))
      dev.kernel:poison(0xEE)
      local got = read(FIRST - 1, ZONE + 3)
      assert.is_true(got == data("c") .. data("a", 2) .. data("\0", ZONE - 2)
                            .. data("b") .. data("\0"))
    end)

    it("fills by WRITE SAME, by the same rules", function()
      local same = { lba = FIRST, blocks = 5 }
      assert.is.good(dev:cmd(make.write_same_16(same), data "s"))
      assert.equal(FIRST + 5, zone(2).pointer)
      assert.is_true(read(FIRST, 6) == data("s", 5) .. data("\0"))
      assert.has.sense(dev:cmd(make.write_same_16(same), data "s"),
                       scsi.UNALIGNED_WRITE_COMMAND)
    end)

    it("verifies what an initiator would read", function()
      assert.is.good(write(FIRST, 2, "a"))
      local function verify(n, bytes)
        return dev:cmd(make.verify_16 { lba = FIRST, blocks = n, bytchk = 1 },
                       bytes)
      end
      assert.is.good(verify(3, data("a", 2) .. data "\0"))
      local r = verify(3, data("a", 2) .. data "x")
      assert.has.sense(r, scsi.MISCOMPARE_DURING_VERIFY_OPERATION)
      assert.equal(2 * BLOCK, r.sense.information)
      assert.is.good(dev:cmd(make.verify_16 { lba = FIRST, blocks = 2,
                                              bytchk = 3 }, data "a"))
      assert.is.good(dev:cmd(make.verify_16 { lba = 0, blocks = 4 }, ""))
    end)
  end)

  describe("without a write pointer", function()
    it("takes writes anywhere, across such zones", function()
      assert.is.good(write(ZONE - 1, 2, "a"))
      assert.is.good(write(ZONE - 1, 1, "b"))
      assert.is_true(read(ZONE - 1, 2) == data("b") .. data("a"))
      assert.equal(is.NOT_WRITE_POINTER, condition(0))
    end)

    it("refuses writes that reach into a zone that has one", function()
      assert.has.sense(write(FIRST - 1, 2), scsi.WRITE_BOUNDARY_VIOLATION)
      assert.is_true(read(FIRST - 1, 2) == data("\0", 2))
    end)

    it("refuses to be managed", function()
      for _, verb in ipairs { "open_zone", "close_zone", "finish_zone",
                              "reset_write_pointer" } do
        assert.has.sense(manage(verb, 0), scsi.INVALID_FIELD_IN_CDB, 2)
      end
    end)
  end)
end)
