--- What a disk allows in one command.
--
-- The one table behind page B0 (Block Limits) and the commands that it is
-- about: what is advertised is what is enforced.  All lengths in blocks.

local limits = {}

-- UNMAP: half a GiB of 512-byte blocks, and as many descriptors as fit into
-- one page of Data-Out together with the header.
local UNMAP_BLOCKS <const> = 1 << 20
local UNMAP_DESCRIPTORS <const> = (4096 - 8) // 16

-- What is read and written at once wherever the blocks are: a page of memory,
-- a block of a file system.  Bytes.
local PAGE <const> = 4096

-- WRITE SAME may have to write what it says, so it ends within a sane time; and
-- all forms of it take what the shortest can name.
local WRITE_SAME_BYTES <const>, WRITE_SAME_BLOCKS <const> = 64 << 20, 0xFFFF

-- COMPARE AND WRITE has one byte for its length.
local COMPARE_BLOCKS <const> = 255

-- WRITE ATOMIC goes to the store in one operation.
local ATOMIC_BYTES <const> = 1 << 20

local function make(dev, unmap)
  return {
    transfer = dev.max_sectors,
    unmap_blocks = unmap and UNMAP_BLOCKS or 0,
    unmap_descriptors = unmap and UNMAP_DESCRIPTORS or 0,
    unmap_granularity = unmap and math.max(1, PAGE // dev.block_size) or 0,
    write_same = math.min(WRITE_SAME_BLOCKS,
                          math.max(1, WRITE_SAME_BYTES // dev.block_size)),
    compare = math.min(COMPARE_BLOCKS, dev.max_sectors),
    atomic = math.min(math.max(1, ATOMIC_BYTES // dev.block_size),
                      dev.max_sectors),
  }
end

local made = {}                     -- devices that are alike share a table

--- The limits of a device: `transfer`, `unmap_blocks`, `unmap_descriptors`,
-- `unmap_granularity`, `write_same`, `compare`, `atomic`.  Those of UNMAP
-- are 0 where there is no UNMAP.
function limits.of(dev)
  local known = dev.limits
  if known then return known end
  local unmap <const> = dev.can.unmap or false
  local key <const> = ("%d %d %s"):format(dev.block_size, dev.max_sectors,
                                          unmap)
  known = made[key] or make(dev, unmap)
  made[key], dev.limits = known, known
  return known
end

-- Space in use is counted in sets of a MiB.
local THRESHOLD_BYTES <const> = 1 << 20

--- The power of two of blocks in a physical block (LOGICAL BLOCKS PER PHYSICAL
-- BLOCK EXPONENT of READ CAPACITY (16)): where writes should begin and end.
function limits.physical_exponent(dev)
  local exponent = 0
  while dev.block_size << exponent < PAGE do exponent = exponent + 1 end
  return exponent
end

--- The power of two of blocks in which space in use is counted (THRESHOLD
-- EXPONENT of page B2), or nil where nobody counts it.
function limits.threshold_exponent(dev)
  if not dev.can.unmap or not dev.store or not dev.store:info().used then
    return nil
  end
  local exponent = 1
  while dev.block_size << exponent < THRESHOLD_BYTES do
    exponent = exponent + 1
  end
  return exponent
end

return limits
