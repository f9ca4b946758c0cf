--- A device kind for handlers: a drive with a CD-ROM or DVD-ROM in it.
--
-- Read only, removable, blocks of 2048 bytes whatever hw_block_size says.  The
-- handler serves the image by a store (or by `read`); if the table that its
-- `open` returns has a function `reload(self)`, that is asked for the store of
-- the disc which a load puts in.  See tcmu.disk for what a kind is.

local guard = require "tcmu.guard"
local medium = require "tcmu.medium"
local mmc = require "tcmu.mmc"
local mode = require "tcmu.mode"
local scsi = require "tcmu.scsi"
local spc = require "tcmu.spc"
local vpd = require "tcmu.vpd"

local BLOCK <const> = 2048
local SPEED <const> = 7056          -- kB/s, 40 times that of an audio CD

local on = guard.commands({
  test_unit_ready = spc.test_unit_ready,
  request_sense = spc.request_sense,
  inquiry = spc.inquiry,
  mode_sense_6 = mode.sense,
  mode_sense_10 = mode.sense,
  mode_select_6 = mode.select,
  mode_select_10 = mode.select,
  start_stop_unit = medium.start_stop_unit,
  prevent_allow_medium_removal = medium.prevent_allow,

  read_10 = mmc.read,
  read_12 = mmc.read,
  read_cd = mmc.read_cd,
  read_capacity_10 = mmc.read_capacity,
  seek_10 = mmc.seek,
  set_cd_speed = mmc.set_speed,

  read_toc_pma_atip = mmc.read_toc,
  read_disc_information = mmc.read_disc_information,
  read_track_information = mmc.read_track_information,
  get_configuration = mmc.get_configuration,
  get_event_status_notification = mmc.get_event_status,
  mechanism_status = mmc.mechanism_status,
}, "cdrom")

-- 2Ah (MMC-3 5.5.10): reads DVD-ROM; writes nothing, plays nothing; a tray that
-- can be locked and ejected; no buffer and no volume.
local CAPABILITIES <const> = string.pack(">BBBBBBI2I2I2I2BBI2I2I4",
  0x08, 0x00, 0x00, 0x00, 0x29, 0x00, SPEED, 0, 0, SPEED, 0, 0, 0, 0, 0)

local NO_DESCRIPTOR <const> = {
  specific = function() return 0 end,
  descriptor = function() return "" end,
  check = function(_, _, at, length, long)
    if length == 0 then return end
    error(scsi.INVALID_FIELD_IN_PARAMETER_LIST:at_param(
      at == 4 and 3 or at - (long and 2 or 1)))
  end,
}

local function set_of(names)
  local set = {}
  for _, opcode in ipairs(names) do set[opcode] = true end
  return set
end

local function opened(dev)
  dev.block_size, dev.removable, dev.read_only = BLOCK, true, true
  dev.can.eject = true
  dev.handle():set("block_size", BLOCK)
  dev.handle():set("read_only", true)
  mmc.measure(dev)
end

-- Only a handler that reads for itself can have more or less to give.
local function resize(dev)
  if dev.handler.read then return end
  error("a disc is as large as its image: eject and load it for the size that "
        .. "the image has now", 0)
end

return {
  name = "cdrom",
  about = "a drive with a read-only CD or DVD",
  on = on,
  offers = {},
  peripheral_type = 0x05,
  layouts = "cdrom",
  vpd = vpd.common,
  mode = {
    mode.fixed(0x01, ("\0"):rep(10)),    -- error recovery: none to choose
    mode.fixed(0x1A, ("\0"):rep(10)),    -- power condition: no timers
    mode.fixed(0x2A, CAPABILITIES),
  },
  mode_header = NO_DESCRIPTOR,
  opened = opened,
  resize = resize,
  ejected = mmc.ejected,
  loading = mmc.loading,
  -- TEST UNIT READY, READ, READ CAPACITY, SEEK, READ TOC, READ DISC and TRACK
  -- INFORMATION, READ CD.
  needs_medium = set_of { 0x00, 0x25, 0x28, 0x2B, 0x43, 0x51, 0x52, 0xA8,
                          0xBE },
  -- MMC-6 4.1.3: those of SPC-4 and GET CONFIGURATION, GET EVENT STATUS.
  passes_attention = set_of { 0x03, 0x12, 0xA0, 0x46, 0x4A },
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
    0x04E0,                         -- MMC-6
  },
}
