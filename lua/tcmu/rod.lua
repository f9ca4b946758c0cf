--- POPULATE TOKEN, WRITE USING TOKEN and RECEIVE ROD TOKEN INFORMATION (SBC-3
--- 5.7, 5.48; SPC-4 6.32): a token stands for blocks as they are now, and can
--- be written in their place, to any disk of the process.
--
-- Tokens are of the type "point in time copy - change vulnerable": nothing is
-- copied for them, but whoever changes their blocks revokes them.  Every change
-- asks for a range lock first, so a watch on the lock table (host/lock.h) sees
-- it before it happens; and what was read is passed on only if the token was
-- still good after that.  "Access upon reference" would be cheaper, but SBC-3
-- wants a point in time.
--
-- A token is a capability: it was given to somebody who may read its device,
-- and cannot be guessed.  So unlike EXTENDED COPY it needs no operator's word
-- to go to another device (tcmu.copy_end), by the same letters.

local copy_end = require "tcmu.copy_end"
local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local records = require "tcmu.copy_records"
local sense = require "tcmu.sense"
local token = require "tcmu.rod_token"

local rod = {}

local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local TOO_MANY <const> = sense.constant.TOO_MANY_SEGMENT_DESCRIPTORS
local NO_ROOM <const> =
  sense.constant.INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN
local FAILURE <const> = sense.constant.THIRD_PARTY_DEVICE_FAILURE
local POPULATE <const>, WRITE_USING <const> =
  records.POPULATE, records.WRITE_USING
local limits <const> = token.limits
local FACTS <const> = ">I8I4s2"     -- largest read, block size, lengths
local RANGE <const> = 16            -- bytes of a range descriptor

-- Why a token is not good, as the device that made it says it.
local REASONS <const> = {
  unknown = sense.constant.INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN,
  revoked = sense.constant.INVALID_TOKEN_OPERATION_TOKEN_REVOKED,
  expired = sense.constant.INVALID_TOKEN_OPERATION_TOKEN_EXPIRED,
  deleted = sense.constant.INVALID_TOKEN_OPERATION_TOKEN_DELETED,
}
local UNSUPPORTED <const> =
  sense.constant.INVALID_TOKEN_OPERATION_UNSUPPORTED_TOKEN_TYPE
local WRONG_LENGTH <const> =
  sense.constant.INVALID_TOKEN_OPERATION_INVALID_TOKEN_LENGTH

-- The device that made the tokens ------------------------------------------

-- A token does not stand for anything any more; that is remembered for a while.
local function drop(made, why)
  if made.gone then return end
  made.gone = why
  for _, watch in ipairs(made.watches) do watch:close() end
end

-- The token with these bytes, or nil and why it is not good.
local function find(dev, bytes)
  for _, made in ipairs(dev.tokens or {}) do
    if made.bytes == bytes then
      for _, watch in ipairs(made.watches) do
        if not made.gone and not watch:intact() then drop(made, "revoked") end
      end
      if made.gone then return nil, made.gone end
      return made
    end
  end
  return nil, "unknown"
end

-- Makes room for one more; the oldest that is not good any more goes.
local function make_room(dev)
  dev.tokens = dev.tokens or {}
  if #dev.tokens < limits.tokens then return end
  for i, made in ipairs(dev.tokens) do
    if not find(dev, made.bytes) then
      table.remove(dev.tokens, i)
      return
    end
  end
  error(NO_ROOM)
end

-- A task: ends a token that nobody has used for so long.
local function expire(made)
  repeat
    local uses = made.uses
    core.sleep(made.seconds * 1000)
  until made.uses == uses
  drop(made, "expired")
end

-- Makes a token.  First the watches, then who writes there at the moment comes
-- to an end (our lock changes nothing), and from then on the blocks are what
-- the token stands for.
local function make(record, self, dev, ranges, seconds)
  local made = { ranges = ranges, seconds = seconds, uses = 0, watches = {} }
  local bytes = 0
  for i, range in ipairs(ranges) do
    made.watches[i] = core.watch(range.offset, range.length)
  end
  for i, range in ipairs(ranges) do
    do local _ <close> = core.lock(self, range.offset, range.length, true) end
    copy_end.check(dev, "read", range.offset, range.length)
    made.watches[i]:everybody()
    bytes = bytes + range.length
  end
  local shard, device = core.peer.here()
  made.bytes = token.new(dev, shard, device, bytes)
  make_room(dev)
  table.insert(dev.tokens, made)
  core.spawn(expire, made)
  record.token = made.bytes
  record.bytes = bytes
end

--- For tcmu.copy_serve: what a token of this device stands for, as text; or
-- nil and why it is not good.
function rod.look(dev, bytes)
  local made, why = find(dev, bytes)
  if not made then return nil, why end
  made.uses = made.uses + 1
  local lengths = {}
  for i, range in ipairs(made.ranges) do
    lengths[i] = string.pack(">I8", range.length)
  end
  return string.pack(FACTS, copy_end.chunk(dev), dev.block_size,
                     table.concat(lengths))
end

--- Fills the buffer with what the token stands for, from byte `at` on, all of
-- it from one of its ranges; or nil and why the token is not good.  Waits.
function rod.read(dev, bytes, at, buffer)
  local made, why = find(dev, bytes)
  if not made then return nil, why end
  made.uses = made.uses + 1
  local start = 0
  for _, range in ipairs(made.ranges) do
    if at >= start and at - start + #buffer <= range.length then
      local offset = range.offset + at - start
      copy_end.check(dev, "read", offset, #buffer)
      dev:read(buffer, offset)
      made, why = find(dev, bytes)
      return made and "", why
    end
    start = start + range.length
  end
  error "bytes that a token does not stand for"
end

--- Nobody needs the token any more.
function rod.delete(dev, bytes)
  local made, why = find(dev, bytes)
  if not made then return nil, why end
  drop(made, "deleted")
  return ""
end

--- Revokes all tokens: the blocks of the device are others now.
function rod.revoke(dev)
  for _, made in ipairs(dev.tokens or {}) do drop(made, "revoked") end
end

-- Parameter lists ------------------------------------------------------------

-- The range descriptors whose length is at `length_at` of a list, in bytes, and
-- their sum; raises for what is wrong with them (SBC-3 table 62).  A last one
-- that is incomplete does not count.
local function read_ranges(dev, list, length_at)
  local length, at = string.unpack(">I2", list, length_at + 1)
  if length < RANGE then error(BAD_FIELD:at_param(length_at)) end
  if length // RANGE > limits.ranges then
    error(TOO_MANY:at_param(length_at))
  end
  local complete <const> = math.min(length, #list - (at - 1)) // RANGE
  local ranges, sum = {}, 0
  for first = at - 1, at - 2 + complete * RANGE, RANGE do
    local lba, blocks = string.unpack(">I8I4", list, first + 1)
    extent.check(dev, lba, blocks)
    local range = { offset = lba * dev.block_size,
                    length = blocks * dev.block_size }
    for _, other in ipairs(ranges) do
      if range.offset < other.offset + other.length
         and other.offset < range.offset + range.length then
        error(BAD_FIELD:at_param(first))
      end
    end
    if blocks > 0 then ranges[#ranges + 1] = range end
    sum = sum + range.length
  end
  if sum > limits.bytes then error(BAD_FIELD:at_param(length_at + 2)) end
  return ranges, sum
end

-- The list of a command whose header has `head` bytes; nil: there is none.
-- There has to be room for a descriptor.
local function read_list(cmd, layout, head)
  local list = guard.parameters(cmd, layout)
  if list == "" then return nil end
  records.forget(cmd.dev, guard.field(cmd, layout, "list_identifier"))
  if #list < head then error(BAD_LENGTH) end
  local said = string.unpack(">I2", list) + 2
  if said < head + RANGE then error(BAD_FIELD:at_param(0)) end
  return list:sub(1, said), said
end

-- Begins what a list asks for; with IMMED it goes on beside the commands, and
-- what goes wrong is for RECEIVE ROD TOKEN INFORMATION.
local function start(cmd, layout, action, immed, fn, ...)
  local id <const> = guard.field(cmd, layout, "list_identifier")
  local record = records.enter(cmd.dev, action, id, true)
  record.background = immed
  if immed then
    core.background(pcall, records.perform, record, fn, ...)
  else
    records.perform(record, fn, ...)
  end
end

local MAY_MAKE <const> = {
  [token.type.POINT_IN_TIME] = true, [token.type.CHANGE_VULNERABLE] = true,
  [token.type.ANY_POINT_IN_TIME] = true,
}

--- POPULATE TOKEN (SBC-3 5.7).
function rod.populate(self, cmd, layout)
  local dev <const> = cmd.dev
  local list = read_list(cmd, layout, 16)
  if not list then return end
  local flags, seconds, kind = string.unpack(">BxI4I4", list, 3)
  if seconds > limits.most_seconds then error(BAD_FIELD:at_param(4)) end
  if flags & 0x02 ~= 0 and not MAY_MAKE[kind] then      -- RTV
    error(BAD_FIELD:at_param(8))
  end
  local ranges = read_ranges(dev, list, 14)
  if #ranges == 0 then error(BAD_FIELD:at_param(14)) end
  start(cmd, layout, POPULATE, flags & 0x01 ~= 0, make, self, dev, ranges,
        seconds == 0 and limits.seconds or seconds)
end

-- Writing --------------------------------------------------------------------

-- What a token says that is not good where it comes from.
local function refused(rc, why)
  if rc < 0 then return REASONS.unknown end
  return REASONS[why] or FAILURE
end

-- What a token stands for: { block_size, chunk, lengths = of its ranges, read =
-- function(buffer, at), delete = function() }.  Waits; raises.
local function source_of(bytes)
  local kind, shard, device = token.read(bytes)
  if not kind then error(WRONG_LENGTH) end
  if kind ~= token.type.CHANGE_VULNERABLE then error(UNSUPPORTED) end
  if shard >= core.peer.shards or device < 0 then error(REASONS.unknown) end
  local rc, text = core.peer.look(shard, device, nil, nil, bytes)
  if rc ~= 0 then error(refused(rc, text)) end
  local chunk, block_size, packed = string.unpack(FACTS, text)
  local lengths = {}
  for at = 1, #packed, 8 do
    lengths[#lengths + 1] = string.unpack(">I8", packed, at)
  end
  return {
    block_size = block_size, chunk = chunk, lengths = lengths,
    read = function(buffer, at)
      local code, why = core.peer.read(shard, device, at, buffer, bytes)
      if code ~= 0 then error(refused(code, why)) end
    end,
    delete = function() core.peer.delete(shard, device, nil, nil, bytes) end,
  }
end

-- How much of the token can be read at once from byte `at` on; 0 at its end.
local function contiguous(source, at)
  local start_at = 0
  for _, length in ipairs(source.lengths) do
    if at < start_at + length then
      return math.min(source.chunk, start_at + length - at)
    end
    start_at = start_at + length
  end
  return 0
end

-- In the order of the list, so that TRANSFER COUNT says what is there; a token
-- that is too short for it is no error (SBC-3 5.48.2).
local function write_ranges(record, dev, destination, ranges, source, at,
                            delete)
  for _, range in ipairs(ranges) do
    local done = 0
    while done < range.length do
      local n = math.min(range.length - done, destination.chunk,
                         contiguous(source, at))
      records.go_on(record, dev)
      if n == 0 then
        record.partial = true
        break
      end
      local buffer = core.buffer(n)
      source.read(buffer, at)
      destination.write(buffer, range.offset + done)
      at, done = at + n, done + n
      record.bytes = record.bytes + n
    end
  end
  if delete then source.delete() end
end

local function write_zeroes(record, self, dev, ranges)
  for _, range in ipairs(ranges) do
    local _ <close> = core.lock(self, range.offset, range.length)
    copy_end.check(dev, "write", range.offset, range.length)
    dev:zero(range.offset, range.length)
    record.bytes = record.bytes + range.length
  end
end

--- WRITE USING TOKEN (SBC-3 5.48).
function rod.write_using(self, cmd, layout)
  local dev <const> = cmd.dev
  local list, said = read_list(cmd, layout, 536)
  if not list then return end
  -- What is cut off would stay unwritten, and nobody would know.
  if said > #list then error(BAD_LENGTH) end
  if string.unpack(">I2", list, 535) ~= said - 536 then
    error(BAD_FIELD:at_param(0))
  end
  local flags, offset = string.unpack(">BxxxxxI8", list, 3)
  local bytes = list:sub(17, 16 + token.LENGTH)
  local ranges = read_ranges(dev, list, 534)
  local immed <const> = flags & 0x01 ~= 0
  extent.check_writable(dev)
  if token.read(bytes) == token.type.ZEROES then
    start(cmd, layout, WRITE_USING, immed, write_zeroes, self, dev, ranges)
    return
  end
  local source = source_of(bytes)
  local size = 0
  for _, length in ipairs(source.lengths) do size = size + length end
  if source.block_size ~= dev.block_size then error(UNSUPPORTED) end
  if not math.ult(offset, size // dev.block_size) then
    error(BAD_FIELD:at_param(8))
  end
  start(cmd, layout, WRITE_USING, immed, write_ranges, dev,
        copy_end.own(self, dev), ranges, source, offset * dev.block_size,
        flags & 0x02 ~= 0)
end

--- RECEIVE ROD TOKEN INFORMATION (SPC-4 table 246): how a copy went, and the
-- token that it has made.
function rod.information(_, cmd, layout)
  local dev <const> = cmd.dev
  local record = records.find(dev, guard.field(cmd, layout, "list_identifier"))
  if not record then guard.refuse(layout, "list_identifier") end
  local tokens = record.token and "\0\0" .. record.token or ""
  return string.pack(">s4", records.describe(record, dev)
                            .. string.pack(">s4", tokens))
end

return rod
