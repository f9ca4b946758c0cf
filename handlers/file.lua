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
    direct = tcmu.option.boolean { "past the page cache, by O_DIRECT",
                                   default = false },
    reads = tcmu.option.choice {
      "on the loop if the page cache has it, or never", "auto", "async",
      default = "auto" },
    writes = tcmu.option.choice {
      "on the loop if it need not wait, never, or always", "auto", "async",
      "inline", default = "auto" },
    aio = tcmu.option.choice {
      "what is not done on the loop: by io_uring, or by threads", "auto",
      "threads", default = "auto" },
  },

  open = function(dev)
    local mode = "rw"
    if dev.options.mode == "ro" then mode = "r"
    elseif dev.options.create then mode = "c" end
    return { store = tcmu.store.file(dev.options.path, mode, dev.size,
                                     dev.options) }
  end,
}
