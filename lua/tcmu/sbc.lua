--- Commands of disks that read, write and tell the capacity (SBC-3 clause 5).
--
-- The complete truth about READ, WRITE and their kin; the C path does the
-- plain cases of READ and WRITE the same way, faster.  Three lengths are kept
-- apart: what the CDB asks for, what the fabric has room for (#cmd.data) and
-- what the device allows.  A function gets the handler's `self`, the command
-- and its layout; the CDB has passed tcmu.guard.

local core = require "tcmu.core"
local dispatch = require "tcmu.dispatch"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local limits = require "tcmu.limits"

local sbc = {}

local PREFETCH <const> = 16 << 20   -- bytes that PRE-FETCH reads at most
local STATUS_STEPS <const> = 4096   -- questions to the store, in GET LBA STATUS

--- READ (6), (10), (12), (16), (32).  FUA: what is in the cache is on the
-- medium before it is read (SBC-3 4.15).
function sbc.read(_, cmd, layout)
  local dev <const>, data <const> = cmd.dev, cmd.data
  local offset, length = extent.of(cmd, layout)
  if length == 0 then return "" end
  if guard.field(cmd, layout, "fua") == 1 and dev.can.flush
     and dev.write_cache then
    dev:flush(offset, length)
  end
  if #data == length then
    dev:read(data, offset)
    return nil
  end
  local whole = core.buffer(length)
  dev:read(whole, offset)
  return whole
end

local function write(cmd, layout, most)
  local dev <const> = cmd.dev
  local offset, length = extent.of(cmd, layout, most)
  extent.check_writable(dev)
  if length == 0 then return end
  local data = extent.data_out(cmd, length)
  dev:write(data, offset, guard.field(cmd, layout, "fua") == 1)
end

--- WRITE (6), (10), (12), (16), (32).  Data-Out that is too short is refused
-- before anything is written; of what is too long the CDB's blocks count.
function sbc.write(_, cmd, layout) write(cmd, layout) end

--- WRITE ATOMIC (16): one operation of the store, and no other change of the
-- same blocks comes between.  There are no boundaries (SBC-4 5.41).
function sbc.write_atomic(_, cmd, layout)
  write(cmd, layout, limits.of(cmd.dev).atomic)
end

-- Keeps why a flush has failed, or nil: while there is something to tell, no
-- SYNCHRONIZE CACHE is served in C.
local function keep_lost_flush(dev, why)
  dev.lost_flush = why
  dev.handle():set("shortcuts", dispatch.shortcuts(dev))
end

-- Nobody waits for this flush.  If it fails, the next SYNCHRONIZE CACHE tells.
-- That is where an initiator asks whether its data are safe; a deferred error
-- (SPC-4 4.5.7) would hit any command, and Linux just sends that one again.
local function flush_unattended(dev, offset, length)
  local ok, why = pcall(dev.flush, dev, offset, length)
  if ok then return end
  core.log("error", dev.hba .. "/" .. dev.name, ("a flush has failed whose "
    .. "command was answered before (IMMED): %s"):format(
    type(why) == "table" and why.message or tostring(why)))
  keep_lost_flush(dev, why)
end

local function tell_lost_flush(dev)
  local why <const> = dev.lost_flush
  if not why then return end
  keep_lost_flush(dev, nil)
  error(why, 0)
end

--- SYNCHRONIZE CACHE (10) and (16): 0 blocks mean all that follow.  IMMED
-- answers as soon as the flush has begun.
function sbc.synchronize_cache(_, cmd, layout)
  local dev <const> = cmd.dev
  tell_lost_flush(dev)
  local offset, length = extent.unlimited(cmd)
  if length == 0 then length = dev.size - offset end
  if length == 0 then return end
  if guard.field(cmd, layout, "immed") == 1 then
    core.background(flush_unattended, dev, offset, length)
  else
    dev:flush(offset, length)
  end
end

local function prefetch(dev, offset, length)
  for at, n in extent.chunks(dev, offset, math.min(length, PREFETCH)) do
    dev:read(core.buffer(n), at)
  end
end

--- PRE-FETCH (10) and (16): reads, since that is what fills a page cache.  The
-- cache is the system's and not ours, so nobody can promise that all blocks
-- have room in it; therefore GOOD, never CONDITION MET (SBC-3 5.12).
function sbc.prefetch(_, cmd, layout)
  local dev <const> = cmd.dev
  local offset, length = extent.unlimited(cmd)
  if length == 0 then length = dev.size - offset end
  if not dev.can.flush then return end      -- there is no cache to fill
  if guard.field(cmd, layout, "immed") == 1 then
    core.background(prefetch, dev, offset, length)
  else
    prefetch(dev, offset, length)
  end
end

--- READ CAPACITY (10): FFFFFFFFh says "ask READ CAPACITY (16)".
function sbc.read_capacity_10(_, cmd)
  local dev <const> = cmd.dev
  local last <const> = dev.size // dev.block_size - 1
  return string.pack(">I4I4", math.min(last, 0xFFFFFFFF), dev.block_size)
end

--- READ CAPACITY (16): LBPME and LBPRZ where UNMAP is real; physical blocks
-- begin with LBA 0.
function sbc.read_capacity_16(_, cmd)
  local dev <const> = cmd.dev
  return string.pack(">I8I4BBBBc16", dev.size // dev.block_size - 1,
                     dev.block_size, 0, limits.physical_exponent(dev),
                     dev.can.unmap and 0xC0 or 0, 0, ("\0"):rep(16))
end

-- There are no defects, whichever list and format is asked for; 111b is none.
local function defects(cmd, layout)
  local format <const> = guard.field(cmd, layout, "defect_list_format")
  if format == 7 then guard.refuse(layout, "defect_list_format") end
  return guard.field(cmd, layout, "req_plist") << 4
         | guard.field(cmd, layout, "req_glist") << 3 | format
end

--- READ DEFECT DATA (10).
function sbc.read_defect_data_10(_, cmd, layout)
  return string.pack(">BBI2", 0, defects(cmd, layout), 0)
end

--- READ DEFECT DATA (12): from which descriptor on does not matter to a list
-- of none.
function sbc.read_defect_data_12(_, cmd, layout)
  return string.pack(">BBI2I4", 0, defects(cmd, layout), 0, 0)
end

-- Blocks from `lba` on that are alike, looking `steps.left` times at most:
-- whether they are mapped, and how many.  A block of which any part takes up
-- space is mapped.
local function alike(dev, lba, steps)
  local size <const> = dev.block_size
  local left <const> = dev.size // size - lba
  local first, blocks = nil, 0
  repeat
    local status, length = dev:status((lba + blocks) * size)
    local n = math.min(length // size, left - blocks)
    if n == 0 then n, status = 1, "mapped" end
    first = first or status
    if status ~= first then break end
    blocks = blocks + n
    steps.left = steps.left - 1
  until blocks >= left or blocks >= 1 << 31 or steps.left <= 0
  return first == "mapped", math.min(blocks, 0xFFFFFFFF)
end

--- GET LBA STATUS: descriptors from the starting LBA on, as many as the
-- allocation length has room for and a command has time for (SBC-3 5.4).
function sbc.get_lba_status(_, cmd, layout)
  local dev <const> = cmd.dev
  local capacity <const> = dev.size // dev.block_size
  local lba = guard.field(cmd, layout, "starting_logical_block_address")
  extent.check(dev, lba, 1)
  local room <const> = guard.field(cmd, layout, "allocation_length")
  local list, steps = {}, { left = STATUS_STEPS }
  repeat
    local mapped, blocks = alike(dev, lba, steps)
    list[#list + 1] = string.pack(">I8I4Bc3", lba, blocks, mapped and 0 or 1,
                                  "\0\0\0")
    lba = lba + blocks
  until lba >= capacity or steps.left <= 0 or 24 + 16 * #list > room
  local body = table.concat(list)
  return string.pack(">I4I4", 4 + #body, 0) .. body
end

return sbc
