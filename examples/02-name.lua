--- Lesson 2: a name of its own.
--
-- INQUIRY is the first command that an initiator sends: who are you?  Nine of
-- ten wishes are fulfilled by the `inquiry` table.  For the tenth, a handler
-- takes over the command with `on[opcode]`.  cmd:default() is what the host
-- would have said, as a buffer that may be changed: decorating an answer is
-- easier than writing one.
--
-- Offsets in buffers and CDBs count from 0, as the tables in the standards do.
-- (Lua's own strings count from 1.)
--
-- Try:    tcmu-lua try examples/02-name.lua, then 'inquiry' and
--         'inquiry 0x80'
-- Change: the version in byte 2 from 06h (SPC-4) to 05h (SPC-3).

local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

return tcmu.handler {
  name = "02-name",
  about = "lesson 2: a name of its own",
  inquiry = { vendor = "LUA", product = "Lesson two", revision = "1.0" },

  open = function(dev)
    return { store = tcmu.store.memory(dev.size), asked = 0 }
  end,

  on = {
    [scsi.INQUIRY] = function(self, cmd)
      self.asked = self.asked + 1
      local cdb = cmd:decode()          -- fields by their names in SPC-4
      local page = cmd:default()
      if not cdb.evpd then
        -- PRODUCT REVISION LEVEL, bytes 32 to 35: how often somebody asked.
        page:put(32, ("%04d"):format(self.asked))
      end
      return page                       -- cut to ALLOCATION LENGTH by the host
    end,
  },
}
