--- A host managed zoned disk in a file; its zones are kept in a second file of
--- the same name with ".zones" after it.
local tcmu = require "tcmu"

return tcmu.handler {
  name = "zoned",
  about = "a zoned disk (ZBC, host managed) in a file",
  device = tcmu.zoned,
  inquiry = { product = "TCMU zoned" },
  options = {
    path = tcmu.option.path "the file or block device with the blocks",
    zone_size = tcmu.option.size { "the size of a zone, a power of two",
                                   default = 256 << 20 },
    conventional = tcmu.option.integer {
      "how many zones, the first ones, take writes anywhere", default = 0 },
    max_open = tcmu.option.integer {
      "how many zones may be open at a time, 0 for any number",
      default = 128 },
    create = tcmu.option.boolean { "make a sparse file if there is none",
                                   default = false },
  },

  open = function(dev)
    local o <const> = dev.options
    local disk = tcmu.store.file(o.path, o.create and "c" or "rw", dev.size)
    return {
      disk = disk,
      zones = tcmu.zoned.layout(dev, {
        zone_size = o.zone_size, conventional = o.conventional,
        max_open = o.max_open,
        state = function(size)
          return tcmu.store.file(o.path .. ".zones", "c", size)
        end,
        discard = function(offset, length) disk:discard(offset, length) end,
      }),
    }
  end,

  read = function(self, cmd, offset) self.disk:read(cmd.data, offset) end,
  write = function(self, cmd, offset) self.disk:write(cmd.data, offset) end,

  flush = function(self)
    self.disk:flush()
    self.zones.state:flush()
  end,
}
