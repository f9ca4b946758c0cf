--- What becomes of store operations whose commands a reset of the ring has
--- dropped: by the time their turn comes their data are other commands'.
local commands = require "spec.commands"
local shell = require "spec.shell"
local sim = require "tcmu.sim"

local insist <const>, read <const> = commands.insist, commands.read
local write <const> = commands.write

local BLOCK <const> = 512
local BLOCKS <const> = 64               -- of one command
local COUNT <const> = 40                -- commands: more than go at a time
local BUSY <const> = 8

describe("a file store", function()
  local path

  before_each(function() path = shell.temporary() end)
  after_each(function() os.remove(path) end)

  local function open(options, in_lua)
    local source = ([[=h
      local tcmu = require "tcmu"
      return tcmu.handler { name = "h",
        open = function(dev)
          local options = { reads = "async", writes = "async", %s }
          return { %s = tcmu.store.file(%q, "c", dev.size, options) }
        end, %s }]]):format(options, in_lua and "file" or "store", path, in_lua
          and [[
        read = function(self, cmd, offset)
          self.file:read(cmd.data, offset)
        end,
        write = function(self, cmd, offset)
          self.file:write(cmd.data, offset)
        end ]] or "")
    return assert(sim.device(source, { size = 8 << 20 }))
  end

  local function place(i) return i * BLOCKS end

  for name, how in pairs {
    ["by threads"] = { "aio = 'threads'" },
    ["past the page cache"] = { "aio = 'threads', direct = true" },
    ["in Lua"] = { "aio = 'threads'", true },
  } do
    it("reads nothing into the data of newer writes, " .. name, function()
      local dev <close> = open(how[1], how[2])
      for i = 1, COUNT do
        assert.is.good(insist(dev, write(place(i), BLOCKS, "r")))
      end
      for i = 1, COUNT do dev:submit(read(place(i), BLOCKS)) end
      dev.shard:turn(false)
      dev.kernel:reset(1)
      local new = {}
      for i = 1, COUNT do
        new[i] = dev:submit(write(place(COUNT + i), BLOCKS, "n"))
      end
      for i = 1, COUNT do
        if dev:wait(new[i]).status == BUSY then
          new[i].result = insist(dev, write(place(COUNT + i), BLOCKS, "n"))
        end
        assert.is.good(new[i].result)
      end
      for i = 1, COUNT do
        assert.is_true(("n"):rep(BLOCKS * BLOCK)
                       == insist(dev, read(place(COUNT + i), BLOCKS)).data)
      end
    end)

    it("writes none of what newer commands have brought, " .. name, function()
      local dev <close> = open(how[1], how[2])
      for i = 1, COUNT do dev:submit(write(place(i), BLOCKS, "o")) end
      dev.shard:turn(false)
      dev.kernel:reset(1)
      for i = 1, COUNT do
        dev:submit(write(place(COUNT + i), BLOCKS, "n"))
      end
      assert.is.good(insist(dev, read(0, 1)))
      local wrong = 0
      for i = 1, COUNT do
        local data = insist(dev, read(place(i), BLOCKS)).data
        if data:find "n" then wrong = wrong + 1 end
      end
      -- what a thread has begun cannot be called back
      assert.is_true(wrong <= 2, wrong .. " are wrong")
    end)
  end

  -- Each block has a letter of its own: any other was somebody else's data.
  -- Only where a write was dropped that may be, until one has ended well.
  local LAST <const>, ROUNDS <const> = 25, 60

  local function several(dev, most)
    local batch = {}
    for i = 1, math.random(0, most) do
      local lba <const> = math.random(0, LAST)
      if math.random(2) == 1 then
        batch[i] = dev:submit(read(lba))
      else
        batch[i] = dev:submit(write(lba, 1, string.char(97 + lba)))
        batch[i].write = lba
      end
    end
    return batch
  end

  local function judge(dev, batch, doubtful)
    local dropped = {}
    for _, command in ipairs(batch) do
      local good <const> = dev:wait(command).status == 0
      if command.write and good then doubtful[command.write] = nil end
      if command.write and not good then dropped[command.write] = true end
    end
    for lba in pairs(dropped) do doubtful[lba] = true end
    for lba = 0, LAST do
      local data <const> = insist(dev, read(lba)).data
      assert.is_true(doubtful[lba] or data == ("\0"):rep(BLOCK)
                     or data == string.char(97 + lba):rep(BLOCK),
                     ("block %d has %q"):format(lba, data:sub(1, 8)))
    end
  end

  for name, options in pairs {
    ["by io_uring, if it is to be had"] = "", ["by threads"] = "aio = 'threads'",
    ["past the page cache"] = "direct = true",  -- landing at any time
  } do
    it("mixes no data at random, " .. name, function()
      local dev <close> = open(options)
      local doubtful = {}
      for _ = 1, ROUNDS do
        local batch = several(dev, 40)
        for _ = 1, math.random(0, 2) do dev.shard:turn(false) end
        for _ = 1, math.random(0, 2) do
          dev.kernel:reset(math.random(2))
          table.move(several(dev, 20), 1, 20, #batch + 1, batch)
          if math.random(2) == 1 then dev.shard:turn(false) end
        end
        batch[#batch + 1] = dev:submit(read(0))
        judge(dev, batch, doubtful)
      end
      assert.is_false(dev.kernel:broken())
    end)
  end
end)
