--- EXTENDED COPY between devices of one process.
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local SIZE <const> = 8 << 20
local ABORTED <const> = sense.new(0x0A, 0, 0)
local INEXACT <const> = sense.new(0x0A, 0x26, 0x0A)
local UNREACHABLE <const> = scsi.COPY_TARGET_DEVICE_NOT_REACHABLE
local WRONG_TYPE <const> = scsi.INCORRECT_COPY_TARGET_DEVICE_TYPE
local FAILURE <const> = scsi.THIRD_PARTY_DEVICE_FAILURE
local segment <const>, numbered <const> = lists.segment, lists.numbered

-- A memory disk in Lua that takes its time; "MARK" among what it reads or
-- writes makes it stop for an hour.
local SLOW <const> = [[=slow
  local tcmu = require "tcmu"
  return tcmu.handler {
    name = "slow",
    open = function(dev) return { all = tcmu.buffer(dev.size) } end,
    read = function(self, cmd, offset, length)
      tcmu.sleep(1)
      cmd.data:copy(0, self.all, offset, length)
      if cmd.data:get(0, 4) == "RDLY" then tcmu.sleep(3600000) end
    end,
    write = function(self, cmd, offset, length)
      if cmd.data:get(0, 4) == "MARK" then tcmu.sleep(5000) end
      if cmd.data:get(0, 4) == "HANG" then tcmu.sleep(3600000) end
      tcmu.sleep(1)
      self.all:copy(offset, cmd.data)
    end,
  }]]

describe("EXTENDED COPY between two devices", function()
  local host
  local serial = 0

  local function start(shards, options)
    options = options or { third_party = true }
    options.shards = shards
    host = sim.host(options)
  end
  after_each(function()
    if host then host:close() end
    host = nil
  end)

  local function add(path, options)
    options = options or {}
    serial = serial + 1
    options.size = options.size or SIZE
    options.serial = options.serial or ("0011%08x"):format(serial)
    return assert(host:device(path, options))
  end

  local function target(dev, which)
    return lists.target(lists.names(dev)[which or 2], dev.block_size)
  end

  local function copy(dev, list)
    return dev:cmd(make.extended_copy_lid1 { length = #list }, list)
  end

  local function write(dev, lba, data)
    assert.is.good(dev:cmd(make.write_16 {
      lba = lba, blocks = #data // dev.block_size }, data))
  end

  local function read(dev, lba, n)
    return dev:cmd(make.read_16 { lba = lba, blocks = n }).data
  end

  -- Any number of blocks.
  local function fill(dev, lba, data)
    for at = 0, #data // BLOCK - 1, 2048 do
      write(dev, lba + at, data:sub(at * BLOCK + 1, (at + 2048) * BLOCK))
    end
  end

  local function content(dev, lba, n)
    local got = {}
    for at = 0, n - 1, 2048 do
      got[#got + 1] = read(dev, lba + at, math.min(2048, n - at))
    end
    return table.concat(got)
  end

  local function list_for(a, b, ...)
    return lists.lid1(target(a) .. target(b), segment(0, 1, ...))
  end

  for _, case in ipairs {
    { "two stores", "handlers/ram.lua", "handlers/ram.lua" },
    { "a store and Lua", "handlers/ram.lua", "handlers/ramdisk.lua" },
    { "Lua and a store", "handlers/ramdisk.lua", "handlers/ram.lua" },
    { "two that wait", SLOW, SLOW },
  } do
    it("goes between " .. case[1] .. ", whoever is asked, wherever they live",
       function()
      local n <const> = 3 * 2048 + 7        -- blocks: some MiB and a rest
      for shards = 1, 3 do
        start(shards)
        local a, b = add(case[2]), add(case[3])
        local third = add "handlers/ram.lua"
        local data = numbered(n, BLOCK, shards)
        fill(a, 5, data)
        for at, asked in ipairs { a, b, third } do
          assert.is.good(copy(asked, list_for(a, b, n, 5, at * 3)))
          assert.is_true(data == content(b, at * 3, n))
          assert.equal(("\0"):rep(BLOCK), read(b, at * 3 + n, 1))
        end
        host:close()
      end
      host = nil
    end)
  end

  it("finds a device by every name that it has", function()
    start(2)
    local a, b = add "handlers/ram.lua", add "handlers/ram.lua"
    write(a, 0, ("a"):rep(BLOCK))
    for which = 1, #lists.names(b) do
      assert.is.good(copy(a, lists.lid1(target(a) .. target(b, which),
                                        segment(0, 1, 1, 0, which))))
      assert.equal(("a"):rep(BLOCK), read(b, which, 1))
    end
    local stranger = lists.names(b)[2]:sub(1, -2) .. "\x77"
    assert.has.sense(copy(a, lists.lid1(target(a) .. lists.target(stranger),
                                        segment(0, 1, 1, 0, 0))), UNREACHABLE)
  end)

  it("follows a serial that changes", function()
    start(2)
    local a, b = add "handlers/ram.lua", add "handlers/ram.lua"
    local before = list_for(a, b, 1, 0, 0)
    assert.equal(0, b:change("wwn", { serial = "cafe" }))
    assert.has.sense(copy(a, before), UNREACHABLE)
    assert.is.good(copy(a, list_for(a, b, 1, 0, 0)))
  end)

  it("refuses a name that two devices have", function()
    start(3)
    local a = add "handlers/ram.lua"
    local b = add("handlers/ram.lua", { serial = "abcdef" })
    add("handlers/ram.lua", { serial = "abcdef" })
    assert.has.sense(copy(a, list_for(a, b, 1, 0, 0)), UNREACHABLE)
  end)

  it("is refused unless the operator allows it", function()
    start(2, {})
    local a, b = add "handlers/ram.lua", add "handlers/ram.lua"
    write(a, 0, ("a"):rep(BLOCK))
    assert.has.sense(copy(a, list_for(a, b, 1, 0, 0)), UNREACHABLE)
    assert.has.sense(copy(b, list_for(a, b, 1, 0, 0)), UNREACHABLE)
    assert.is.good(copy(a, list_for(a, a, 1, 0, 1)))
    assert.equal(("\0"):rep(BLOCK), read(b, 0, 1))
  end)

  it("copies between places of a third device as if they did not overlap",
     function()
    start(2)
    local asked, b = add "handlers/ram.lua", add "handlers/ram.lua"
    local data = numbered(4000)
    for _, to in ipairs { 10, 100 } do
      fill(b, 50, data)
      local list = lists.lid1(target(b, 1) .. target(b, 2),
                              segment(0, 1, 4000, 50, to))
      assert.is.good(copy(asked, list))
      assert.is_true(data == content(b, to, 4000))
    end
  end)

  it("counts in blocks of the source, or of the destination", function()
    start(2)
    local a = add "handlers/ram.lua"
    local b = add("handlers/ram.lua", { block_size = 4096 })
    local data = numbered(32)
    write(a, 3, data)
    assert.is.good(copy(a, list_for(a, b, 16, 3, 7)))
    assert.equal(data:sub(1, 8192) .. ("\0"):rep(8192), read(b, 7, 4))
    local by_destination = lists.lid1(target(a) .. target(b),
                                      segment(0, 1, 4, 3, 7, 2))
    assert.is.good(copy(b, by_destination))
    assert.equal(data, read(b, 7, 4))
    assert.has.sense(copy(a, list_for(a, b, 15, 3, 7)), INEXACT)
    assert.is.good(copy(a, list_for(b, a, 1, 7, 100)))
    assert.equal(data:sub(1, 4096), read(a, 100, 8))
  end)

  it("refuses what a disk cannot be copied to, and from", function()
    start(2)
    local a = add "handlers/ram.lua"
    write(a, 0, ("a"):rep(BLOCK))
    local path <const> = os.tmpname()
    os.remove(path)
    local tape = add("handlers/tape.lua", {
      options = "path=" .. path })
    local zoned = add("handlers/zoned.lua", {
      size = 64 << 20,
      options = "zone_size=4M;create=yes;path=" .. path .. "z" })
    for _, odd in ipairs { tape, zoned } do
      odd.block_size = BLOCK
      for _, list in ipairs { list_for(a, odd, 1, 0, 0),
                              list_for(odd, a, 1, 0, 0) } do
        assert.has.sense(copy(a, list), WRONG_TYPE)
      end
    end
    local ro = add("handlers/ram.lua", { read_only = true })
    assert.has.sense(copy(a, list_for(a, ro, 1, 0, 0)), FAILURE)
    assert.is.good(copy(a, list_for(ro, a, 1, 0, 0)))
    assert.equal(("\0"):rep(BLOCK), read(a, 0, 1))
    for _, rest in ipairs { "", "z", "z.zones" } do os.remove(path .. rest) end
  end)

  it("refuses ranges and block sizes that the other device has not", function()
    start(2)
    local a, b = add "handlers/ram.lua", add "handlers/ram.lua"
    local blocks <const> = SIZE // BLOCK
    local r = copy(a, lists.lid1(target(a) .. target(b),
                                 segment(0, 1, 1, 0, 0)
                                 .. segment(0, 1, 2, 0, blocks - 1)))
    assert.has.sense(r, ABORTED)
    assert.equal(1, r.sense.command_specific)
    r = copy(a, lists.lid1(target(a) .. lists.target(lists.names(b)[2], 1024),
                           segment(0, 1, 1, 0, 0)))
    assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    assert.equal(16 + 32 + 29, r.sense.pointer.byte)
  end)

  it("waits for a write of the other device that overlaps", function()
    start(2)
    local a, b = add "handlers/ram.lua", add(SLOW)
    write(a, 0, ("a"):rep(BLOCK))
    local list = list_for(a, b, 1, 0, 8)
    local slow = b:submit(make.write_16 { lba = 8, blocks = 1 },
                          "MARK" .. ("w"):rep(BLOCK - 4))
    b.shard:turn(false)
    assert.is.good(copy(a, list))
    assert.is.good(b:wait(slow))
    assert.equal(("a"):rep(BLOCK), read(b, 8, 1))
  end)

  it("goes both ways at the same time, over the same blocks", function()
    start(2)
    local a, b = add(SLOW), add(SLOW)
    write(a, 0, numbered(2000))
    write(b, 0, numbered(2000, BLOCK, 5000))
    local there, back = list_for(a, b, 6000, 0, 0), list_for(b, a, 6000, 0, 0)
    local running = {}
    for i = 1, 4 do
      running[i] = a:submit(make.extended_copy_lid1 { length = #there },
                            (there:gsub("^.", string.char(i))))
      running[i + 4] = b:submit(make.extended_copy_lid1 { length = #back },
                                (back:gsub("^.", string.char(i))))
    end
    for i = 1, 4 do
      assert.is.good(a:wait(running[i]))
      assert.is.good(b:wait(running[i + 4]))
    end
  end)

  describe("ends properly", function()
    local a, b, list

    -- A copy whose first write at b takes five seconds or for ever.
    local function begin(mark, id)
      write(a, 0, mark .. ("a"):rep(BLOCK - 4))
      list = lists.lid1(target(a) .. target(b), segment(0, 1, 1, 0, 0), id)
      local running = a:submit(make.extended_copy_lid1 { length = #list }, list)
      for _ = 1, 20 do
        a.shard:turn(false)
        b.shard:turn(false)
      end
      assert.is_nil(running.result)
      return running
    end

    before_each(function()
      start(2)
      a, b = add("handlers/ram.lua"), add(SLOW)
    end)

    it("when the other device is removed or stopped", function()
      for _, verb in ipairs { "remove", "stop" } do
        local running = begin("HANG", verb == "stop" and 1 or 2)
        assert.equal(0, (b:close(verb)))
        assert.has.sense(a:wait(running), UNREACHABLE)
        b = add(SLOW)
      end
    end)

    it("when the other device is reset", function()
      local running = begin "HANG"
      b:abort()
      assert.has.sense(a:wait(running), FAILURE)
      assert.equal(("\0"):rep(BLOCK), read(b, 0, 1))
    end)

    it("when the other device hangs longer than its commands may", function()
      b = add(SLOW, { cmd_time_out = 10 })
      assert.has.sense(a:wait(begin "HANG"), FAILURE)
    end)

    it("when the other device hangs and the command is aborted", function()
      local running = begin "HANG"
      a:abort(running)
      assert.has.status(a:wait(running), 0x40)
      assert.is_true(a:now() < 1)
    end)

    it("when the device that was asked is removed or stopped", function()
      for _, verb in ipairs { "remove", "stop" } do
        begin("MARK", verb == "stop" and 1 or 2)
        assert.equal(0, (a:close(verb)))
        a = add "handlers/ram.lua"
      end
    end)

    it("when it goes on in the background and its device is removed", function()
      write(a, 0, "HANG" .. ("a"):rep(BLOCK - 4))
      list = lists.lid4(target(a) .. target(b), segment(0, 1, 1, 0, 0), 1, 1)
      assert.is.good(a:cmd(make.extended_copy_lid4 { length = #list }, list))
      for _ = 1, 20 do
        a.shard:turn(false)
        b.shard:turn(false)
      end
      assert.equal(0, (a:close "remove"))
    end)

    it("when it is aborted, but not before its write at the other device",
       function()
      local running = begin("MARK", 7)
      a:abort(running)
      for _ = 1, 5 do a.shard:turn(false) end
      assert.same({}, a.kernel:collect())
      assert.has.status(a:wait(running), 0x40)
      write(b, 0, ("n"):rep(BLOCK))
      assert.is_false(b:run(function() return false end))
      assert.equal(("n"):rep(BLOCK), read(b, 0, 1))
      local status = a:cmd(make.receive_copy_status_lid1 {
        list_identifier = 7, length = 64 })
      assert.equal(2, status.data:byte(5))
    end)

    it("one after the other: no more at a time than page 8Fh says", function()
      write(a, 0, "HANG" .. ("a"):rep(BLOCK - 4))
      local function background(id)
        list = lists.lid4(target(a) .. target(b), segment(0, 1, 1, 0, 0), id,
                          1)
        return a:cmd(make.extended_copy_lid4 { length = #list }, list)
      end
      local function state(id)
        return a:cmd(make.receive_copy_status_lid4 {
          list_identifier = id, length = 64 }).data:byte(6)
      end
      for id = 1, 16 do assert.is.good(background(id)) end
      assert.has.status(background(17), 0x08)
      assert.equal(0x12, state(5))
      b:abort()
      a:run(function() return state(6) == 2 end)
      assert.is.good(background(17))
    end)

    it("when it goes on in the background and its device is reset", function()
      write(a, 0, "MARK" .. ("a"):rep(BLOCK - 4))
      local one = segment(0, 1, 1, 0, 0)
      list = lists.lid4(target(a) .. target(b), one .. one .. one, 3, 1)
      assert.is.good(a:cmd(make.extended_copy_lid4 { length = #list }, list))
      a:abort()
      local told
      a:run(function()
        told = a:cmd(make.receive_copy_status_lid4 { list_identifier = 3,
                                                     length = 64 }).data
        return told:byte(6) == 0x60
      end)
      assert.equal(1, (string.unpack(">I2", told, 25)))
      assert.is_true(a:now() < 6)
    end)

    it("when it is aborted while it reads", function()
      write(b, 0, "RDLY" .. ("b"):rep(BLOCK - 4))
      local back = lists.lid1(target(b) .. target(a), segment(0, 1, 1, 0, 0))
      local running = a:submit(make.extended_copy_lid1 { length = #back }, back)
      for _ = 1, 20 do
        a.shard:turn(false)
        b.shard:turn(false)
      end
      a:abort(running)
      assert.has.status(a:wait(running), 0x40)
      assert.is_true(a:now() < 1)
    end)

    it("when the medium of the other device is taken out", function()
      local drive = add("handlers/ram.lua", { options = "removable=1" })
      local drive_list = list_for(a, drive, 1, 0, 0)
      assert.is.good(copy(a, drive_list))
      assert.is.good(drive:cmd(make.start_stop_unit { loej = true }))
      assert.has.sense(copy(a, drive_list), FAILURE)
    end)
  end)
end)
