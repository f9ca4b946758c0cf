--- A device kind for handlers: a tape drive with a tape in it.
--
-- Sequential access, removable, blocks of any length up to 8 MiB or of a fixed
-- length that MODE SELECT sets.  The handler serves the file by a store (or by
-- `read` and `write`); tcmu.reel says what is in it.  BUFFERED MODE is the
-- write cache: without it every WRITE is on stable storage when it is
-- answered.  See tcmu.disk for what a kind is.

local core = require "tcmu.core"
local guard = require "tcmu.guard"
local medium = require "tcmu.medium"
local mode = require "tcmu.mode"
local reel = require "tcmu.reel"
local rsoc = require "tcmu.rsoc"
local sense = require "tcmu.sense"
local spc = require "tcmu.spc"
local ssc = require "tcmu.ssc"
local vpd = require "tcmu.vpd"

local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local RESET <const> =
  sense.constant.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
local DENSITY <const>, DEFAULT <const>, SAME <const> = 0x80, 0x00, 0x7F
local WP <const>, BUFFERED <const> = 0x80, 0x10

--- REPORT DENSITY SUPPORT: one density of our own, which every tape has.
local function report_density(_, cmd)
  local dev <const> = cmd.dev
  local protected <const> = not mode.writable(dev)
  local descriptor = string.pack(">BBBI2I3I2I2I4c8c8c20", DENSITY, DENSITY,
    (protected and 0 or 0x80) | 0x20,       -- WRTOK, DEFLT
    0, 0, 0, 1, math.min(dev.size // 1000000, 0xFFFFFFFF),
    "TCMU-LUA", "FILE    ", "Records in a file   ")
  return string.pack(">I2xx", 2 + #descriptor) .. descriptor
end

-- Mode parameters (SSC-3 8.3) -----------------------------------------------

local header = { alone = true }

function header.specific(dev)
  return (mode.writable(dev) and 0 or WP) | (dev.write_cache and BUFFERED or 0)
end

-- Density, as many blocks as there may be, and their length; 0 is variable.
function header.descriptor(dev, long)
  if long then error(sense.constant.INVALID_FIELD_IN_CDB:at(1, 4)) end
  return string.pack(">BI3BI3", DENSITY, 0, 0, dev.tape.block_size)
end

function header.check(dev, list, at, length, long)
  local specific_at <const> = at == 4 and 2 or 3
  local specific <const> = list:byte(specific_at + 1)
  local buffered <const> = specific >> 4 & 0x07
  if buffered > 1 then error(BAD_FIELD:at_param(specific_at, 6)) end
  if specific & 0x0F ~= 0 then error(BAD_FIELD:at_param(specific_at, 3)) end
  if long then error(BAD_FIELD:at_param(4, 0)) end
  local block_size = dev.tape.block_size
  if length ~= 0 then
    if length ~= 8 then error(BAD_FIELD:at_param(at == 4 and 3 or 6)) end
    if #list < at + 8 then error(BAD_LENGTH) end
    local density
    density, block_size = string.unpack(">BxxxxI3", list, at + 1)
    if density ~= DENSITY and density ~= DEFAULT and density ~= SAME then
      error(BAD_FIELD:at_param(at))
    end
    if block_size > reel.most then error(BAD_FIELD:at_param(at + 5)) end
  end
  return function()
    dev.tape.block_size = block_size
    if buffered == 0 and dev.write_cache then dev.tape:sync() end
    dev:set { write_cache = dev.can.flush and buffered == 1 }
  end
end

local list = {
  test_unit_ready = spc.test_unit_ready,
  request_sense = spc.request_sense,
  inquiry = spc.inquiry,
  report_supported_operation_codes = rsoc.report,
  prevent_allow_medium_removal = medium.prevent_allow,
  read_block_limits = ssc.read_block_limits,
  report_density_support = report_density,
}

-- What depends on where the tape is or changes it.
for id, answer in pairs {
  mode_sense_6 = mode.sense,
  mode_sense_10 = mode.sense,
  mode_select_6 = mode.select,
  mode_select_10 = mode.select,
  read_6 = ssc.read,
  write_6 = ssc.write,
  write_filemarks_6 = ssc.write_filemarks,
  erase_6 = ssc.erase,
  space_6 = ssc.space,
  rewind = ssc.rewind,
  locate_10 = ssc.locate,
  read_position_short = ssc.position_short,
  read_position_short_vendor = ssc.position_short,
  read_position_long = ssc.position_long,
  load_unload = ssc.load_unload,
} do list[id] = ssc.in_turn(answer) end

local on = guard.commands(list, "tape")

local function set_of(opcodes)
  local set = {}
  for _, opcode in ipairs(opcodes) do set[opcode] = true end
  return set
end

-- A task.  C knows blocks and not bytes of records, so for it the device is
-- empty: then no command holds a range of what it takes for blocks.
local function opened(dev)
  dev.removable = true
  dev.can.eject = true
  dev.handle():set("size", 0)
  dev:set { write_cache = dev.can.flush }
  dev.tape = reel.open(dev)
  dev.tape.block_size = 0
  if dev.tape.lost then
    core.log("warning", dev.hba .. "/" .. dev.name, "the tape was not at its "
             .. "start when it was last served, and is now: nothing is written "
             .. "before a rewind, a locate or a space to the end of data")
  end
  -- Who was in the midst of it must not write on.
  dev:set { attention = RESET }
end

-- What was written near the end must not be cut off, nor does a reel know of
-- another end.
local function resize()
  error("the size of a tape cannot change: make another device", 0)
end

return {
  name = "tape",
  about = "a tape drive",
  on = on,
  offers = {},
  peripheral_type = 0x01,
  layouts = "tape",
  vpd = vpd.common,
  mode = {
    mode.fixed(0x0F, ("\0"):rep(14)),       -- no compression
    -- Device configuration: block identifiers (BIS), EOD where writing ends.
    mode.fixed(0x10, ("\0"):rep(6) .. "\x40\0\x10" .. ("\0"):rep(5)),
  },
  mode_header = header,
  opened = opened,
  resize = resize,
  ejected = ssc.ejected,
  loading = ssc.loading,
  -- TEST UNIT READY, REWIND, READ, WRITE, WRITE FILEMARKS, SPACE, ERASE,
  -- LOCATE, READ POSITION, REPORT DENSITY SUPPORT.
  needs_medium = set_of { 0x00, 0x01, 0x08, 0x0A, 0x10, 0x11, 0x19, 0x2B,
                          0x34, 0x44 },
  versions = {
    0x00A0,                         -- SAM-5
    0x0460,                         -- SPC-4
    0x0400,                         -- SSC-3
  },
}
