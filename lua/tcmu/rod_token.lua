--- ROD tokens as bytes (SPC-4 5.17.6, tables 113 and 116; SBC-3 4.28): 512 of
--- them stand for blocks of a device.
--
-- Who has the bytes may read the blocks: 32 of them are random.  Where the
-- device is, which is nobody else's business, stands in the extended data.

local identity = require "tcmu.identity"

local token = {}

token.LENGTH = 512

--- ROD types (SPC-4 table 107, SBC-3 table 12).
token.type = {
  POINT_IN_TIME = 0x00800000,       -- which one is left to the copy manager
  CHANGE_VULNERABLE = 0x00800001,
  ANY_POINT_IN_TIME = 0x0080FFFF,
  ZEROES = 0xFFFF0001,
}

--- What there may be: page 8Fh says so.
token.limits = {
  ranges = 32,
  bytes = 256 << 20, optimal = 64 << 20,        -- of a token
  seconds = 60, most_seconds = 600,             -- of inactivity
  tokens = 64,                                  -- of a device
}

--- The ROD types of page 8Fh: { type, may be made, may be written }.
token.types = {
  { token.type.POINT_IN_TIME, true, false },
  { token.type.CHANGE_VULNERABLE, true, true },
  { token.type.ZEROES, false, true },
}

-- Type, length, identifier, creator, bytes represented, token specific,
-- device type specific, (target device, not known), extended data.
local FORMAT <const> = ">I4xxI2I8c32I8I8c32I4BBI2c24c332I4I8c40"
local REST <const> = token.LENGTH - 8
local SECRET <const> = 40

local function random(n)
  local file <close> = assert(io.open("/dev/urandom", "rb"))
  return assert(file:read(n))
end

-- An identification CSCD descriptor of the device (SPC-4 table 128).
local function creator(dev)
  local naa = identity.naa(dev)
  local designator = naa and string.pack(">BBxs1", 1, 3, naa)
                     or string.pack(">BBxs1", 1, 0, "")
  return string.pack(">Bxxxc24xI3", 0xE4, designator, dev.block_size)
end

local last = 0

--- A new token for `bytes` bytes of the device, number `device` of shard
-- `shard`.
function token.new(dev, shard, device, bytes)
  last = last + 1
  return string.pack(FORMAT, token.type.CHANGE_VULNERABLE, REST, last,
    creator(dev), 0, bytes, ("\0"):rep(32),
    dev.block_size, 0, 0, dev.can.unmap and 0xC000 or 0, ("\0"):rep(24),
    ("\0"):rep(332), shard, device, random(SECRET))
end

--- What a token says of itself: its ROD type, and the shard and the number of
-- the device that has made it; nil for bytes that are no token.
function token.read(bytes)
  local kind, rest = string.unpack(">I4xxI2", bytes)
  if rest ~= REST then return nil end
  return kind, string.unpack(">I4I8", bytes, token.LENGTH - SECRET - 11)
end

return token
