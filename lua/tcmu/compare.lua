--- Commands that compare or combine Data-Out with what is on the medium:
--- VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE (SBC-3 clause 5).
--
-- Those that change blocks hold their range from before they start, so what
-- they have read is still true when they write.

local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local limits = require "tcmu.limits"
local sense = require "tcmu.sense"

local compare = {}

local MISCOMPARE <const> = sense.constant.MISCOMPARE_DURING_VERIFY_OPERATION
local INVALID_FIELD <const> = sense.constant.INVALID_FIELD_IN_CDB

-- Values of BYTCHK (SBC-3 5.30).
local NOTHING <const>, ALL <const>, RESERVED <const>, ONE_BLOCK <const> =
  0, 1, 2, 3

-- INFORMATION is the offset in Data-Out of the first byte that differs.
local function differ(data, at, medium, from, n, where)
  local same, first = data:compare(at, medium, from, n)
  if not same then error(MISCOMPARE:info(where + first)) end
end

-- Reads a range; `data` is compared with it if there is one, again and again
-- if it is a single block.
local function verify(dev, offset, length, data, period)
  local tcmu <const> = require "tcmu"
  for at, n in extent.chunks(dev, offset, length) do
    local medium = tcmu.buffer(n)
    dev:read(medium, at)
    local done = at - offset
    if data and not period then
      differ(data, done, medium, 0, n, done)
    elseif data then
      for from = 0, n - 1, period do
        differ(data, 0, medium, from, period, 0)
      end
    end
  end
end

local function bytchk(cmd, layout, most)
  local value = guard.field(cmd, layout, "bytchk")
  if value == RESERVED or value > most then guard.refuse(layout, "bytchk") end
  return value
end

--- VERIFY (10), (12), (16), (32): with BYTCHK 0 that the blocks can be read,
-- with 1 that they are Data-Out, with 3 that each is the one block of Data-Out.
function compare.verify(_, cmd, layout)
  local dev <const> = cmd.dev
  local what <const> = bytchk(cmd, layout, ONE_BLOCK)
  if what == NOTHING then
    verify(dev, extent.unlimited(cmd))
    return
  end
  local offset, length = extent.of(cmd, layout)
  if length == 0 then return end
  if what == ALL then
    verify(dev, offset, length, extent.data_out(cmd, length))
    return
  end
  verify(dev, offset, length, extent.data_out(cmd, dev.block_size),
         dev.block_size)
end

--- WRITE AND VERIFY (10), (12), (16), (32): on stable storage, then read again
-- and with BYTCHK 1 compared.
function compare.write_and_verify(_, cmd, layout)
  local dev <const> = cmd.dev
  local what <const> = bytchk(cmd, layout, ALL)
  local offset, length = extent.of(cmd, layout)
  extent.check_writable(dev)
  if length == 0 then return end
  local data = extent.data_out(cmd, length)
  dev:write(data, offset, true)
  verify(dev, offset, length, what == ALL and data or nil)
end

--- COMPARE AND WRITE: the first half of Data-Out is compared, the second
-- written (SBC-3 5.2).
function compare.compare_and_write(_, cmd, layout)
  local dev <const>, data <const> = cmd.dev, cmd.data
  local offset, length = extent.of(cmd, layout, limits.of(dev).compare)
  extent.check_writable(dev)
  if #data ~= 2 * length then error(INVALID_FIELD:at(layout.blocks.byte)) end
  if length == 0 then return end
  local medium = require("tcmu").buffer(length)
  dev:read(medium, offset)
  differ(data, 0, medium, 0, length, 0)
  medium:copy(0, data, length, length)
  dev:write(medium, offset, guard.field(cmd, layout, "fua") == 1)
end

--- ORWRITE (16): each byte on the medium OR the one of Data-Out.
function compare.orwrite(_, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = extent.of(cmd, layout)
  extent.check_writable(dev)
  if length == 0 then return end
  local data = extent.data_out(cmd, length)
  local medium = require("tcmu").buffer(length)
  dev:read(medium, offset)
  medium:bor(0, data, 0, length)
  dev:write(medium, offset, guard.field(cmd, layout, "fua") == 1)
end

return compare
