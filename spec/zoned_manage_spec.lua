--- The zones of handlers/zoned.lua opened, closed, finished and reset, and how
--- many can be open.
local commands = require "spec.commands"
local disk = require "spec.zoned_disk"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local zones = require "tcmu.zones"

local make = scsi.cdb
local is = zones.condition
local NO_PLACE <const> = scsi.INSUFFICIENT_ZONE_RESOURCES
local BLOCK <const>, FIRST <const>, ZONE <const>, ZONES <const> = disk.BLOCK,
  disk.FIRST, disk.ZONE, disk.ZONES

local condition <const>, data <const>, manage <const>, open <const> =
  disk.condition, disk.data, disk.manage, disk.open
local read <const>, report <const>, start_of <const>, write <const> = disk.read,
  disk.report, disk.start_of, disk.write
local zone <const> = disk.zone

describe("a zoned disk", function()
  local dev, path

  before_each(function() dev, path = disk.make() end)
  after_each(disk.clean)

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
      assert.is.good(dev:cmd(commands.write_protect()))
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

-- It takes a second to give space back, with discard=yes; without, the first
-- write of zeroes fails.  Vendor command C0h tells in which order that came.
local LATE <const> = [[=late
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "late", device = tcmu.zoned,
  options = { discard = tcmu.option.boolean { "or write", default = true } },
  open = function(dev)
    local self = { disk = tcmu.store.memory(dev.size), notes = {} }
    local function note(text) table.insert(self.notes, text) end
    self.note = note
    self.fails = not dev.options.discard
    self.zones = tcmu.zoned.layout(dev, {
      zone_size = 65536, conventional = 0, max_open = 0,
      state = tcmu.store.memory,
      discard = dev.options.discard and function(offset, length)
        tcmu.sleep(1000)
        self.disk:discard(offset, length)
        note(("discard %d+%d"):format(offset // 512, length // 512))
      end or nil,
    })
    return self
  end,
  read = function(self, cmd, offset) self.disk:read(cmd.data, offset) end,
  write = function(self, cmd, offset)
    if self.fails and cmd.data:u8(0) == 0 then
      self.fails = false
      error(scsi.WRITE_ERROR)
    end
    self.disk:write(cmd.data, offset)
  end,
  flush = function(self) self.note "flush" end,
  on = { [0xC0] = function(self) return table.concat(self.notes, " ") end },
}]]

describe("a zone whose reset did not come to its end", function()
  local dev

  local function start(options)
    dev = assert(sim.device(LATE, { size = 8 << 16, options = options }))
  end
  after_each(function() dev:close() end)

  local function reset(of)
    assert.is.good(dev:cmd(make.write_16 { lba = 0, blocks = 8 },
                           data("o", 8)))
    return dev:submit(make.reset_write_pointer(of))
  end

  -- FINISH ZONE, with what is to be read afterwards.
  local function finishes(want)
    assert.is.good(dev:cmd(make.finish_zone { zone_id = 0 }))
    local r = dev:cmd(make.read_16 { lba = 0, blocks = 9 })
    assert.is_true(r.data == want)
  end

  it("has none of its old data when it is finished", function()
    start()
    local resetting = reset { zone_id = 0 }
    dev:cmd(make.inquiry { length = 36 })
    dev:abort(resetting)
    dev:wait(resetting)
    finishes(data("\0", 9))
  end)

  it("has none of them either where zeroes are written", function()
    start "discard=no"
    local resetting = reset { all = 1 }
    assert.has.sense(dev:wait(resetting), scsi.WRITE_ERROR)
    finishes(data("\0", 9))
  end)

  it("keeps what was written since", function()
    start()
    local resetting = reset { zone_id = 0 }
    dev:cmd(make.inquiry { length = 36 })
    dev:abort(resetting)
    dev:wait(resetting)
    assert.is.good(dev:cmd(make.write_16 { lba = 0, blocks = 2 },
                           data("n", 2)))
    finishes(data("n", 2) .. data("\0", 7))
    local notes = dev:cmd("\xC0" .. ("\0"):rep(9)).data
    assert.matches("discard 2%+126 flush", notes)
  end)
end)
