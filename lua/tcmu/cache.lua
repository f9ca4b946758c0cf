--- Out of the write cache: what was answered GOOD from it has to be on stable
--- storage before an initiator stops to ask for that.
--
-- What a write leaves in the cache may come too late for a flush that begins
-- before it has ended.  Therefore the whole device is held: what has begun ends
-- first, what comes waits.

local extent = require "tcmu.extent"

local cache = {}

local function hold(dev) return extent.lock_from(dev.self, 0, true) end

--- All that was written is on stable storage.  Waits; raises.
function cache.flush(dev)
  local _ <close> = hold(dev)
  dev:flush(0, dev.size)
end

--- Switches the write cache off, unless it cannot be flushed.  Waits; raises.
-- One that is off was flushed, and is not worth a wait for all that runs.
function cache.off(dev)
  if not dev.write_cache then return end
  local _ <close> = hold(dev)
  if dev.write_cache then dev:flush(0, dev.size) end
  dev:set { write_cache = false }
end

return cache
