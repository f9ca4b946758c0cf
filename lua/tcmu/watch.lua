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
  local self = setmetatable({ device = device, changed = changed,
                              handles = {} }, Watch)
  for _, directory in ipairs(directories) do self:add(directory) end
  return self
end

--- Looks at one more directory, or at the one that has come in the place of one
-- that was watched.
function Watch:add(directory)
  if self.stopped then return end
  if self.handles[directory] then self.handles[directory]:close() end
  local handle = uv.new_fs_event()
  local path = self.device.path .. "/" .. directory
  local ok = handle:start(path, {}, function(err, file)
    if not err and file then self.changed(directory, file) end
  end)
  if not ok then handle:close() end
  self.handles[directory] = ok and handle or nil
end

function Watch:stop()
  self.stopped = true
  for _, handle in pairs(self.handles) do handle:close() end
  self.handles = {}
end

return watch
