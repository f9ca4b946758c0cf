--- Lesson 4: options, and a disk that cannot be written.
--
-- Options are declared, so that they can be listed, parsed and refused before
-- the kernel has made a device.  `check` looks at what the types cannot say;
-- what it raises is the reason that the user reads.
--
-- This disk has `read` and no `write`: it is write protected by that, MODE
-- SENSE says so, and WRITE ends with DATA PROTECT.  Every block is made when
-- it is read: a text, and the number of the block.
--
-- Try:    tcmu-lua try examples/04-options.lua "text=block;digits=8"
--         tcmu-lua try examples/04-options.lua digits=99
-- Change: add an option `first`, the number of the first block.

local tcmu = require "tcmu"

return tcmu.handler {
  name = "04-options",
  about = "lesson 4: every block says its number",
  options = {
    text = tcmu.option.string { "what each block begins with",
                                default = "This is block" },
    digits = tcmu.option.integer { "digits of the number", default = 6 },
  },

  check = function(options)
    if options.digits < 1 or options.digits > 20 then
      error(("digits=%d: choose 1 to 20"):format(options.digits), 0)
    end
    if #options.text > 400 then error("text: at most 400 characters", 0) end
  end,

  open = function(dev)
    local format = ("%%s %%0%dd"):format(dev.options.digits)
    return { text = dev.options.text, format = format, size = dev.block_size }
  end,

  read = function(self, cmd, offset, length)
    for number, from, at, n in cmd:split(offset, length, self.size) do
      local text = self.format:format(self.text, number)
      local block = text .. ("\n"):rep(self.size - #text)
      cmd.data:put(at, block:sub(from + 1, from + n))
    end
  end,
}
