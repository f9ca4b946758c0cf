--- The memory store around the borders of its tables, which cover 256 MiB and
--- 1 TiB: what is not there, and what is, on either side.

local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local tcmu = require "tcmu"

local make <const> = scsi.cdb
local BLOCK <const>, PAGE <const> = 512, 65536
local MIB <const>, TIB <const> = 1 << 20, 1 << 40

local function put(store, offset, byte)
  local buf <const> = tcmu.buffer(BLOCK)
  buf:fill(byte)
  store:write(buf, offset)
end

local function first(store, offset)
  local buf <const> = tcmu.buffer(1)
  store:read(buf, offset)
  return buf:u8(0)
end

describe("a memory store", function()
  it("empties all that is named, whatever is there on either side", function()
    for _, border in ipairs { 256 * MIB, 512 * MIB, TIB } do
      for _, verb in ipairs { "discard", "zero" } do
        for _, before in ipairs { 1, BLOCK, PAGE - BLOCK, PAGE, 300 * MIB } do
          local store <close> = tcmu.store.memory(2 * TIB)
          local from <const> = math.max(border - before, 0)
          local behind <const> = border + BLOCK
          put(store, border, 0x6F)
          put(store, behind, 0x6B)
          store[verb](store, from, behind - from)
          local where = ("%s of %d bytes before %d"):format(verb, before, border)
          assert.equal(0, first(store, border), where)
          assert.equal(0x6B, first(store, behind), where)
        end
      end
    end
  end)

  it("tells of what is there up to its end, wherever one asks", function()
    local size <const> = PAGE + 4096
    local store <close> = tcmu.store.memory(size)
    put(store, PAGE, 0x6F)
    for _, at in ipairs { 0, 512, PAGE - 512 } do
      local there, length = store:status(at)
      assert.same({ "deallocated", PAGE - at }, { there, length })
    end
    for _, at in ipairs { PAGE, PAGE + 512, size - 512 } do
      local there, length = store:status(at)
      assert.same({ "mapped", size - at }, { there, length })
    end
  end)
end)

describe("a device in memory", function()
  local dev

  before_each(function()
    dev = assert(sim.device("handlers/ram.lua", { size = 512 * MIB }))
  end)
  after_each(function() dev:close() end)

  local middle <const> = 256 * MIB // BLOCK
  for what, empty in pairs {
    ["UNMAP"] = function()
      local list = string.pack(">I2I2xxxxI8I4xxxx", 22, 16, middle - 2, 4)
      return dev:cmd(make.unmap { length = #list }, list)
    end,
    ["WRITE SAME"] = function()
      return dev:cmd(make.write_same_16 { lba = middle - 2, blocks = 4 },
                     ("\0"):rep(BLOCK))
    end,
    ["WRITE SAME with UNMAP"] = function()
      return dev:cmd(make.write_same_16 { lba = middle - 2, blocks = 4,
                                          unmap = true }, ("\0"):rep(BLOCK))
    end,
  } do
    it("leaves nothing of what was there after " .. what, function()
      dev:cmd(commands.write(middle, 2, "o"))
      assert.is.good(empty())
      assert.equal(("\0"):rep(4 * BLOCK),
                   dev:cmd(commands.read(middle - 2, 4)).data)
    end)
  end
end)
