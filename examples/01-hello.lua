--- Lesson 1: the smallest disk.
--
-- A handler is a Lua file that returns a table.  This one says what it is
-- called and, in `open`, where its blocks live: in a store.  tcmu.store.memory
-- is sparse memory; READ and WRITE go straight to it, in C, and never enter
-- Lua.  Everything else that a disk has to answer, the host answers.
--
-- Try:    tcmu-lua try examples/01-hello.lua
-- Then:   tcmu-lua check examples/01-hello.lua     who answers what?
-- Change: tcmu.store.zero(dev.size) reads as zeroes and forgets all writes.

local tcmu = require "tcmu"

return tcmu.handler {
  name = "01-hello",
  about = "lesson 1: the smallest disk",

  -- Called once for each device.  `dev` has what the device was made with:
  -- dev.size and dev.block_size in bytes, dev.name, dev.options.
  open = function(dev)
    return { store = tcmu.store.memory(dev.size) }
  end,
}
