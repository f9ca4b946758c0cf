--- What a restart leaves of the zones of handlers/zoned.lua, and what it cannot
--- be started with.
local disk = require "spec.zoned_disk"
local scsi = require "tcmu.scsi"
local zones = require "tcmu.zones"

local is = zones.condition
local NO_PLACE <const> = scsi.INSUFFICIENT_ZONE_RESOURCES
local BLOCK <const>, FIRST <const>, SIZE <const>, ZONE <const> = disk.BLOCK,
  disk.FIRST, disk.SIZE, disk.ZONE

local condition <const>, data <const>, manage <const>, open <const> =
  disk.condition, disk.data, disk.manage, disk.open
local read <const>, report <const>, start_of <const>, write <const> = disk.read,
  disk.report, disk.start_of, disk.write
local zone <const> = disk.zone

describe("a zoned disk", function()
  local dev, path

  before_each(function() dev, path = disk.make() end)
  after_each(disk.clean)

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
      ["zone_size=0"] = "power of two",
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
end)
