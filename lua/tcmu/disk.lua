--- The device kind that a handler gets unless it asks for another: a disk.
--
-- What SBC-3 and SPC-4 demand of a direct access block device, put together
-- from tcmu.spc, tcmu.sbc, tcmu.mode and tcmu.rsoc.  A kind is a table like a
-- handler's own; besides `on` and `offers` it says what INQUIRY and the mode
-- and VPD pages need: peripheral_type, versions, layouts, vpd, mode; and in
-- `direct` which opcodes C may answer by itself where the handler leaves them
-- alone.

local guard = require "tcmu.guard"
local mode = require "tcmu.mode"
local rsoc = require "tcmu.rsoc"
local sbc = require "tcmu.sbc"
local spc = require "tcmu.spc"
local vpd = require "tcmu.vpd"

local function can(what)
  return function(dev) return dev.can[what] end
end

local on, offers = guard.commands {
  test_unit_ready = spc.test_unit_ready,
  request_sense = spc.request_sense,
  inquiry = spc.inquiry,
  mode_sense_6 = mode.sense,
  mode_sense_10 = mode.sense,
  mode_select_6 = mode.select,
  mode_select_10 = mode.select,
  report_supported_operation_codes = rsoc.report,

  read_6 = sbc.read,
  read_10 = sbc.read,
  read_12 = sbc.read,
  read_16 = sbc.read,
  write_6 = sbc.write,
  write_10 = sbc.write,
  write_12 = sbc.write,
  write_16 = sbc.write,
  read_capacity_10 = sbc.read_capacity_10,
  read_capacity_16 = sbc.read_capacity_16,
  start_stop_unit = sbc.start_stop_unit,
  write_same_10 = sbc.write_same,
  write_same_16 = sbc.write_same,
  synchronize_cache_10 = { sbc.synchronize_cache, when = can "flush" },
  synchronize_cache_16 = { sbc.synchronize_cache, when = can "flush" },
  unmap = { sbc.unmap, when = can "unmap" },
}

local direct = {}
for _, opcode in ipairs {
  0x08, 0x28, 0x88, 0xA8,           -- READ
  0x0A, 0x2A, 0x8A, 0xAA,           -- WRITE
  0x35, 0x91,                       -- SYNCHRONIZE CACHE
} do direct[opcode] = true end

return {
  name = "disk",
  about = "a direct access block device",
  on = on,
  offers = offers,
  direct = direct,
  peripheral_type = 0x00,
  layouts = "disk",
  vpd = vpd.disk,
  mode = mode.disk,
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
    0x04C0,                         -- SBC-3
  },
}
