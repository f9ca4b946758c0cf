--- A regular file or a block device.  READ and WRITE never enter Lua.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "file",
  about = "a file or block device",
  options = {
    path = tcmu.option.path "the file or block device to serve",
    mode = tcmu.option.choice { "read-write or read-only", "rw", "ro",
                                default = "rw" },
    create = tcmu.option.boolean { "make a sparse file if there is none",
                                   default = false },
    removable = tcmu.option.boolean { "a medium that can be ejected",
                                      default = false },
  },

  open = function(dev)
    local mode = "rw"
    if dev.options.mode == "ro" then mode = "r"
    elseif dev.options.create then mode = "c" end
    return { store = tcmu.store.file(dev.options.path, mode, dev.size) }
  end,
}
