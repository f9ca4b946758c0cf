--- Reads as zeroes and forgets what is written: for measuring everything else.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "zero",
  about = "reads as zeroes, forgets what is written",

  open = function(dev)
    return { store = tcmu.store.zero(dev.size) }
  end,
}
