--- The device kind of host managed zoned disks (ZBC).
--
-- A handler that says `device = tcmu.zoned` lets its `open` return a table with
-- `zones = tcmu.zoned.layout(dev, ...)` and serves the blocks by `read` and
-- `write` or by a store as for any disk.  Commands and pages are those of a
-- disk where ZBC allows them; what would change blocks behind the back of a
-- write pointer (UNMAP, COMPARE AND WRITE, FORMAT UNIT ...) is not offered.

local block = require "tcmu.block"
local log_pages = require "tcmu.log_pages"
local mode = require "tcmu.mode"
local vpd = require "tcmu.vpd"
local zone_commands = require "tcmu.zone_commands"
local zone_io = require "tcmu.zone_io"
local zone_state = require "tcmu.zone_state"
local zones = require "tcmu.zones"

local on, offers = block.commands {
  read_6 = zone_io.read,
  read_10 = zone_io.read,
  read_12 = zone_io.read,
  read_16 = zone_io.read,
  read_32 = zone_io.read,
  write_6 = zone_io.write,
  write_10 = zone_io.write,
  write_12 = zone_io.write,
  write_16 = zone_io.write,
  write_32 = zone_io.write,
  write_same_10 = zone_io.write_same,
  write_same_16 = zone_io.write_same,
  write_same_32 = zone_io.write_same,
  verify_10 = zone_io.verify,
  verify_12 = zone_io.verify,
  verify_16 = zone_io.verify,
  verify_32 = zone_io.verify,
  read_capacity_16 = zone_commands.read_capacity_16,

  report_zones = zone_commands.report,
  open_zone = zone_commands.open,
  close_zone = zone_commands.close,
  finish_zone = zone_commands.finish,
  reset_write_pointer = zone_commands.reset,
}

-- ZONED of page B1 is 0: the peripheral device type says it (ZBC clause 6).
local pages = { [0xB6] = zone_commands.characteristics }
for _, page in ipairs { 0x80, 0x83, 0x86, 0x87, 0x88, 0xB0, 0xB1 } do
  pages[page] = vpd.disk[page]
end

-- How many zones there are; raises for those that there cannot be.
local function count_zones(dev, zone_size, conventional)
  if zone_size < dev.block_size or zone_size & zone_size - 1 ~= 0 then
    error(("a zone of %d bytes: the size of a zone is a power of two, such as "
           .. "64M"):format(zone_size), 0)
  end
  if dev.size % zone_size ~= 0 then
    error(("the device has %d bytes, which is no whole number of zones of %d: "
           .. "change one of them"):format(dev.size, zone_size), 0)
  end
  local count <const> = dev.size // zone_size
  if conventional < 0 or conventional >= count then
    error(("%d of %d zones cannot be conventional: at least one has a write "
           .. "pointer"):format(conventional, count), 0)
  end
  return count
end

-- tcmu.zoned.layout(dev, { zone_size = bytes, conventional = zones without a
-- write pointer, max_open = zones or 0 for any number, state = function(size)
-- -> a store of so many bytes that outlives the device, discard =
-- function(offset, length), after which the range reads as zeroes, or nil }):
-- lays out the zones, as the state has them.  For `open`.  Waits; raises one
-- sentence.
local function layout(dev, how)
  local count <const> = count_zones(dev, how.zone_size, how.conventional)
  if how.max_open < 0 then
    error("max_open is a number of zones, or 0 for no limit", 0)
  end
  local set = zones.new(how.zone_size // dev.block_size, count,
                        how.conventional, how.max_open)
  set.state = zone_state.open(how.state(zone_state.size(count)), set,
                              dev.block_size)
  set.discard = how.discard
  return set
end

local function opened(dev)
  if type(dev.self) ~= "table" or not dev.self.zones then
    error("tcmu.zoned: open has to return { zones = tcmu.zoned.layout(dev, "
          .. "...) }", 0)
  end
end

local function resize()
  error("the zones of this device are laid out, so its size cannot change: "
        .. "make another device", 0)
end

return {
  name = "zoned",
  about = "a host managed zoned block device",
  on = on,
  offers = offers,
  peripheral_type = 0x14,
  layouts = "disk",
  vpd = pages,
  mode = mode.disk,
  log = log_pages.disk,
  layout = layout,
  opened = opened,
  resize = resize,
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
    0x04C0,                         -- SBC-3
    0x0620,                         -- ZBC
  },
}
