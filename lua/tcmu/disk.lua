--- The device kind that a handler gets unless it asks for another: a disk.
--
-- What SBC-3 and SPC-4 demand of a direct access block device, put together
-- from tcmu.block, tcmu.sbc, tcmu.copy and their like.  A kind is a table like
-- a handler's own; besides `on` and `offers` it says what INQUIRY and the mode
-- and VPD pages need: peripheral_type, versions, layouts, vpd, mode; and in
-- `opened` what to do with a device that has just been opened, and in `direct`
-- which opcodes C may answer by itself where the handler leaves them alone.

local block = require "tcmu.block"
local compare = require "tcmu.compare"
local copy = require "tcmu.copy"
local log_pages = require "tcmu.log_pages"
local medium = require "tcmu.medium"
local mode = require "tcmu.mode"
local operation = require "tcmu.operation"
local rod = require "tcmu.rod"
local sanitize = require "tcmu.sanitize"
local sbc = require "tcmu.sbc"
local thin = require "tcmu.thin"
local vpd = require "tcmu.vpd"

local function can(what)
  return function(dev) return dev.can[what] end
end

local on, offers = block.commands {
  extended_copy_lid1 = { copy.lid1, when = can "write" },
  extended_copy_lid4 = { copy.lid4, when = can "write" },
  receive_copy_status_lid1 = { copy.status_lid1, when = can "write" },
  receive_copy_failure_details_lid1 = { copy.failure_details_lid1,
                                        when = can "write" },
  receive_copy_operating_parameters = { copy.operating_parameters,
                                        when = can "write" },

  receive_copy_status_lid4 = copy.status_lid4,
  copy_operation_abort = copy.abort,

  populate_token = rod.populate,
  write_using_token = { rod.write_using, when = can "write" },
  receive_rod_token_information = rod.information,

  read_6 = sbc.read,
  read_10 = sbc.read,
  read_12 = sbc.read,
  read_16 = sbc.read,
  read_32 = sbc.read,
  write_6 = sbc.write,
  write_10 = sbc.write,
  write_12 = sbc.write,
  write_16 = sbc.write,
  write_32 = sbc.write,
  write_atomic_16 = { sbc.write_atomic, when = can "atomic" },
  pre_fetch_10 = sbc.prefetch,
  pre_fetch_16 = sbc.prefetch,
  read_capacity_16 = sbc.read_capacity_16,
  read_defect_data_10 = sbc.read_defect_data_10,
  read_defect_data_12 = sbc.read_defect_data_12,
  get_lba_status = { sbc.get_lba_status, when = can "unmap" },

  verify_10 = compare.verify,
  verify_12 = compare.verify,
  verify_16 = compare.verify,
  verify_32 = compare.verify,
  write_and_verify_10 = compare.write_and_verify,
  write_and_verify_12 = compare.write_and_verify,
  write_and_verify_16 = compare.write_and_verify,
  write_and_verify_32 = compare.write_and_verify,
  compare_and_write = compare.compare_and_write,
  orwrite_16 = compare.orwrite,

  write_same_10 = thin.write_same,
  write_same_16 = thin.write_same,
  write_same_32 = thin.write_same,
  unmap = { thin.unmap, when = can "unmap" },

  format_unit = { sanitize.format_unit, when = can "write" },
  sanitize_overwrite = { sanitize.overwrite, when = can "write" },
  sanitize_block_erase = { sanitize.block_erase, when = can "unmap" },
  sanitize_exit_failure_mode = { sanitize.exit_failure_mode,
                                 when = can "write" },

  prevent_allow_medium_removal = { medium.prevent_allow,
                                   when = medium.removable },
}

local direct = {}
for _, opcode in ipairs {
  0x00,                             -- TEST UNIT READY
  0x08, 0x28, 0x88, 0xA8,           -- READ
  0x0A, 0x2A, 0x8A, 0xAA,           -- WRITE
  0x2F, 0x8F, 0xAF,                 -- VERIFY
  0x35, 0x91,                       -- SYNCHRONIZE CACHE
  0x41, 0x93,                       -- WRITE SAME
  0x42,                             -- UNMAP
} do direct[opcode] = true end
-- READ (32), VERIFY (32), WRITE (32), WRITE SAME (32)
direct[0x7F] = { [0x09] = true, [0x0A] = true, [0x0B] = true, [0x0D] = true }

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
  log = log_pages.disk,
  opened = operation.resume,
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
    0x04C0,                         -- SBC-3
  },
}
