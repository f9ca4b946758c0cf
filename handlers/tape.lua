--- A tape drive with a file as its tape; tcmu.reel says what is in the file.
--- After an unload, a load puts in what then lies at `path`.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "tape",
  about = "a tape drive with a file as its tape",
  device = require "tcmu.tape",
  inquiry = { product = "TCMU tape" },
  options = {
    path = tcmu.option.path "the file that is the tape, made if there is none",
    mode = tcmu.option.choice { "read-write or read-only", "rw", "ro",
                                default = "rw" },
  },

  open = function(dev)
    local mode <const> = dev.options.mode == "ro" and "r" or "c"
    local function insert()
      return tcmu.store.file(dev.options.path, mode, dev.size)
    end
    return { store = insert(), reload = insert }
  end,
}
