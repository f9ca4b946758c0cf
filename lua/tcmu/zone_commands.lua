--- The commands that only zoned disks have (ZBC clause 5), and what such a disk
--- says about itself.
--
-- A command that changes a zone holds all its blocks, so it comes after the
-- writes that were there before and before those that follow.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local sense = require "tcmu.sense"
local zones = require "tcmu.zones"

local zone_commands = {}

local INVALID_FIELD <const> = sense.constant.INVALID_FIELD_IN_CDB

-- REPORT ZONES --------------------------------------------------------------

local HEADER <const>, DESCRIPTOR <const> = 64, 64
local CONVENTIONAL <const>, SEQUENTIAL <const> = 0x1, 0x2
local SAME_TYPE <const>, SAME_LENGTH <const> = 0x1, 0x3
local NO_POINTER <const> = -1       -- all ones

-- Which zones a reporting option is about: a condition, all, or none, since no
-- zone of ours is ever read only or offline, recommended for a reset, or
-- written out of order.
local ALL <const>, NONE <const> = true, false
local OPTIONS <const> = {
  [0x00] = ALL, [0x3E] = ALL,
  [0x01] = zones.condition.EMPTY, [0x02] = zones.condition.IMPLICITLY_OPEN,
  [0x03] = zones.condition.EXPLICITLY_OPEN, [0x04] = zones.condition.CLOSED,
  [0x05] = zones.condition.FULL, [0x06] = NONE, [0x07] = NONE,
  [0x10] = NONE, [0x11] = NONE,
  [0x3F] = zones.condition.NOT_WRITE_POINTER,
}

local function descriptor(set, n)
  local condition <const> = set.condition[n]
  local points <const> = condition ~= zones.condition.NOT_WRITE_POINTER
                         and condition ~= zones.condition.FULL
  return string.pack(">BBc6I8I8I8c32",
    set:is_conventional(n) and CONVENTIONAL or SEQUENTIAL,
    condition << 4, "", set.length, n * set.length,
    points and set.pointer[n] or NO_POINTER, "")
end

--- REPORT ZONES.  The length is that of all descriptors there would be, with
-- PARTIAL that of those that fit.
function zone_commands.report(self, cmd, layout)
  local dev <const>, set <const> = cmd.dev, self.zones
  local start <const> = guard.field(cmd, layout, "zone_start_lba")
  local wanted <const> = OPTIONS[guard.field(cmd, layout, "reporting_options")]
  if wanted == nil then guard.refuse(layout, "reporting_options") end
  extent.check(dev, start, 1)
  local room <const> = guard.field(cmd, layout, "allocation_length")
  local most <const> = math.max(0, (room - HEADER) // DESCRIPTOR)
  local partial <const> = guard.field(cmd, layout, "partial") == 1

  local list, count = {}, 0
  for n = set:at(start), wanted == NONE and -1 or set.count - 1 do
    if wanted == ALL or set.condition[n] == wanted then
      if count == most and partial then break end
      count = count + 1
      if count <= most then list[count] = descriptor(set, n) end
    end
  end
  return string.pack(">I4Bc3I8c48", count * DESCRIPTOR,
                     set.conventional == 0 and SAME_TYPE or SAME_LENGTH, "",
                     set.count * set.length - 1, "") .. table.concat(list)
end

-- Zone management -----------------------------------------------------------

-- The zone that ZONE ID names: by its first block, and with a write pointer.
local function zone_of(set, cmd, layout)
  local lba <const> = guard.field(cmd, layout, "zone_id")
  extent.check(cmd.dev, lba, 1)
  local n <const> = set:at(lba)
  if lba % set.length ~= 0 or set:is_conventional(n) then
    error(INVALID_FIELD:at(layout.field.zone_id.byte))
  end
  return n
end

-- A command that does `verb` to one zone or, with ALL, to those that it fits.
-- `before(set, dev, list)` is called with their numbers ahead of that, `after`
-- when it is on record.
local function managing(verb, before, after)
  return function(self, cmd, layout)
    local dev <const>, set <const> = cmd.dev, self.zones
    local bytes <const> = set.length * dev.block_size
    local all <const> = guard.field(cmd, layout, "all") == 1
    local only <const> = not all and zone_of(set, cmd, layout)
    extent.check_writable(dev)
    local _ <close> = core.lock(self, all and 0 or only * bytes,
                                all and dev.size or bytes)
    -- While others had the blocks, the disk may have been protected.
    extent.check_ready(dev, cmd.opcode)
    extent.check_writable(dev)
    local list <const> = all and set:all(verb) or { only }
    if before then before(set, dev, list) end
    for _, n in ipairs(list) do set[verb](set, n) end
    set.state:save(not dev.write_cache)
    if after then after(set, dev, list) end
  end
end

--- OPEN ZONE.
zone_commands.open = managing "open_zone"

--- CLOSE ZONE.
zone_commands.close = managing "close_zone"

-- Zones read as zeroes from their write pointers on; true if there was any such
-- block.
local function clear(set, dev, list)
  local found = false
  for _, n in ipairs(list) do
    local from <const> = set.pointer[n] * dev.block_size
    local length <const> = (n + 1) * set.length * dev.block_size - from
    if length > 0 then
      found = true
      if set.discard then set.discard(from, length)
      else dev:zero(from, length) end
    end
  end
  return found
end

--- FINISH ZONE.  What is behind the write pointer can be read from now on, and
-- a reset that did not come to its end has left old data there.
zone_commands.finish = managing("finish_zone", function(set, dev, list)
  if clear(set, dev, list) and dev.can.flush then dev:flush(0, dev.size) end
end)

--- RESET WRITE POINTER: what the zone held gives its space back.
zone_commands.reset = managing("reset_zone", nil, clear)

-- About the device ----------------------------------------------------------

--- READ CAPACITY (16): RC_BASIS 01b, the last block of all zones.
function zone_commands.read_capacity_16(_, cmd)
  local dev <const> = cmd.dev
  return string.pack(">I8I4Bc19", dev.size // dev.block_size - 1,
                     dev.block_size, 0x10, "")
end

--- Page B6, Zoned Block Device Characteristics (ZBC clause 6): URSWRZ, and how
-- many zones may be open; what is all ones is not told or has no limit.
function zone_commands.characteristics(dev)
  local most <const> = dev.self.zones.max_open
  return string.pack(">Bc3I4I4I4c44", 0x01, "", 0xFFFFFFFF, 0xFFFFFFFF,
                     most > 0 and most or 0xFFFFFFFF, "")
end

return zone_commands
