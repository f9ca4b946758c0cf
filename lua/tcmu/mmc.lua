--- Commands of a drive for read-only CDs and DVDs (MMC-6 clause 6).
--
-- The disc is one finished session with one data track, which is the whole
-- medium of 2048-byte blocks.  A function gets the handler's `self`, the
-- command and its layout; the CDB has passed tcmu.guard.

local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local medium = require "tcmu.medium"
local sense = require "tcmu.sense"

local mmc = {}

local NOT_PRESENT <const> = sense.constant.MEDIUM_NOT_PRESENT_TRAY_OPEN
local LEAD_OUT <const> = 0xAA
local DATA_TRACK <const> = 0x14     -- ADR 1, CONTROL 4: data, no copying
local START_FRAMES <const> = 150    -- LBA 0 is at 00:02:00
local MOST_OF_A_CD <const> = 80 * 60 * 75 - START_FRAMES
local CD_ROM <const>, DVD_ROM <const> = 0x0008, 0x0010

local function blocks(dev) return dev.size // dev.block_size end

-- Reading -------------------------------------------------------------------

local function read(cmd, lba, n)
  local dev <const>, data <const> = cmd.dev, cmd.data
  extent.check(dev, lba, n)
  local length <const> = n * dev.block_size
  if length == 0 then return "" end
  if #data == length then return dev:read(data, lba * dev.block_size) end
  local whole = require("tcmu").buffer(length)
  dev:read(whole, lba * dev.block_size)
  return whole
end

--- READ (10) and (12).
function mmc.read(_, cmd) return read(cmd, cmd.lba, cmd.blocks) end

--- READ CD, for the user data of data sectors; an ISO image holds nothing else.
function mmc.read_cd(_, cmd, layout)
  local kind <const> = guard.field(cmd, layout, "expected_sector_type")
  if kind ~= 0 and kind ~= 2 then
    error(sense.constant.ILLEGAL_MODE_FOR_THIS_TRACK)
  end
  local n = guard.field(cmd, layout, "transfer_length")
  if guard.field(cmd, layout, "user_data") == 0 then n = 0 end
  return read(cmd, guard.field(cmd, layout, "logical_block_address"), n)
end

--- READ CAPACITY (10).
function mmc.read_capacity(_, cmd)
  return string.pack(">I4I4", blocks(cmd.dev) - 1, cmd.dev.block_size)
end

--- SEEK (10): there is no head to move.
function mmc.seek(_, cmd, layout)
  extent.check(cmd.dev, guard.field(cmd, layout, "logical_block_address"), 1)
end

--- SET CD SPEED: as quick as it can be, whatever is asked for.
function mmc.set_speed() end

-- Table of contents ---------------------------------------------------------

-- Minute, second, frame; a DVD has more minutes than there is room for.
local function msf_of(lba)
  local frames <const> = lba + START_FRAMES
  local minute <const> = frames // (60 * 75)
  if minute > 0xFF then return 0xFF, 59, 74 end
  return minute, frames // 75 % 60, frames % 75
end

local function address(lba, msf)
  if not msf then return string.pack(">I4", lba) end
  return string.pack(">BBBB", 0, msf_of(lba))
end

local toc = {}

-- 0000b: the track, unless it comes before the one asked for, and the lead-out.
toc[0] = function(dev, msf, from)
  if from > 1 and from ~= LEAD_OUT then return nil end
  local function entry(track, lba)
    return string.pack(">BBBB", 0, DATA_TRACK, track, 0) .. address(lba, msf)
  end
  local track = from <= 1 and entry(1, 0) or ""
  return track .. entry(LEAD_OUT, blocks(dev))
end

-- 0001b: the first track of the last session.
toc[1] = function(_, msf)
  return string.pack(">BBBB", 0, DATA_TRACK, 1, 0) .. address(0, msf)
end

-- 0010b: the points of the lead-in: first track, last track, lead-out, track 1.
toc[2] = function(dev, _, from)
  if from > 1 then return nil end
  local function point(number, minute, second, frame)
    return string.char(1, DATA_TRACK, 0, number, 0, 0, 0, 0, minute, second,
                       frame)
  end
  return point(0xA0, 1, 0, 0) .. point(0xA1, 1, 0, 0)
         .. point(0xA2, msf_of(blocks(dev))) .. point(1, msf_of(0))
end

--- READ TOC/PMA/ATIP with the formats of a finished disc.
function mmc.read_toc(_, cmd, layout)
  local format = guard.field(cmd, layout, "format")
  if format == 0 then format = guard.field(cmd, layout, "old_format") end
  if not toc[format] then guard.refuse(layout, "format") end
  local entries = toc[format](cmd.dev, guard.field(cmd, layout, "msf") == 1,
                              guard.field(cmd, layout, "track_session_number"))
  if not entries then guard.refuse(layout, "track_session_number") end
  return string.pack(">I2BB", 2 + #entries, 1, 1) .. entries
end

--- READ DISC INFORMATION: the standard form (MMC-6 table 375).  Finished disc
-- and session, one track, for unrestricted use.
function mmc.read_disc_information(_, cmd, layout)
  if guard.field(cmd, layout, "data_type") ~= 0 then
    guard.refuse(layout, "data_type")
  end
  return string.pack(">I2BBBBBBBBBBI4I4I4I8BB", 32, 0x0E, 1, 1, 1, 1, 0x20,
                     0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0)
end

--- READ TRACK INFORMATION of the one track: data, mode 1, complete.
function mmc.read_track_information(_, cmd, layout)
  local dev <const> = cmd.dev
  local kind <const> = guard.field(cmd, layout, "address_number_type")
  local which <const> = guard.field(cmd, layout, "address_or_number")
  if kind == 0 then
    extent.check(dev, which, 1)
  elseif kind > 2 or which ~= 1 then
    guard.refuse(layout, kind > 2 and "address_number_type"
                         or "address_or_number")
  end
  return string.pack(">I2BBBBBBI4I4I4I4I4I4I4", 34, 1, 1, 0, 0x04, 0x01, 0,
                     0, 0, 0, 0, blocks(dev), 0, 0)
end

-- The drive -----------------------------------------------------------------

local function profile(dev)
  if not medium.present(dev) then return 0 end
  return blocks(dev) > MOST_OF_A_CD and DVD_ROM or CD_ROM
end

local function yes() return true end

-- Features in ascending order (MMC-6 5.3): code, version, whether it is there
-- with every disc, whether it is current, and its data.
local FEATURES <const> = {
  { 0x0000, 0, true, yes, function(dev)     -- Profile List
    local now <const> = profile(dev)
    local list = ""
    for _, code in ipairs { DVD_ROM, CD_ROM } do
      list = list .. string.pack(">I2BB", code, code == now and 1 or 0, 0)
    end
    return list
  end },
  { 0x0001, 2, true, yes, function()        -- Core: SCSI, INQ2
    return string.pack(">I4BBBB", 1, 0x02, 0, 0, 0)
  end },
  { 0x0002, 1, true, yes, function()        -- Morphing: OCEvent
    return "\x02\0\0\0"
  end },
  -- Removable Medium: tray, Eject, Load, Lock.
  { 0x0003, 1, true, yes, function() return "\x39\0\0\0" end },
  { 0x0010, 0, false, medium.present, function(dev) -- Random Readable
    return string.pack(">I4I2BB", dev.block_size, 1, 0, 0)
  end },
  { 0x001E, 2, false, function(dev)                 -- CD Read
    return profile(dev) == CD_ROM
  end, function() return "\0\0\0\0" end },
  { 0x001F, 0, false, function(dev)                 -- DVD Read
    return profile(dev) == DVD_ROM
  end, function() return "" end },
  { 0x0100, 0, true, yes, function() return "" end },       -- Power Management
  { 0x0105, 1, true, yes, function() return "\0\0\0\0" end }, -- Timeout
}

--- GET CONFIGURATION: the features from a number on, all, the current, or one
-- (RT).
function mmc.get_configuration(_, cmd, layout)
  local dev <const> = cmd.dev
  local rt <const> = guard.field(cmd, layout, "rt")
  local from <const> = guard.field(cmd, layout, "starting_feature_number")
  if rt > 2 then guard.refuse(layout, "rt") end
  local list = {}
  for _, feature in ipairs(FEATURES) do
    local code, version, persistent, current, data = table.unpack(feature)
    local now <const> = current(dev)
    local wanted = code >= from and (rt == 0 or now)
    if rt == 2 then wanted = code == from end
    if wanted then
      local flags = version << 2 | (persistent and 2 or 0) | (now and 1 or 0)
      list[#list + 1] = string.pack(">I2Bs1", code, flags, data(dev))
    end
  end
  local features = table.concat(list)
  return string.pack(">I4xxI2", 4 + #features, profile(dev)) .. features
end

local MEDIA <const> = 4
local NEW_MEDIUM <const>, MEDIUM_REMOVED <const> = 2, 3

-- Notification classes (MMC-6 6.7) and what each has to tell.
local CLASSES <const> = {
  [1] = function() return "\0\0\0\0" end,   -- operational change: none
  [2] = function() return "\0\1\0\0" end,   -- power: active
  [MEDIA] = function(dev)
    local event = dev.media_event or 0
    dev.media_event = nil
    return string.char(event, medium.present(dev) and 0x02 or 0x01, 0, 0)
  end,
  [6] = function() return "\0\0\0\0" end,   -- device busy: not
}

--- GET EVENT STATUS NOTIFICATION: polled only.  A class with an event comes
-- before one without, otherwise the lowest that is asked for counts.
function mmc.get_event_status(_, cmd, layout)
  local dev <const> = cmd.dev
  if guard.field(cmd, layout, "polled") == 0 then
    guard.refuse(layout, "polled")
  end
  local request <const> = guard.field(cmd, layout,
                                      "notification_class_request")
  local supported, chosen = 0, nil
  for class = 0, 7 do
    if CLASSES[class] then
      supported = supported | 1 << class
      if request & 1 << class ~= 0
         and (not chosen or class == MEDIA and dev.media_event) then
        chosen = class
      end
    end
  end
  if not chosen then return string.pack(">I2BB", 2, 0x80, supported) end
  -- An event is told once, and only where there is room for it.
  if guard.field(cmd, layout, "allocation_length") <= 4 then
    return string.pack(">I2BB", 6, chosen, supported)
  end
  return string.pack(">I2BB", 6, chosen, supported) .. CLASSES[chosen](dev)
end

--- MECHANISM STATUS: the door; there is no changer.
function mmc.mechanism_status(_, cmd)
  return string.char(0, medium.present(cmd.dev) and 0 or 0x10, 0, 0, 0, 0, 0, 0)
end

-- Another disc --------------------------------------------------------------

--- kind.ejected: the event for whoever polls.
function mmc.ejected(self, dev)
  medium.release(self, dev)
  dev.media_event = MEDIUM_REMOVED
end

--- Takes the size of the disc over from what is served: an image knows best
-- how large it is.  Raises if it holds no block.
function mmc.measure(dev)
  local size = dev.store and dev.store:size() or dev.size
  if size < dev.block_size then
    error(("an image of %d bytes is no disc: it needs %d at least"):format(
          size, dev.block_size), 0)
  end
  dev.size = size - size % dev.block_size
  dev.handle():set("size", dev.size)
end

--- kind.loading: the disc is what the handler's `reload` gives.
function mmc.loading(self, dev)
  medium.reload(self, dev)
  local good, why = pcall(mmc.measure, dev)
  if not good then
    medium.release(self, dev)
    require("tcmu").log(tostring(why), "error")
    error(NOT_PRESENT)
  end
  dev.media_event = NEW_MEDIUM
end

return mmc
