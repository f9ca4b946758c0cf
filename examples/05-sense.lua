--- Lesson 5: how a command fails.
--
-- A handler fails a command by raising a sense value.  They are ordinary Lua
-- error values, so `error` and `assert` do, and the constants have the names
-- of the standard.  Methods add details: `:info(lba)` says which block,
-- `:at(byte, bit)` which field of the CDB was wrong.
--
-- Whatever else is raised is a bug: the initiator gets HARDWARE ERROR /
-- INTERNAL TARGET FAILURE, the log gets the traceback, the device lives on.
--
-- Try:    tcmu-lua try examples/05-sense.lua bad=5, then 'read 4', 'read 5'
--         and 'write 5 "healed"', 'read 5'
-- Change: raise a string and look at what 'read 5' says then.

local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

return tcmu.handler {
  name = "05-sense",
  about = "lesson 5: a disk with a bad block",
  options = {
    bad = tcmu.option.integer { "the number of the bad block", default = 3 },
  },

  open = function(dev)
    return { disk = tcmu.store.memory(dev.size), size = dev.block_size,
             bad = dev.options.bad }
  end,

  -- A store's calls wait, and raise if they fail; there is nothing to check.
  read = function(self, cmd, offset, length)
    for number in cmd:split(offset, length, self.size) do
      if number == self.bad then
        error(scsi.UNRECOVERED_READ_ERROR:info(number))
      end
    end
    self.disk:read(cmd.data, offset)
  end,

  -- As real disks do: a write puts a good block in the place of the bad one.
  write = function(self, cmd, offset, length)
    self.disk:write(cmd.data, offset)
    for number in cmd:split(offset, length, self.size) do
      if number == self.bad then self.bad = nil end
    end
  end,
}
