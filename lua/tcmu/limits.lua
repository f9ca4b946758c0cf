--- What a disk allows in one command.
--
-- The one table behind page B0 (Block Limits), READ and WRITE, UNMAP and WRITE
-- SAME: what is advertised is what is enforced.  All lengths in blocks.

local limits = {}

-- UNMAP: half a GiB of 512-byte blocks, and as many descriptors as fit into
-- one page of Data-Out together with the header.
local UNMAP_BLOCKS <const> = 1 << 20
local UNMAP_DESCRIPTORS <const> = (4096 - 8) // 16
local UNMAP_GRANULE <const> = 4096      -- bytes: a page, a file system block

-- WRITE SAME may have to write what it says, so it ends within a sane time.
local WRITE_SAME_BYTES <const> = 64 << 20

--- The limits of a device: `transfer`, `unmap_blocks`, `unmap_descriptors`,
-- `unmap_granularity`, `write_same`.  The unmap fields are 0 where there is no
-- UNMAP.
function limits.of(dev)
  local unmap <const> = dev.can.unmap
  return {
    transfer = dev.max_sectors,
    unmap_blocks = unmap and UNMAP_BLOCKS or 0,
    unmap_descriptors = unmap and UNMAP_DESCRIPTORS or 0,
    unmap_granularity = unmap and math.max(1, UNMAP_GRANULE // dev.block_size)
                        or 0,
    write_same = math.max(1, WRITE_SAME_BYTES // dev.block_size),
  }
end

return limits
