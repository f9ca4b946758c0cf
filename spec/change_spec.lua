--- A device that is open gets another size: what is kept of what was cut off,
--- and what its handler hears.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const>, MIB <const> = 512, 1 << 20
local LAST <const> = 2 * MIB // BLOCK - 1

describe("a device that was cut and grows", function()
  local function cut_and_grow(dev)
    assert.is.good(dev:cmd(commands.write(LAST, 1, "o")))
    assert.equal(0, (dev:change("size", { size = MIB, force = true })))
    assert.equal(0, (dev:change("size", { size = 2 * MIB })))
    assert.has.sense(dev:cmd(scsi.cdb.test_unit_ready()),
                     scsi.CAPACITY_DATA_HAS_CHANGED)
  end

  it("has zeroes where old data were in memory", function()
    local dev <close> = assert(sim.device("handlers/ram.lua",
                                          { size = 2 * MIB }))
    cut_and_grow(dev)
    assert.is_true(("\0"):rep(BLOCK) == dev:cmd(commands.read(LAST)).data)
    assert.is.good(dev:cmd(commands.write(LAST, 1, "n")))
    assert.is_true(("n"):rep(BLOCK) == dev:cmd(commands.read(LAST)).data)
  end)

  it("has zeroes where old data were in a handler's own memory", function()
    local dev <close> = assert(sim.device("handlers/ramdisk.lua",
                                          { size = 2 * MIB }))
    assert.is.good(dev:cmd(commands.write(MIB // BLOCK - 1, 1, "k")))
    cut_and_grow(dev)
    assert.is_true(("\0"):rep(BLOCK) == dev:cmd(commands.read(LAST)).data)
    assert.is_true(("k"):rep(BLOCK)
                   == dev:cmd(commands.read(MIB // BLOCK - 1)).data)
  end)

  it("has what its handler makes of a size that it is told of", function()
    local dev <close> = assert(sim.device([[=told
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "told",
        open = function(dev)
          return { bytes = tcmu.buffer(dev.size), notes = {} }
        end,
        resize = function(self, size, dev)
          if size > 4 << 20 then error("4 MiB are all that there is", 0) end
          tcmu.sleep(1)
          local bytes = tcmu.buffer(size)
          bytes:copy(0, self.bytes, 0, math.min(size, #self.bytes))
          self.bytes = bytes
          table.insert(self.notes, ("%d to %d"):format(dev.size, size))
        end,
        read = function(self, cmd, offset, length)
          cmd.data:copy(0, self.bytes, offset, length)
        end,
        write = function(self, cmd, offset, length)
          self.bytes:copy(offset, cmd.data, 0, length)
        end,
        unmap = function(self, cmd, offset, length)
          table.insert(self.notes, "unmapped")
        end,
        on = { [0xC0] = function(self)
          return table.concat(self.notes, "; ")
        end },
      }]], { size = 2 * MIB }))
    local status, why = dev:change("size", { size = 8 * MIB })
    assert.is_true(status < 0)
    assert.equal("4 MiB are all that there is", why)
    cut_and_grow(dev)
    assert.equal(0, (dev:change("size", { size = 2 * MIB })))
    assert.equal("2097152 to 1048576; 1048576 to 2097152",
                 dev:cmd(commands.vendor(0xC0)).data)
    assert.is_true(("\0"):rep(BLOCK) == dev:cmd(commands.read(LAST)).data)
    assert.is.good(dev:cmd(commands.write(LAST, 1, "n")))
  end)

  it("has what its handler keeps behind its blocks", function()
    local dev <close> = assert(sim.device([[=more
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "more",
        open = function(dev)
          local store = tcmu.store.memory(dev.size + 4096)
          local label = tcmu.buffer(5)
          label:put(0, "label")
          store:write(label, dev.size)
          return { store = store, label_at = dev.size, label = label }
        end,
        on = { [0xC0] = function(self)
          self.label:fill(0)
          self.store:read(self.label, self.label_at)
          return self.label
        end },
      }]], { size = 2 * MIB }))
    cut_and_grow(dev)
    local r = dev:cmd(commands.vendor(0xC0), { data_in = 5 })
    assert.equal("label", r.data)
  end)
end)

describe("a device that gets another size", function()
  -- A device whose handler was busy with the new size, and the command that
  -- came meanwhile.
  local function resized(before, after, bytes, data)
    local dev = assert(sim.device([[=slow
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "slow",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        resize = function() tcmu.sleep(100) end,
      }]], { size = before }))
    local handle = dev:submit(bytes, data)
    assert.equal(0, (dev:change("size", { size = after, force = true })))
    return dev, handle
  end

  it("is formatted with the size that it then has", function()
    local list = "\0\x88\0\0" .. "\0\1\0\2" .. "yz"
    for _, size in ipairs { MIB, 4 * MIB } do
      local dev <close>, handle = resized(2 * MIB, size,
        scsi.cdb.format_unit { fmtdata = true }, list)
      assert.is_nil(handle.result)
      assert.is.good(dev:wait(handle))
      assert.has.sense(dev:cmd(scsi.cdb.test_unit_ready()),
                       scsi.CAPACITY_DATA_HAS_CHANGED)
      local data = dev:cmd(commands.read(size // BLOCK - 1)).data
      assert.is_true(("yz"):rep(BLOCK // 2) == data)
    end
  end)

  -- The first eats the unit attention; the others are what C would do.
  it("takes no write behind its new end that has waited for it", function()
    for _, kept in ipairs { "the store", "the handler" } do
      local dev <close> = assert(sim.device(([[=slow
        local tcmu = require "tcmu"
        local store, wrote = nil, 0
        return tcmu.handler {
          name = "slow",
          open = function(dev)
            store = tcmu.store.memory(2 * dev.size)
            return { store = %q == "the store" and store or nil }
          end,
          resize = function() tcmu.sleep(100) end,
          %s
        }]]):format(kept, kept == "the handler" and [[
          read = function(_, cmd, at) store:read(cmd.data, at) end,
          write = function(_, cmd, at) store:write(cmd.data, at) end,
        ]] or ""), { size = 2 * MIB }))
      local answers, reports <const> = {}, dev.host.reports
      dev.shard:change(dev.id, "size", { size = MIB, force = true })
      dev.shard:turn(false)
      for i = 1, 3 do
        answers[i] = dev:submit(commands.write(MIB // BLOCK + 8 * i, 1, "w"))
      end
      dev:run(function() return reports[dev.id .. "size"] end)
      assert.has.sense(dev:wait(answers[1]), scsi.CAPACITY_DATA_HAS_CHANGED)
      for i = 2, 3 do
        assert.has.sense(dev:wait(answers[i]),
                         scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      end
    end
  end)

  it("does what does not need all blocks meanwhile", function()
    local dev <close>, handle = resized(2 * MIB, 4 * MIB,
                                        commands.write(0, 1, "w"))
    assert.is.good(handle.result)
    assert.has.sense(dev:cmd(commands.read(0)), scsi.CAPACITY_DATA_HAS_CHANGED)
    assert.is_true(("w"):rep(BLOCK) == dev:cmd(commands.read(0)).data)
  end)
end)
