--- Commands that move much: whoever comes after them need not wait for their
--- end, and the watchdog has no reason to stop them.
local core = require "tcmu.core"
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

local make = scsi.cdb
local BLOCK <const> = 512
local MIB <const> = (1 << 20) // BLOCK
local SIZE <const> = 64 << 20

-- A disk in memory that does without unmap: zeroes have to be written.
local PLAIN <const> = [[=plain
local tcmu = require "tcmu"
return tcmu.handler { name = "plain",
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
}
]]

-- The commands, as functions that make the CDB and Data-Out.
local function write_same(byte)
  return function()
    return make.write_same_16 { lba = 0, blocks = 32 * MIB - 1 },
           byte:rep(BLOCK)
  end
end

local function verify()
  return make.verify_16 { lba = 0, blocks = 32 * MIB }, ""
end

local function copy(dev)
  local list = lists.lid1(lists.target(lists.names(dev)[1], BLOCK),
                          lists.segment(0, 0, 24 * MIB, 0, 32 * MIB))
  return make.extended_copy_lid1 { length = #list }, list
end

local function copies(dev)
  local segments = {}
  for i = 0, 23 do
    segments[#segments + 1] = lists.segment(0, 0, MIB, 0, (32 + i) * MIB)
  end
  local list = lists.lid1(lists.target(lists.names(dev)[1], BLOCK),
                          table.concat(segments))
  return make.extended_copy_lid1 { length = #list }, list
end

local function zeroes_by_token()
  local token = string.pack(">I4xxI2c504", 0xFFFF0001, 504, ("\0"):rep(504))
  local list = string.pack(">s2", string.pack(">BxxxxxI8c512xxxxxxs2", 0, 0,
    token, string.pack(">I8I4xxxx", 0, 32 * MIB)))
  return make.write_using_token { list_identifier = 2, length = #list }, list
end

-- Handler, name, command.
local CASES <const> = {
  { "handlers/ram.lua", "a WRITE SAME of a pattern", write_same "x" },
  { "handlers/ram.lua", "a VERIFY", verify },
  { "handlers/ram.lua", "a copy of one segment", copy },
  { "handlers/ram.lua", "a copy of small segments", copies },
  { PLAIN, "a WRITE SAME of zeroes", write_same "\0" },
  { PLAIN, "a WRITE SAME of a pattern", write_same "x" },
  { PLAIN, "a VERIFY", verify },
  { PLAIN, "a copy of one segment", copy },
  { PLAIN, "zeroes by token", zeroes_by_token },
}

describe("behind", function()
  for _, case in ipairs(CASES) do
    local handler, name, command = table.unpack(case)
    local where = handler == PLAIN and "a handler" or "a store"
    it(name .. " that never waits for " .. where .. " others have their turn",
    function()
      local dev <close> = assert(sim.device(handler,
        { size = SIZE, serial = "00112233" }))
      local cdb, data = command(dev)
      local long = dev:submit(cdb, data)
      local short = dev:submit(make.request_sense { length = 18 })
      assert.equal(short, dev:next_done())
      assert.is.good(short.result)
      assert.is.good(dev:wait(long))
    end)
  end
end)

describe("the budget of a shard", function()
  teardown(function() core.budget(2000) end)

  -- The budget is a quarter of the CPU time that it takes on this machine, with
  -- whatever the host is built with, as a part of it tells.
  it("suffices for a VERIFY of all of a large disk", function()
    local dev <close> = assert(sim.device("handlers/ram.lua",
                                          { size = 2 << 30 }))
    local function verify_all(parts)
      assert.is.good(dev:cmd(
        make.verify_16 { lba = 0, blocks = 2048 * MIB // parts }, ""))
    end
    core.budget(0)
    local begun <const> = os.clock()
    verify_all(32)
    core.budget(math.ceil((os.clock() - begun) * 1000 * 32 / 4))
    verify_all(1)
  end)
end)

it("zeroes that fit into one part are written without a turn for others",
   function()
  local dev <close> = assert(sim.device([[=own
    local tcmu = require "tcmu"
    return tcmu.handler { name = "own",
      open = function(dev)
        return { bytes = tcmu.buffer(dev.size), dev = dev }
      end,
      read = function() end,
      write = function(self, cmd, offset, length)
        self.bytes:copy(offset, cmd.data, 0, length)
      end,
      on = {
        [0xC1] = function(self)
          return coroutine.wrap(function()
            self.dev:zero(0, 4096)
            return "done"
          end)()
        end,
      } }]], { size = 1 << 20 }))
  assert.equal("done", dev:cmd(vendor(0xC1)).data)
end)
