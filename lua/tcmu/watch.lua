--- Sees when somebody writes to a device's configfs files (inotify).
--
-- targetcli sets the serial only after enabling, and no netlink event tells
-- of it.  Written and read values are the kernel's own; this only says which
-- files to look at again.

local uv = require "luv"

local watch = {}

local Watch = {}
Watch.__index = Watch

--- Calls changed(directory, file) after each write below the device.
-- @param device       of configfs.device()
-- @param directories  such as { "wwn", "attrib" }; missing ones are passed over
function watch.start(device, directories, changed)
  local self = setmetatable({ handles = {} }, Watch)
  for _, directory in ipairs(directories) do
    local handle = uv.new_fs_event()
    local path = device.path .. "/" .. directory
    local ok = handle:start(path, {}, function(err, file)
      if not err and file then changed(directory, file) end
    end)
    if ok then
      self.handles[#self.handles + 1] = handle
    else
      handle:close()
    end
  end
  return self
end

function Watch:stop()
  for _, handle in ipairs(self.handles) do handle:close() end
  self.handles = {}
end

return watch
