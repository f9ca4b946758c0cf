--- The ends of a copy: this device, or another of the process.
--
-- Another device lives on a shard and in a Lua state of its own, and is reached
-- by letters (host/peer.h): "read these bytes", "write these".  Nothing can
-- wait in a circle, whoever copies whatever to whom: a range is locked on its
-- own device only, to write bytes that are there already or are read from that
-- same device; so who holds one waits for a store, never for a letter.  Reads
-- take no lock.
--
-- A ring entry names no initiator, and reservations and LUN masking are the
-- kernel's.  So which devices an initiator may use is not known here: only an
-- operator who says that it makes no difference (serve --third-party-copy) gets
-- copies between devices.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local limits = require "tcmu.limits"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local vpd = require "tcmu.vpd"

local copy_end = {}

local UNREACHABLE <const> = sense.constant.COPY_TARGET_DEVICE_NOT_REACHABLE
local WRONG_TYPE <const> = sense.constant.INCORRECT_COPY_TARGET_DEVICE_TYPE
local FAILURE <const> = sense.constant.THIRD_PARTY_DEVICE_FAILURE
local COPY_OUT <const> = scsi.THIRD_PARTY_COPY_OUT
local OPCODES <const> = { read = scsi.READ_16, write = scsi.WRITE_16 }
local FACTS <const> = ">I8I8I4B"
local ENODEV <const> = 19
local CHUNK <const> = 1 << 20       -- bytes that are moved at once
local ASSOCIATION <const> = 0x30    -- of a designator: 0 is the logical unit

-- This device ----------------------------------------------------------------

--- True if the device can be copied from or to at all: disks, unless their
-- handler has switched copying off.
function copy_end.suits(dev)
  local own <const> = dev.handler.on and dev.handler.on[COPY_OUT]
  return own ~= false and dev.kind.on[COPY_OUT] ~= nil
end

--- Raises unless the device can "read" or "write" these bytes now.
function copy_end.check(dev, verb, offset, length)
  extent.check_ready(dev, OPCODES[verb])
  if verb == "write" then extent.check_writable(dev) end
  extent.check(dev, offset // dev.block_size, length // dev.block_size)
end

--- The most bytes that are read or written at once: whole blocks.
function copy_end.chunk(dev)
  local most <const> = math.min(CHUNK, limits.of(dev).transfer * dev.block_size)
  return math.max(dev.block_size, most - most % dev.block_size)
end

local function writable(dev)
  return dev.can.write and not dev.read_only and not dev.software_protected
end

--- What another shard has to know of the device, as text.
function copy_end.describe(dev)
  return string.pack(FACTS, dev.size, copy_end.chunk(dev), dev.block_size,
                     writable(dev) and 1 or 0)
end

--- This device as an end, as copy_end.find() gives it.
function copy_end.own(self, dev)
  return {
    dev = dev, size = dev.size, block_size = dev.block_size,
    chunk = copy_end.chunk(dev),
    writable = true,                -- or it is WRITE PROTECTED, see check()
    -- A handler's read has one cmd.data at a time.
    lanes = dev.store and 2 or 1,
    hold = function(offset, length) return core.lock(self, offset, length) end,
    read = function(buffer, offset)
      copy_end.check(dev, "read", offset, #buffer)
      dev:read(buffer, offset)
    end,
    write = function(buffer, offset)
      local _ <close> = core.lock(self, offset, #buffer)
      copy_end.check(dev, "write", offset, #buffer)
      dev:write(buffer, offset, false)
    end,
  }
end

-- True if the designator is one of the device's own, in page 83h.
local function is_this(dev, target)
  local page <const> = vpd.body(dev, 0x83) or ""
  local at = 1
  while at + 3 <= #page do
    local code_set, kind, name = string.unpack(">BBxs1", page, at)
    if code_set == target.code_set and kind == target.kind
       and name == target.name then
      return true
    end
    at = at + 4 + #name
  end
  return false
end

-- Others ---------------------------------------------------------------------

local function failed(rc, text)
  if rc == -ENODEV then return UNREACHABLE end
  return text == "type" and WRONG_TYPE or FAILURE
end

local function other(shard, device)
  local rc, text = core.peer.look(shard, device)
  if rc ~= 0 then return nil, failed(rc, text) end
  local size, most, block_size, may_write = string.unpack(FACTS, text)
  local function call(verb)
    return function(buffer, offset)
      local code, why = core.peer[verb](shard, device, offset, buffer)
      if code ~= 0 then error(failed(code, why)) end
    end
  end
  return {
    key = shard .. ":" .. device, size = size, block_size = block_size,
    chunk = most, writable = may_write == 1, lanes = 2,
    read = call "read", write = call "write",
  }
end

local function say(dev, text)
  core.log("warning", dev.hba .. "/" .. dev.name, text)
end

--- The end that a target descriptor names: { size, block_size, chunk (the most
-- bytes to move at once, and a multiple of those), writable, lanes (how many
-- reads or writes at a time), read(buffer, offset), write(buffer, offset) }.
-- Both wait, and raise.  Ends that are one device are one table.  `known` keeps
-- them for one command.  Waits.
-- @return the end; or nil and a sense value
function copy_end.find(self, dev, target, known)
  if target.kind & ASSOCIATION ~= 0 then return nil, UNREACHABLE end
  if is_this(dev, target) then
    known.this = known.this or copy_end.own(self, dev)
    return known.this
  end
  if not core.peer.allowed() then
    if not dev.told_about_copies then
      dev.told_about_copies = true
      say(dev, "was asked to copy from or to another device, which only "
               .. "'tcmu-lua serve --third-party-copy' does: whoever may use "
               .. "one device can then read and write all of them")
    end
    return nil, UNREACHABLE
  end
  local count, shard, device = core.peer.find(string.pack(">BBxs1",
                                 target.code_set, target.kind, target.name))
  if count > 1 then
    say(dev, ("%d devices have the designator that a copy is to go from or to: "
              .. "give them different serials"):format(count))
  end
  if count ~= 1 then return nil, UNREACHABLE end
  local found, why = other(shard, device)
  if not found then return nil, why end
  known[found.key] = known[found.key] or found
  return known[found.key]
end

-- Moving ---------------------------------------------------------------------

-- From the end that does not harm what is still to be read.
local function within(source, from, to, length, chunk_size)
  local parts = (length + chunk_size - 1) // chunk_size
  local _ <close> = source.hold and source.hold(to, length)
  local first, last, step = 0, parts - 1, 1
  if to > from then first, last, step = parts - 1, 0, -1 end
  for i = first, last, step do
    local at = i * chunk_size
    local buffer = core.buffer(math.min(chunk_size, length - at))
    source.read(buffer, from + at)
    source.write(buffer, to + at)
    core.sleep(0)               -- neither of both has to have waited
  end
end

-- Two at a time: one is read while the other is written.
local function across(source, destination, from, to, length, chunk_size)
  local next_at = 0
  local function lane()
    local buffer
    while next_at < length do
      local at = next_at
      local n = math.min(chunk_size, length - at)
      next_at = at + n
      if not buffer or #buffer ~= n then buffer = core.buffer(n) end
      source.read(buffer, from + at)
      destination.write(buffer, to + at)
    end
  end
  if math.min(source.lanes, destination.lanes) > 1 and length > chunk_size then
    core.all(lane, lane)
  else
    lane()
  end
end

--- Copies `length` bytes, whole blocks of both ends, from byte `from` of
-- `source` to byte `to` of `destination`.  Where they overlap it is as if they
-- did not.  Waits; raises.
function copy_end.move(source, destination, from, to, length)
  local block <const> = math.max(source.block_size, destination.block_size)
  local most <const> = math.min(source.chunk, destination.chunk)
  local chunk_size <const> = math.max(block, most - most % block)
  if source == destination then
    within(source, from, to, length, chunk_size)
  else
    across(source, destination, from, to, length, chunk_size)
  end
end

return copy_end
