--- Lesson 8: a disk with two sides, and a unit attention.
--
-- When something has changed behind the initiator's back, the next command
-- fails with UNIT ATTENTION and says what it was; the one after that works
-- again.  `dev:set { attention = value }` arranges it.  INQUIRY and REQUEST
-- SENSE are let through, as the standard wants it.
--
-- Here both sides are stores, but `open` returns neither as `store`: which one
-- is up is decided for every command, in Lua.  The data do not pass through
-- Lua all the same: store:read fills the command's buffer in C.
--
-- Try:    tcmu-lua try examples/08-attention.lua, then 'write 0 "side A"',
--         'cdb c0 0 0 0 0 0 0 0 0 0', 'read 0', 'read 0'
-- Change: refuse to turn while commands are waiting.

local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

local TURN <const> = 0xC0

return tcmu.handler {
  name = "08-attention",
  about = "lesson 8: a disk with two sides",

  open = function(dev)
    return { tcmu.store.memory(dev.size), tcmu.store.memory(dev.size), up = 1 }
  end,

  read = function(self, cmd, offset) self[self.up]:read(cmd.data, offset) end,
  write = function(self, cmd, offset) self[self.up]:write(cmd.data, offset) end,

  on = {
    [TURN] = function(self, cmd)
      self.up = 3 - self.up
      cmd.dev:set {
        attention = scsi.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED,
      }
    end,
  },
}
