--- UNMAP and WRITE SAME (SBC-3 4.7, 5.28, 5.44).
--
-- Both zero all that they name, however it is aligned; what is unmapped reads
-- as zeroes (LBPRZ), which stores and handlers see to.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local limits = require "tcmu.limits"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

local thin = {}

local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST

-- The ranges of an UNMAP parameter list, all checked: { lba, blocks }.  Those
-- that follow each other are one: a block alone is no page of any store.
local function unmap_ranges(dev, list)
  if #list < 8 then error(BAD_LENGTH) end
  local most <const> = limits.of(dev)
  local announced = string.unpack(">I2", list, 3)
  -- A descriptor that is cut off does not count (SBC-3 5.28.2).
  local count = math.min(announced, #list - 8) // 16
  if count > most.unmap_descriptors then error(BAD_FIELD:at_param(2)) end

  local ranges, total = {}, 0
  for i = 1, count do
    local at = 8 + (i - 1) * 16
    local lba, blocks = string.unpack(">I8I4", list, at + 1)
    extent.check(dev, lba, blocks)
    total = total + blocks
    if total > most.unmap_blocks then error(BAD_FIELD:at_param(at + 8)) end
    local last = ranges[#ranges]
    if last and lba == last[1] + last[2] then
      last[2] = last[2] + blocks
    elseif blocks > 0 then
      ranges[#ranges + 1] = { lba, blocks }
    end
  end
  return ranges
end

--- UNMAP: nothing is unmapped unless the whole list is right.
function thin.unmap(self, cmd, layout)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  local ranges = unmap_ranges(dev, list)
  extent.check_writable(dev)
  if #ranges == 0 then return end
  local first, last = math.maxinteger, 0
  for _, range in ipairs(ranges) do
    first = math.min(first, range[1])
    last = math.max(last, range[1] + range[2])
  end
  local size <const> = dev.block_size
  -- From its beginning, like WRITE, and all at once: what is written after the
  -- kernel has given this command up must not be unmapped by it.
  local _ <close> = core.lock(self, first * size, (last - first) * size, true)
  -- Whom it has waited for may have changed that.
  extent.check_ready(dev, scsi.UNMAP)
  extent.check_writable(dev)
  extent.check(dev, first, last - first)
  for _, range in ipairs(ranges) do
    -- Only this is what changes.
    local _ <close> = core.lock(self, range[1] * size, range[2] * size)
    dev:unmap(range[1] * size, range[2] * size)
  end
end

--- WRITE SAME (10), (16) and (32).  UNMAP may unmap only what then reads as
-- was asked, which is a block of zeroes (SBC-3 4.7.3.4).
function thin.write_same(_, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length, pattern = extent.same(cmd, layout)
  if pattern and pattern:find("[^\0]") then
    extent.fill(dev, pattern, offset, length)
  elseif guard.field(cmd, layout, "unmap") == 1 then
    dev:unmap(offset, length)
  else
    dev:zero(offset, length)
  end
end

return thin
