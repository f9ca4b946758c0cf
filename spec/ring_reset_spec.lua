--- A device whose ring somebody resets while commands run: the kernel drops
--- them and gives their data to new ones, some time before the device can know.
-- Nothing of an old command may then get into a new one's data, nor the other
-- way round; and no reset is told of before the next command.
local commands = require "spec.commands"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local read <const>, vendor <const> = commands.read, commands.vendor
local write <const> = commands.write

local BLOCK <const>, BUSY <const> = 512, 0x08
local RAW <const> = core.raw
local ALL <const> = RAW.OOOC | RAW.READ_LEN | RAW.TMR | RAW.KEEP_BUF

local function device(fields, options)
  return assert(sim.device("=h\nlocal tcmu = require 'tcmu'\n"
    .. "return tcmu.handler { name = 'h', open = function(dev) "
    .. "return { store = tcmu.store.memory(dev.size) } end, on = { "
    .. fields .. " } }", options))
end

describe("a ring that somebody resets", function()
  it("is served on, and what was running is dropped", function()
    local dev <close> = device [[
      [0xC1] = function() tcmu.sleep(100) end]]
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev.kernel:reset(1)
    dev:run(function() return h.result end)
    assert.has.status(h.result, BUSY)
    for i = 1, 10 do assert.is.good(dev:cmd(write(i, 1, "a"))) end
    dev:run(function() return false end)        -- the sleeper wakes to nothing
    assert.is_false(dev.kernel:broken())
    assert.equal(("a"):rep(BLOCK), dev:cmd(read(3)).data)
  end)

  it("while the disk is at work is answered by the new commands alone",
     function()
    local path <const> = os.tmpname()
    os.remove(path)
    local dev = assert(sim.device("handlers/file.lua", { size = 1 << 20,
      write_cache = false, options = "path=" .. path .. ";create=yes" }))
    for i = 1, 6 do dev:submit(write(i, 1, "o")) end
    dev.shard:turn(false)
    dev.kernel:reset(1)
    for i = 1, 6 do assert.is.good(commands.insist(dev, write(i, 1, "n"))) end
    assert.is_false(dev.kernel:broken())
    for i = 1, 6 do
      assert.is_true(dev:cmd(read(i)).data == ("n"):rep(BLOCK))
    end
    dev:close()
    os.remove(path)
  end)

  it("again and again loses nothing that comes after", function()
    local dev <close> = assert(sim.device "handlers/ramdisk.lua")
    for round = 1, 50 do
      for i = 1, round % 7 do dev:submit(write(i, 1, "x")) end
      if round % 3 == 0 then dev.shard:turn(false) end
      dev.kernel:reset(round % 2 + 1)
      assert.is.good(dev:cmd(write(round, 1, "y")))
    end
    assert.is_false(dev.kernel:broken())
  end)

  -- As long as nothing has been answered since a start, cmd_tail is 0 as it is
  -- after a reset.
  it("although nothing was answered runs nothing again that lay there before",
     function()
    local dev <close> = device "[0xC1] = function() tcmu.sleep(100) end"
    local function letter(i) return string.char(97 + i) end
    for i = 0, 9 do assert.is.good(dev:cmd(write(i, 1, letter(i)))) end
    dev.kernel:reset(1)                 -- as every start does
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev.kernel:reset(1)
    dev:run(function() return false end)
    assert.has.status(h.result, BUSY)
    assert.is.good(dev:cmd(write(20, 1, "x")))
    for i = 0, 9 do
      assert.is_true(letter(i):rep(BLOCK) == dev:cmd(read(i)).data)
    end
  end)

  it("in the midst of a long queue takes nothing more of it", function()
    local dev <close> = device "[0xC1] = function() tcmu.sleep(100) end"
    for _ = 1, 256 do dev:submit(vendor(0xC1)) end
    for i = 0, 43 do dev:submit(write(i, 1, "o")) end
    dev.shard:turn(false)               -- takes 256 of them
    dev.kernel:reset(1)
    assert.is.good(dev:cmd(write(100, 100, "n")))
    for i = 0, 43 do
      assert.is_true(("\0"):rep(BLOCK) == dev:cmd(read(i)).data)
    end
  end)

  -- The old command wakes after the new one has been put on its pages, and
  -- before the drain that finds the reset.
  local function wakes_late(dev, old, data, room)
    dev:submit(old, data, room)
    dev.shard:turn(false)
    dev.kernel:reset(1)
    local new = dev:submit(write(0, 1, "n"))
    dev.shard:advance()
    dev:run(function() return new.result end)
    if new.result.status == BUSY then   -- it has to be sent again
      new.result = dev:cmd(write(0, 1, "n"))
    end
    assert.is.good(new.result)
    assert.is_true(("n"):rep(BLOCK) == dev:cmd(read(0)).data)
  end

  for before = 0, 3 do
    it(("changes no byte of a write by the end of one that was %d after")
         :format(before), function()
      local dev <close> = device "[0x8A] = function() tcmu.sleep(100) end"
      for _ = 1, before do assert.is.good(dev:cmd(read(1))) end
      wakes_late(dev, scsi.cdb.write_16 { lba = 7, length = 1 },
                 ("o"):rep(BLOCK))
    end)
  end

  for how, does in pairs {
    ["what a command returns"] = "return ('o'):rep(512)",
    ["what a command puts there"] = "cmd.data:put(0, ('o'):rep(512))",
  } do
    it("changes no byte of a write by " .. how, function()
      local dev <close> = device("[0xC1] = function(_, cmd) tcmu.sleep(100) "
                                 .. does .. " end")
      wakes_late(dev, vendor(0xC1), nil, BLOCK)
    end)
  end

  it("lets no write begin that had waited for its range", function()
    local dev <close> = device "[0x8A] = function() tcmu.sleep(100) end"
    dev:submit(scsi.cdb.write_16 { lba = 0, length = 1 }, ("s"):rep(BLOCK))
    dev:submit(write(0, 1, "o"))
    dev.shard:turn(false)
    dev.kernel:reset(1)
    dev:submit(write(8, 1, "x"))
    local new = dev:submit(write(9, 1, "n"))
    dev.shard:advance()
    dev:run(function() return new.result end)
    assert.is_true(("\0"):rep(BLOCK) == dev:cmd(read(0)).data)
  end)

  -- Each block has a letter of its own: any other was somebody else's data.
  for what, caps in pairs {
    ["in any order"] = ALL, ["in order"] = ALL & ~RAW.OOOC,
    ["without READ_LEN"] = ALL & ~RAW.READ_LEN,
  } do
    it("at random mixes no data of commands answered " .. what, function()
      local dev <close> = device([[
        [0xC1] = function() tcmu.sleep(math.random(0, 5)) end,
        [0xC2] = function()
          tcmu.sleep(math.random(0, 3))
          return ("q"):rep(512)
        end,
        [0x8A] = function(self, cmd)
          if math.random() < 0.7 then tcmu.sleep(math.random(0, 3)) end
          self.store:write(cmd.data, cmd.offset)
        end]], { kernel = { caps = caps, ring_size = 4096 } })
      local LAST <const>, written = 15, {}

      local function add(batch)
        local lba <const> = math.random(0, LAST)
        local data <const> = string.char(97 + lba):rep(BLOCK)
        local place <const> = { lba = lba, length = 1 }
        local kind <const> = math.random(6)
        if kind == 1 then
          batch[#batch + 1] = dev:submit(("\0"):rep(6))
        elseif kind == 2 then
          batch[#batch + 1] = dev:submit(vendor(0xC1))
        elseif kind == 3 then
          batch[#batch + 1] = dev:submit(vendor(0xC2))
        elseif kind == 4 then
          batch[#batch + 1] = dev:submit(scsi.cdb.write_16(place), data)
          written[lba] = data
        else
          batch[#batch + 1] = dev:submit(scsi.cdb.write_10(place), data)
          written[lba] = data
        end
      end
      local function several(batch, least, most)
        for _ = least, math.random(least, most) do add(batch) end
      end

      for round = 1, 100 do
        local batch = {}
        several(batch, 1, 12)
        if math.random(2) == 1 then dev.shard:turn(false) end
        if math.random(2) == 1 then
          dev.kernel:reset(math.random(2))
          several(batch, 1, 8)
          for _ = 1, math.random(0, 3) do dev.shard:advance() end
        end
        add(batch)
        for _, command in ipairs(batch) do
          dev:run(function() return command.result end)
        end
        for lba = 0, LAST do
          local data <const> = dev:cmd(read(lba)).data
          assert.is_true(data == written[lba] or data == ("\0"):rep(BLOCK),
                         ("round %d, block %d has %q"):format(round, lba,
                           data:sub(1, 8)))
        end
      end
      assert.is_false(dev.kernel:broken())
    end)
  end
end)
