--- A device and its ring: broken rings, old kernels, and stale bytes.
local commands = require "spec.commands"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local strace = require "spec.strace"

local read <const>, vendor <const> = commands.read, commands.vendor

local BLOCK <const> = 512
local POISON <const> = 0xA5
local RAW <const> = core.raw
local ALL <const> = RAW.OOOC | RAW.READ_LEN | RAW.TMR | RAW.KEEP_BUF

local function handler(fields)
  return "=h\nlocal tcmu = require 'tcmu'\nlocal scsi = require 'tcmu.scsi'\n"
    .. "return tcmu.handler { name = 'h', open = function(dev) "
    .. "return { store = tcmu.store.memory(dev.size) } end, on = { "
    .. fields .. " } }"
end

local function write(lba, byte)
  return scsi.cdb.write_10 { lba = lba, length = 1 }, byte:rep(BLOCK)
end

local function device(fields, options)
  return assert(sim.device(handler(fields), options))
end

describe("what asks whether the disk is ready", function()
  local READY <const> = ("\0"):rep(6)

  it("does not wait for what came before", function()
    local dev <close> = device "[0xC1] = function() tcmu.sleep(1000) end"
    local slow = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    for _ = 1, 3 do assert.is.good(dev:cmd(READY)) end
    assert.is_nil(slow.result)
    assert.is.good(dev:wait(slow))
  end)

  it("is answered in order where the kernel demands it", function()
    local dev <close> = device("[0xC1] = function() tcmu.sleep(1) end",
                               { kernel = { caps = ALL & ~RAW.OOOC } })
    local all = { dev:submit(READY), dev:submit(vendor(0xC1)),
                  dev:submit(READY), dev:submit(READY) }
    for i = 1, 4 do assert.equal(all[i], dev:next_done()) end
    assert.is_false(dev.kernel:broken())
  end)
end)

describe("a command that comes alone", function()
  it("is answered before the event that told of it is read", function()
    if not strace.works then pending "strace may not trace here" return end
    local lines, out = strace.run([[
      local dev <close> = assert(sim.device "handlers/ram.lua")
      local bytes = scsi.cdb.test_unit_ready()
      assert(dev:cmd(bytes).status == 0)
      mark "begin"
      assert(dev:cmd(bytes).status == 0)
      mark "end"]], "read,write", "-e signal=none")
    assert.equal("", out)
    local calls = {}
    for i, line in ipairs(strace.between(lines, "begin", "end")) do
      calls[i] = line:match "(%w+)%("
    end
    assert.same({ "write", "read" }, calls)
  end)
end)

describe("a ring that is broken", function()
  it("parks its device and says why; the other devices live", function()
    local host <close> = sim.host()
    local bad = assert(host:device "handlers/ramdisk.lua")
    local good = assert(host:device "handlers/ramdisk.lua")
    assert.is.good(bad:cmd(write(0, "a")))
    -- cmd_head, at offset 12 of the mailbox, points to nowhere
    bad.kernel:poke(12, string.pack("<I4", 0xFFFFFFF0))
    bad:submit(write(1, "b"))
    bad.kernel:poke(12, string.pack("<I4", 0xFFFFFFF0))
    bad:run(function() return host.reports[bad.id .. "parked"] end)
    local report = host.reports[bad.id .. "parked"]
    assert.is_not_nil(report)
    assert.equal(-71, report.status)
    assert.is_string(report.why)
    for i = 1, 10 do assert.is.good(good:cmd(write(i, "c"))) end
    assert.equal(0, (bad:close()))
  end)

  it("can be left by a removal with commands in flight", function()
    local dev = device "[0xC1] = function() tcmu.sleep(1e9) end"
    dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:submit(write(1, "b"))
    dev.kernel:poke(12, string.pack("<I4", 0xFFFFFFF0))
    dev:run(function() return dev.host.reports[dev.id .. "parked"] end)
    assert.equal(0, (dev:close("remove")))
  end)
end)

describe("a command whose CDB lies", function()
  local RING_END <const> = 8 << 20
  for where, at in pairs { ["in the mailbox"] = 0,
                           ["in the data area"] = RING_END,
                           ["across the ring's end"] = RING_END - 5 } do
    it(where .. " parks its device", function()
      local dev = assert(sim.device "handlers/ram.lua")
      local head = string.unpack("<I4", dev.kernel:peek(12, 4))
      local ring_at = string.unpack("<I4", dev.kernel:peek(4, 4))
      dev:submit(write(0, "a"))
      dev.kernel:poke(ring_at + head + 24, string.pack("<I8", at))
      dev:run(function() return dev.host.reports[dev.id .. "parked"] end)
      assert.matches("CDB", dev.host.reports[dev.id .. "parked"].why)
      dev:close()
    end)
  end
end)

describe("an entry that no one knows", function()
  it("is flagged, and the next command is answered", function()
    local dev <close> = assert(sim.device "handlers/ramdisk.lua")
    local head = string.unpack("<I4", dev.kernel:peek(12, 4))
    local ring_at = string.unpack("<I4", dev.kernel:peek(4, 4))
    local h = dev:submit(write(0, "a"))
    local len_op = string.unpack("<I4", dev.kernel:peek(ring_at + head, 4))
    dev.kernel:poke(ring_at + head, string.pack("<I4", len_op & ~7 | 6))
    dev:submit(write(1, "b"))
    dev:run(function() return h.result end)
    -- LOGICAL UNIT COMMUNICATION FAILURE, as the kernel answers UNKNOWN_OP
    assert.equal(0x02, h.result.status)
    assert.is.good(dev:cmd(read(1)))
  end)
end)

describe("a mailbox that this host does not know", function()
  it("is refused with both versions named", function()
    local dev, why, errno = sim.device("handlers/ram.lua",
                                       { kernel = { version = 3 } })
    assert.is_nil(dev)
    assert.matches("3", why)
    assert.matches("2", why)
    assert.equal(71, errno)
  end)
end)

describe("a kernel that takes answers only in order", function()
  it("gets them in order, all of them", function()
    local dev <close> = device([[
      [0xC1] = function(_, cmd) tcmu.sleep(cmd:u8(1)) return "x" end]],
      { kernel = { caps = ALL & ~RAW.OOOC } })
    local all = {}
    for i, ms in ipairs { 30, 0, 20, 10, 0 } do
      all[i] = dev:submit(vendor(0xC1, ms))
    end
    for i = 1, 5 do assert.equal(all[i], dev:next_done()) end
    assert.is_false(dev.kernel:broken())
  end)

  it("is served through an abort of the oldest", function()
    local dev <close> = device([[
      [0xC1] = function() tcmu.sleep(1e9) end]],
      { kernel = { caps = ALL & ~RAW.OOOC } })
    local old = dev:submit(vendor(0xC1))
    local new = dev:submit(write(0, "a"))
    dev.shard:turn(false)
    assert.is_nil(new.result)
    dev:abort(old)
    assert.is.good(dev:wait(new))
    assert.has.status(old.result, 0x40)
  end)
end)

-- What a disk may send back of what it was asked for, for each way of not
-- filling the buffer.
local SHORT <const> = {
  ["a string"] = "return 'short'",
  ["a buffer"] = "local b = tcmu.buffer(5) b:put(0, 'short') return b",
  ["nothing"] = "",
  ["an empty string"] = "return ''",
  ["a part in place"] = "cmd.data:put(0, 'short')",
  ["a part in the middle"] = "cmd.data:put(100, 'short')",
  ["the untouched data"] = "return cmd.data",
  ["data after a change"] = "cmd.data:set8(7, 1) return cmd.data",
  ["data read from a store in part"] = "self.store:read(cmd.data, 0, 50, 10)",
  ["data whose read failed"] = [[
    pcall(self.store.read, self.store, cmd.data, 1 << 40)]],
  ["data whose read failed in part"] = [[
    pcall(self.store.read, self.store, cmd.data, 1 << 40, 20, 30)
    return cmd.data]],
  ["a copy of a part"] = "cmd.data:copy(10, 'short')",
  ["a fill of a part"] = "cmd.data:fill(1, 0, 10)",
  ["status BUSY"] = "error(scsi.status.BUSY)",
  ["sense"] = "error(scsi.MEDIUM_NOT_PRESENT)",
  ["sense after a change"] = "cmd.data:set8(0, 1) error(scsi.WRITE_ERROR)",
  ["a bug"] = "error 'bug'",
  ["a loop"] = "while true do end",
  ["a string after a change"] = "cmd.data:fill(1) return 'short'",
}

describe("nothing stale leaves:", function()
  local function stale(bytes)
    return bytes:find(string.char(POISON), 1, true) ~= nil
  end

  for _, caps in ipairs { ALL, ALL & ~RAW.READ_LEN } do
    local how = caps == ALL and "" or ", without READ_LEN"
    for what, body in pairs(SHORT) do
      it(what .. how, function()
        local dev <close> = device("[0xC1] = function(self, cmd) " .. body
                                   .. " end", { kernel = { caps = caps } })
        dev.kernel:poison(POISON)
        for _, length in ipairs { 7, 1000, 4096, 70000 } do
          if length > 700 or not body:find "%(100" then
            local r = dev:cmd(vendor(0xC1), { data_in = length })
            assert.is_false(stale(r.data))
            if caps ~= ALL and r.status == 0 then
              assert.equal(length, #r.data)
            end
          end
        end
      end)
    end

    it("the host's own answers" .. how, function()
      for _, name in ipairs { "ram", "ramdisk", "zero" } do
        local dev <close> = assert(sim.device("handlers/" .. name .. ".lua",
          { kernel = { caps = caps } }))
        dev.kernel:poison(POISON)
        for opcode = 0, 255 do
          for _, second in ipairs { 0, 1, 0x0C, 0x10 } do
            local cdb = string.char(opcode, second) .. ("\0"):rep(6)
                        .. "\1\0\0\1\0\0\1\0"
            local ok, r = pcall(dev.cmd, dev, cdb, { data_in = 5000 })
            if ok then assert.is_false(stale(r.data)) end
          end
        end
        assert.is_false(dev.kernel:broken())
      end
    end)

    it("a read that fails or is aborted" .. how, function()
      local dev <close> = device([[
        [scsi.READ_10] = function(self, cmd)
          cmd.data:put(0, "x")
          tcmu.sleep(1000)
        end]], { kernel = { caps = caps } })
      dev.kernel:poison(POISON)
      local h = dev:submit(read(0, 8))
      dev.shard:turn(false)
      dev:abort(h)
      assert.is_false(stale(dev:wait(h).data))
      -- and the pages themselves are clean, should a kernel look at them
      local ring_size = 8 << 20
      assert.is_false(stale(dev.kernel:peek(ring_size, 8 * BLOCK)))
    end)
  end

  it("the Data-In of a bidirectional command", function()
    for what, body in pairs {
      untouched = "", text = "return 'short'", ["out in place"] =
      "return cmd.data", ["in place"] = "cmd.data_in:put(3, 'x')",
      ["in"] = "return cmd.data_in",
    } do
      local dev <close> = device("[0xC1] = function(self, cmd) " .. body
                                 .. " end")
      dev.kernel:poison(POISON)
      local r = dev:cmd(vendor(0xC1), { data_out = ("o"):rep(3000),
                                        data_in = 5000 })
      assert.is.good(r)
      assert.is_false(stale(r.data), what)
      if what == "out in place" then
        assert.is_true(r.data:sub(1, 3000) == ("o"):rep(3000))
      end
    end
  end)
end)

describe("a bidirectional command", function()
  it("has its Data-Out in data and its Data-In in data_in", function()
    local dev <close> = device [[
      [0xC1] = function(_, cmd)
        assert(#cmd.data == 10 and #cmd.data_in == 20)
        cmd.data_in:put(0, cmd.data:get():reverse())
        return cmd.data_in
      end]]
    local r = dev:cmd(vendor(0xC1), { data_out = "0123456789", data_in = 20 })
    assert.equal("9876543210" .. ("\0"):rep(10), r.data)
  end)
end)

describe("completions", function()
  it("of one turn are told with one write", function()
    local dev <close> = assert(sim.device "handlers/ram.lua")
    for i = 1, 100 do dev:submit(write(i, "x")) end
    local before = dev.shard:writes(dev.id)
    dev.shard:turn(false)
    assert.equal(before + 1, dev.shard:writes(dev.id))
  end)

  -- `count` of them, with how many writes: after two, and after the others.
  local function are_told(dev, count, writes)
    local all = {}
    for i = 1, count do all[i] = dev:submit(write(i, "x")) end
    local before = dev.shard:writes(dev.id)
    dev.shard:turn(false)
    assert.equal(before + writes, dev.shard:writes(dev.id))
    for i = 1, count do
      assert.equal(all[i], dev:next_done())
      assert.is.good(all[i].result)
    end
  end

  it("of a few are told with one write for the first two", function()
    local dev <close> = assert(sim.device "handlers/ram.lua")
    are_told(dev, 1, 1)
    are_told(dev, 2, 1)
    are_told(dev, 3, 2)
    are_told(dev, 12, 2)
  end)

  it("of a few are told with one write by who was awake anyway", function()
    if core.cpus() < 2 then pending "needs two processors" return end
    local dev <close> = assert(sim.device("handlers/ram.lua",
      { poll = "on", poll_limit = 10000000, poll_cost = 1 }))
    are_told(dev, 3, 2)
    assert.is_true(dev.shard:awake())
    are_told(dev, 3, 1)
  end)

  -- The initiator of the first gets it while the others are copied.
  for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
    it("of much data are told each by itself: " .. path, function()
      local dev <close> = assert(sim.device(path))
      local length = (1 << 20) // BLOCK
      local all = {}
      for i = 1, 4 do
        all[i] = dev:submit(read((i - 1) * length, length))
      end
      local before = dev.shard:writes(dev.id)
      dev.shard:turn(false)
      assert.equal(before + 4, dev.shard:writes(dev.id))
      for i = 1, 4 do
        assert.equal(all[i], dev:next_done())
        assert.is.good(all[i].result)
      end
    end)
  end
end)
