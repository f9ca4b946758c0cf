--- A drive with an ISO image as its disc.  After an eject, a load puts in what
--- then lies at `path`: that is how discs are changed.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "cdrom",
  about = "a CD or DVD drive with an ISO image in it",
  device = require "tcmu.cdrom",
  inquiry = { product = "TCMU CD-ROM" },
  options = {
    path = tcmu.option.path "the ISO image to serve",
  },

  open = function(dev)
    local function insert() return tcmu.store.file(dev.options.path, "r") end
    return { store = insert(), reload = insert }
  end,
}
