--- What the kernel's wish to change a device asks of its shard, or why that is
--- refused already here.
--
-- The handler has the last word; but whether the device is exported, and whose
-- its subtype is, only control knows.

local configfs = require "tcmu.configfs"
local files = require "tcmu.files"
local uio = require "tcmu.uio"

local EBUSY <const> = 16
local ENODEV <const> = 19
local EINVAL <const> = 22
local EOPNOTSUPP <const> = 95

local request = {}

-- Why this new size is refused: -errno, message; nil if it is not.
local function bad_size(record, size)
  local why = configfs.unsound(size, record.block_size)
  if why then return -EINVAL, why end
  if size >= record.size or not record.configfs:exported() then return end
  -- `tcmu-lua resize --force` has written the size to `control` before.
  if record.configfs:number("attrib/dev_size") == size then return end
  return -EBUSY, ("shrinking an exported disk from %d to %d bytes loses " ..
                  "data: take its LUNs away first, or type 'tcmu-lua " ..
                  "resize %s %d --force'"):format(
                  record.size, size, record.name, size)
end

--- What the shard of a record is asked for a RECONFIG event; in a job of it.
-- @return verb and fields; or nil, -errno, message
function request.of(record, event)
  if record.state ~= "serving" then
    return nil, -ENODEV, "refused: no handler serves the device now"
  end

  if event.size then
    local status, why = bad_size(record, event.size)
    if status then return nil, status, why end
    return "size", { size = event.size, force = event.size < record.size }
  elseif event.write_cache ~= nil then
    return "write_cache", { write_cache = event.write_cache }
  elseif event.config then
    local config = files.trim(event.config)
    if uio.split_config(config) ~= record.subtype then
      return nil, -EINVAL, ("'%s' is another handler's: delete the device " ..
                            "and create it anew"):format(config)
    end
    return "config", { config = config }
  end
  return nil, -EOPNOTSUPP, "this kernel asks for a change unknown to tcmu-lua"
end

return request
