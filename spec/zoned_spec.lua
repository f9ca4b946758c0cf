--- handlers/zoned.lua and tcmu.zoned, as an initiator sees them: write
--- pointers, zone conditions, reports, and what a restart leaves of them.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local zones = require "tcmu.zones"

local make = scsi.cdb
local is = zones.condition
local NO_PLACE <const> = scsi.INSUFFICIENT_ZONE_RESOURCES
local BLOCK <const> = 512
local ZONE <const> = 128                -- blocks
local ZONES <const>, CONVENTIONAL <const>, MOST <const> = 8, 2, 3
local SIZE <const> = ZONES * ZONE * BLOCK
local FIRST <const> = CONVENTIONAL * ZONE       -- with a write pointer
local NONE <const> = -1

local function data(byte, n) return byte:rep(BLOCK * (n or 1)) end

-- What REPORT ZONES says: { length, same, last, { type, condition, length,
-- start, pointer } ... }.
local function parse(bytes)
  local report = {}
  report.length, report.same, report.last = string.unpack(">I4Bxxxi8", bytes)
  for at = 65, #bytes - 63, 64 do
    local zone = {}
    zone.kind, zone.flags, zone.length, zone.start, zone.pointer =
      string.unpack(">BBxxxxxxi8i8i8", bytes, at)
    zone.condition = zone.flags >> 4
    report[#report + 1] = zone
  end
  return report
end

describe("a zoned disk", function()
  local dev, path

  local function open(more)
    local options = ("path=%s;create=yes;zone_size=%d;conventional=%d;"
                     .. "max_open=%d"):format(path, ZONE * BLOCK, CONVENTIONAL,
                                              MOST)
    local of = { size = SIZE, options = options, max_sectors = 2 * ZONE }
    for key, value in pairs(more or {}) do of[key] = value end
    return sim.device("handlers/zoned.lua", of)
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    dev = assert(open())
  end)
  after_each(function()
    dev:close()
    os.remove(path)
    os.remove(path .. ".zones")
  end)

  local function start_of(zone) return zone * ZONE end

  local function write(lba, n, byte)
    return dev:cmd(make.write_16 { lba = lba, blocks = n },
                   data(byte or "w", n))
  end

  local function read(lba, n)
    local r = dev:cmd(make.read_16 { lba = lba, blocks = n })
    assert.is.good(r)
    return r.data
  end

  local function report(fields)
    fields = fields or {}
    fields.allocation_length = fields.allocation_length or 4096
    local r = dev:cmd(make.report_zones(fields))
    assert.is.good(r)
    return parse(r.data)
  end

  local function zone(n) return report()[n + 1] end

  local function condition(n) return zone(n).condition end

  local function manage(verb, n)
    return dev:cmd(make[verb](n == "all" and { all = 1 }
                              or { zone_id = start_of(n) }))
  end

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

  describe("managed by its initiator", function()
    it("opens, closes, finishes and resets a zone", function()
      assert.is.good(manage("open_zone", 2))
      assert.equal(is.EXPLICITLY_OPEN, condition(2))
      assert.is.good(manage("close_zone", 2))
      assert.equal(is.EMPTY, condition(2))      -- nothing was written
      assert.is.good(write(FIRST, 3))
      assert.is.good(manage("close_zone", 2))
      assert.equal(is.CLOSED, condition(2))
      assert.equal(FIRST + 3, zone(2).pointer)
      assert.is.good(manage("finish_zone", 2))
      assert.equal(is.FULL, condition(2))
      assert.is_true(read(FIRST, 4) == data("w", 3) .. data "\0")
      assert.is.good(manage("open_zone", 2))
      assert.equal(is.FULL, condition(2))
      assert.is.good(manage("reset_write_pointer", 2))
      assert.equal(is.EMPTY, condition(2))
      assert.equal(FIRST, zone(2).pointer)
      assert.is_true(read(FIRST, 4) == data("\0", 4))
    end)

    it("writes to a zone again after its reset", function()
      assert.is.good(write(FIRST, ZONE, "o"))
      assert.is.good(manage("reset_write_pointer", 2))
      assert.is.good(write(FIRST, 1, "n"))
      assert.is_true(read(FIRST, 2) == data("n") .. data("\0"))
    end)

    it("gives space back by a reset", function()
      local function used()
        local f = assert(io.popen("du -k " .. path))
        local text = f:read("a")
        f:close()
        return tonumber(text:match("^%d+"))
      end
      assert.is.good(write(FIRST, ZONE, "o"))
      assert.is.good(dev:cmd(make.synchronize_cache_16 {}))
      local before = used()
      assert.is.good(manage("reset_write_pointer", 2))
      assert.is_true(used() < before)
    end)

    it("takes ALL for the zones that fit the command", function()
      assert.is.good(write(start_of(2), 1))
      assert.is.good(write(start_of(3), 1))
      assert.is.good(write(start_of(4), ZONE))
      local function all()
        local list = {}
        for n, one in ipairs(report()) do list[n] = one.condition end
        return list
      end
      assert.is.good(manage("close_zone", "all"))
      assert.same({ 0, 0, is.CLOSED, is.CLOSED, is.FULL, 1, 1, 1 }, all())
      assert.is.good(manage("open_zone", "all"))
      assert.same({ 0, 0, 3, 3, is.FULL, 1, 1, 1 }, all())
      assert.is.good(manage("finish_zone", "all"))
      assert.same({ 0, 0, is.FULL, is.FULL, is.FULL, 1, 1, 1 }, all())
      assert.is.good(manage("reset_write_pointer", "all"))
      assert.same({ 0, 0, 1, 1, 1, 1, 1, 1 }, all())
    end)

    it("names zones by their first block alone", function()
      for _, verb in ipairs { "open_zone", "close_zone", "finish_zone",
                              "reset_write_pointer" } do
        assert.has.sense(dev:cmd(make[verb] { zone_id = FIRST + 1 }),
                         scsi.INVALID_FIELD_IN_CDB, 2)
        assert.has.sense(dev:cmd(make[verb] { zone_id = ZONES * ZONE }),
                         scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      end
    end)

    it("changes no zone of a disk that is write protected", function()
      assert.is.good(write(FIRST, 1))
      local page = "\0\0\0\0\x0A\x0A\2\x10\x08\x40\0\0\xFF\xFF\0\0"
      assert.is.good(dev:cmd(make.mode_select_6 {
        pf = 1, parameter_list_length = #page }, page))
      assert.has.sense(manage("reset_write_pointer", 2),
                       scsi.LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED)
      assert.equal(FIRST + 1, zone(2).pointer)
    end)
  end)

  describe("at the limit of open zones", function()
    it("closes the one that was opened first by a write", function()
      for n = 2, 4 do assert.is.good(write(start_of(n), 1)) end
      assert.is.good(write(start_of(2) + 1, 1))
      assert.is.good(write(start_of(5), 1))
      assert.equal(is.CLOSED, condition(2))
      for n = 3, 5 do assert.equal(is.IMPLICITLY_OPEN, condition(n)) end
      assert.is.good(write(start_of(2) + 2, 1))
      assert.equal(is.IMPLICITLY_OPEN, condition(2))
      assert.equal(is.CLOSED, condition(3))
    end)

    it("never closes a zone that was opened by command", function()
      for n = 2, 4 do assert.is.good(manage("open_zone", n)) end
      assert.has.sense(write(start_of(5), 1), NO_PLACE)
      assert.has.sense(manage("open_zone", 5), NO_PLACE)
      assert.equal(is.EMPTY, condition(5))
      assert.is.good(write(start_of(2), 1))
      assert.is.good(manage("close_zone", 3))
      assert.is.good(write(start_of(5), 1))
    end)

    it("has a place again when a zone is full, finished or reset", function()
      for n = 2, 4 do assert.is.good(manage("open_zone", n)) end
      assert.is.good(write(start_of(2), ZONE))
      assert.is.good(manage("open_zone", 5))
      assert.is.good(manage("finish_zone", 3))
      assert.is.good(manage("open_zone", 6))
      assert.is.good(manage("reset_write_pointer", 4))
      assert.is.good(manage("open_zone", 7))
      assert.has.sense(manage("open_zone", 4), NO_PLACE)
    end)

    it("opens all closed zones or none", function()
      for n = 2, 5 do
        assert.is.good(write(start_of(n), 1))
        assert.is.good(manage("close_zone", n))
      end
      assert.has.sense(manage("open_zone", "all"), NO_PLACE)
      for n = 2, 5 do assert.equal(is.CLOSED, condition(n)) end
    end)
  end)

  describe("opened again", function()
    it("has pointers, conditions and data of before", function()
      assert.is.good(write(start_of(2), 3, "a"))
      assert.is.good(manage("open_zone", 3))
      assert.is.good(write(start_of(4), 2))
      assert.is.good(manage("close_zone", 4))
      assert.is.good(manage("finish_zone", 5))
      assert.is.good(write(start_of(6), 1))
      assert.is.good(manage("reset_write_pointer", 6))
      local before = report()
      dev:close()
      dev = assert(open())
      assert.same(before, report())
      assert.is_true(read(FIRST, 4) == data("a", 3) .. data("\0"))
      assert.is.good(write(FIRST + 3, 1))
      assert.has.sense(write(FIRST, 1), scsi.UNALIGNED_WRITE_COMMAND)
    end)

    it("counts the zones that were open", function()
      for n = 2, 4 do assert.is.good(manage("open_zone", n)) end
      dev:close()
      dev = assert(open())
      assert.has.sense(manage("open_zone", 5), NO_PLACE)
    end)

    -- As if the process had been killed now.
    local function kill()
      for _, name in ipairs { "", ".zones" } do
        assert(os.execute(("cp %s%s %s.copy%s"):format(path, name, path, name)))
      end
      dev:close()
      os.rename(path .. ".copy", path)
      os.rename(path .. ".copy.zones", path .. ".zones")
      dev = assert(open())
    end

    it("knows of each write as soon as that is answered", function()
      assert.is.good(write(FIRST, 3, "a"))
      kill()
      assert.equal(FIRST + 3, zone(2).pointer)
      assert.is_true(read(FIRST, 3) == data("a", 3))
    end)

    it("takes the latest write of a zone once more, whose answer may have been "
       .. "lost", function()
      assert.is.good(write(FIRST, 2, "a"))
      assert.is.good(write(FIRST + 2, 2, "b"))
      assert.is.good(write(FIRST + ZONE, ZONE, "c"))
      kill()
      assert.is.good(write(FIRST + 2, 2, "b"))
      assert.is.good(write(FIRST + ZONE, ZONE, "c"))
      assert.equal(FIRST + 4, zone(2).pointer)
      assert.equal(is.FULL, condition(3))
      assert.has.sense(write(FIRST + 2, 2), scsi.UNALIGNED_WRITE_COMMAND)
      assert.has.sense(write(FIRST + ZONE, ZONE), scsi.INVALID_FIELD_IN_CDB)
      assert.is_true(read(FIRST, 4) == data("a", 2) .. data("b", 2))
    end)

    it("takes no other write than that out of order", function()
      assert.is.good(write(FIRST, 2))
      assert.is.good(write(FIRST + 2, 2))
      assert.is.good(write(FIRST + ZONE, 4))
      kill()
      assert.has.sense(write(FIRST, 2), scsi.UNALIGNED_WRITE_COMMAND)
      assert.has.sense(write(FIRST + ZONE + 2, 2), scsi.UNALIGNED_WRITE_COMMAND)
    end)

    it("refuses a state of other zones, with a sentence", function()
      dev:close()
      local options = ("path=%s;zone_size=%d"):format(path, 2 * ZONE * BLOCK)
      local other, why = open { options = options }
      assert.is_nil(other)
      assert.matches("is of 8 zones of 65536 bytes, 2 of them conventional",
                     why)
      dev = assert(open())
    end)

    it("refuses a state that is damaged, with the zone's number", function()
      dev:close()
      local f = assert(io.open(path .. ".zones", "r+b"))
      f:seek("set", 4096 + 3 * 16)
      f:write(string.pack(">I8BB", 5, is.EMPTY, 0x5A))
      f:close()
      local other, why = open()
      assert.is_nil(other)
      assert.matches("damaged at zone 3", why)
      os.remove(path .. ".zones")
      dev = assert(open())
    end)
  end)

  it("refuses layouts that cannot be, with a sentence", function()
    dev:close()
    for text, why in pairs {
      ["zone_size=98304"] = "power of two",
      ["zone_size=256"] = "power of two",
      ["zone_size=64K;conventional=8"] = "at least one",
      ["zone_size=1M"] = "whole number of zones",
      ["zone_size=64K;max_open=-1"] = "max_open",
    } do
      local made, message = open { options = ("path=%s;%s"):format(path, text) }
      assert.is_nil(made)
      assert.matches(why, message)
    end
  end)

  it("cannot be resized", function()
    local status, why = dev:change("size", { size = 2 * SIZE })
    assert.is_true(status < 0)
    assert.matches("its size cannot change", why)
  end)

  it("is told no end of open zones without a limit", function()
    dev:close()
    os.remove(path .. ".zones")
    dev = assert(open { options = ("path=%s;zone_size=%d;max_open=0")
                                  :format(path, ZONE * BLOCK) })
    for n = 0, ZONES - 1 do assert.is.good(manage("open_zone", n)) end
    assert.equal(1, report().same)      -- all of one type
    local r = dev:cmd(make.inquiry { evpd = 1, page_code = 0xB6, length = 64 })
    assert.equal("\xFF\xFF\xFF\xFF", r.data:sub(17, 20))
  end)
end)

-- Writes that take their time, each less than the one before; vendor command
-- C0h says in which order they came, and fails the next write if byte 1 is 1.
local SLOW <const> = [[=slow
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "slow", device = tcmu.zoned,
  open = function(dev)
    return { bytes = tcmu.buffer(dev.size), notes = {}, pause = 1000,
      zones = tcmu.zoned.layout(dev, {
        zone_size = 65536, conventional = 0, max_open = 1,
        state = tcmu.store.memory }) }
  end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.pause = self.pause - 100
    tcmu.sleep(self.pause)
    if self.fails then
      self.fails = false
      error(scsi.INTERNAL_TARGET_FAILURE)
    end
    self.notes[#self.notes + 1] = offset // 512
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  on = { [0xC0] = function(self, cmd)
    self.fails = cmd:u8(1) == 1
    return table.concat(self.notes, " ")
  end },
}
]]

describe("commands of a zoned disk at the same time", function()
  local dev

  before_each(function() dev = assert(sim.device(SLOW, { size = 8 << 16 })) end)
  after_each(function() dev:close() end)

  local function write(lba, n)
    return dev:submit(make.write_16 { lba = lba, blocks = n }, data("w", n))
  end

  local function notes(fails)
    return dev:cmd(string.char(0xC0, fails and 1 or 0) .. ("\0"):rep(8)).data
  end

  it("write to one zone in the order of their arrival", function()
    local list = {}
    for i = 0, 4 do list[i + 1] = write(i * 2, 2) end
    for _, one in ipairs(list) do
      assert.equal(one, dev:next_done())
      assert.is.good(one.result)
    end
    assert.equal("0 2 4 6 8", notes())
  end)

  it("do not hold up writes to another zone", function()
    local first, second = write(0, 1), write(128, 1)
    assert.equal(second, dev:next_done())
    assert.equal(first, dev:next_done())
    assert.is.good(first.result)
    assert.is.good(second.result)
  end)

  it("reset a zone after the writes before and before those behind", function()
    local before = write(0, 3)
    local reset = dev:submit(make.reset_write_pointer { zone_id = 0 })
    local behind = write(0, 1)
    for _, one in ipairs { before, reset, behind } do
      assert.is.good(dev:wait(one))
    end
    local r = dev:cmd(make.read_16 { lba = 0, blocks = 2 })
    assert.is_true(r.data == data("w") .. data("\0"))
  end)

  it("leave the pointer where it was when a write fails", function()
    notes(true)
    local bad, late = write(0, 2), write(2, 2)
    assert.has.sense(dev:wait(bad), scsi.INTERNAL_TARGET_FAILURE)
    assert.has.sense(dev:wait(late), scsi.UNALIGNED_WRITE_COMMAND)
    assert.is.good(dev:wait(write(0, 2)))
    assert.is.good(dev:wait(write(2, 2)))
  end)

  it("give a write's place in the queue away when it is aborted", function()
    local first, second = write(0, 1), write(1, 1)
    dev:abort(second)
    assert.is.good(dev:wait(first))
    assert.is.good(dev:wait(write(1, 1)))
  end)
end)
