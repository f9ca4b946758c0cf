--- A device kind that answers only what SPC-4 makes mandatory.
--
-- For handlers that want to give every other answer themselves: INQUIRY with
-- the mandatory pages, TEST UNIT READY and REQUEST SENSE.  REPORT LUNS, the
-- fourth mandatory command, is answered by the kernel.

local guard = require "tcmu.guard"
local spc = require "tcmu.spc"
local vpd = require "tcmu.vpd"

local on, offers = guard.commands {
  test_unit_ready = spc.test_unit_ready,
  request_sense = spc.request_sense,
  inquiry = spc.inquiry,
}

return {
  name = "bare",
  about = "only the commands that every SCSI device must have",
  on = on,
  offers = offers,
  peripheral_type = 0x00,
  layouts = "disk",
  vpd = vpd.common,
  mode = {},
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
  },
}
