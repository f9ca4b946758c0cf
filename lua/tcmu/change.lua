--- What control may ask of a device that is open, by verb.
--
-- Each is called as change.VERB(dev, fields) in a task, may wait, and raises
-- the reason to refuse.

local alua = require "tcmu.alua"
local cache = require "tcmu.cache"
local core = require "tcmu.core"
local devs = require "tcmu.dev"
local extent = require "tcmu.extent"
local routes = require "tcmu.routes"
local scsi = require "tcmu.scsi"

local change = {}

local FORGOTTEN <const> = 256 << 20     -- bytes that a handler unmaps at once

-- Makes room in the store for `size` bytes; where the store is as large as the
-- device, what it forgets does not come back when the device grows again.
local function fit(dev, size)
  local store <const> = dev.store
  if not store then return end
  local has <const> = store:size()
  if has < size or has == dev.size then store:resize(size) end
end

-- What a handler without a store keeps from `size` bytes on must not come back
-- either; one that has been told of the size has seen to that.
local function forget(dev, size)
  if dev.store or dev.handler.resize or not dev.handler.unmap then return end
  for offset = size, dev.size - 1, FORGOTTEN do
    dev:unmap(offset, math.min(FORGOTTEN, dev.size - offset))
    core.sleep(0)                   -- a handler's unmap may never wait
  end
end

function change.size(dev, fields)
  local size <const> = fields.size
  if size % dev.block_size ~= 0 then
    error(("%d bytes are no whole number of blocks of %d bytes")
          :format(size, dev.block_size), 0)
  end
  -- What is being written to the blocks that go comes to its end first, and
  -- nothing begins that wants all blocks, for it would be of the old size.
  local _ <close> = size ~= dev.size and
    extent.lock_from(dev.self, math.min(size, dev.size)) or nil
  if size < dev.size and not fields.force then
    error(("shrinking from %d to %d bytes would cut off data: resize with "
           .. "--force if that is meant"):format(dev.size, size), 0)
  end
  if size ~= dev.size and dev.operation then
    error("a SANITIZE or FORMAT UNIT of the old size is under way or has "
          .. "failed: change the size when it is done", 0)
  end
  if size ~= dev.size and dev.kind.resize then dev.kind.resize(dev, size) end
  if size ~= dev.size and dev.handler.resize then
    dev.handler.resize(dev.self, size, dev)
  end
  fit(dev, size)
  forget(dev, size)
  if size == dev.size then return end
  if dev.tokens then require("tcmu.rod").revoke(dev) end
  dev.size = size
  dev.handle():set("size", size)
  dev:set { attention = scsi.CAPACITY_DATA_HAS_CHANGED }
end

-- targetcli restores a saved device by writing what it has already.
function change.config(dev, fields)
  if fields.config == dev.config then return end
  error("the configuration of a running device cannot change: delete the "
        .. "device and create it again", 0)
end

function change.write_cache(dev, fields)
  local on <const> = fields.write_cache
  if on and not dev.can.flush then
    error("this device has no write cache to switch on", 0)
  end
  if on then dev:set { write_cache = true } else cache.off(dev) end
end

function change.time_out(dev, fields)
  dev.handle():set("time_out", fields.cmd_time_out)
end

function change.wwn(dev, fields)
  dev.wwn = devs.wwn(fields)
  devs.tell_designators(dev)
end

-- What port groups there are decides which commands there are.
function change.alua(dev, fields)
  alua.set(dev, fields)
  dev.handle():set("routes", routes.of(dev))
  devs.tell_designators(dev)
end

return change
