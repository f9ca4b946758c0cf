--- Lesson 3: a disk without a store.
--
-- `read` and `write` get the offset and the length in bytes.  `cmd.data` is
-- the buffer of the command: `read` fills it, `write` finds the data in it.
-- The host has checked the range, so there is no need to.
--
-- `self` is what `open` returned.  It belongs to one device; module variables
-- are shared by the devices of one shard, and by nothing else.
--
-- Try:    tcmu-lua try examples/03-blocks.lua --size 1M
-- Change: keep only every second block, and see what the tour says.

local tcmu = require "tcmu"

return tcmu.handler {
  name = "03-blocks",
  about = "lesson 3: blocks in a Lua table",

  open = function(dev)
    return { blocks = {}, size = dev.block_size }
  end,

  -- cmd:split walks over a range unit by unit: the number of the block, the
  -- first byte in it, the first byte in cmd.data, and how many bytes.
  read = function(self, cmd, offset, length)
    for number, from, at, n in cmd:split(offset, length, self.size) do
      local block = self.blocks[number]
      if block then
        cmd.data:put(at, block:sub(from + 1, from + n))
      else
        cmd.data:fill(0, at, n)
      end
    end
  end,

  write = function(self, cmd, offset, length)
    for number, _, at, n in cmd:split(offset, length, self.size) do
      self.blocks[number] = cmd.data:get(at, n)
    end
  end,

  -- Without this function UNMAP would not be advertised.
  unmap = function(self, cmd, offset, length)
    for number in cmd:split(offset, length, self.size) do
      self.blocks[number] = nil
    end
  end,
}
