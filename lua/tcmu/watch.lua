--- Sees when somebody writes to a device's configfs files (inotify).
--
-- targetcli sets the serial only after enabling, and no netlink event tells
-- of it.  Written and read values are the kernel's own; this only says which
-- files to look at again.
--
-- While an rmdir of the device waits for control, whoever looks a directory up
-- below the device hangs.  So what is watched is looked up when the device is
-- new; what comes later, below a directory that is held open for it.

local uv = require "luv"

local watch = {}

local Watch = {}
Watch.__index = Watch

-- open(2): no right to anything but to be looked up below.
local O_PATH <const>, O_DIRECTORY <const> = 1 << 21, 1 << 16

local function add(self, directory, path)
  if self.handles[directory] then self.handles[directory]:close() end
  local handle = uv.new_fs_event()
  local ok = handle:start(path, {}, function(err, file)
    if not err and file then self.changed(directory, file) end
  end)
  if not ok then handle:close() end
  self.handles[directory] = ok and handle or nil
end

--- Calls changed(directory, file) after each write below the device.
-- @param device       of configfs.device()
-- @param directories  such as { "wwn", "attrib" }; missing ones are passed over
-- @param growing      one of them, in which directories come and go: for below()
function watch.start(device, directories, growing, changed)
  local self = setmetatable({ changed = changed, handles = {} }, Watch)
  for _, directory in ipairs(directories) do
    add(self, directory, device.path .. "/" .. directory)
  end
  self.growing = growing
  self.fd = uv.fs_open(device.path .. "/" .. growing, O_PATH | O_DIRECTORY, 0)
  return self
end

--- Looks at "GROWING/NAME" too, also if one that was there before has gone.
function Watch:below(name)
  if not self.fd then return end
  add(self, self.growing .. "/" .. name,
      ("/proc/self/fd/%d/%s"):format(self.fd, name))
end

function Watch:stop()
  for _, handle in pairs(self.handles) do handle:close() end
  self.handles = {}
  if self.fd then uv.fs_close(self.fd) end
  self.fd = nil
end

return watch
