--- A memory disk: quick, sparse, and empty again after a restart.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "ram",
  about = "a disk in memory, gone when the device goes",
  options = {
    removable = tcmu.option.boolean { "a medium that can be ejected",
                                      default = false },
  },

  open = function(dev)
    return { store = tcmu.store.memory(dev.size) }
  end,
}
