--- Backstores of LIO by way of configfs: TCMU devices and the kernel's own.

local file = require "spec.vm.guest.file"
local undo = require "spec.vm.guest.undo"

local device = {}

local CORE <const> = "/sys/kernel/config/target/core"

local methods = {}
methods.__index = methods

local count = 0

--- What a file below the device's folder says ("info", "attrib/dev_size").
function methods:get(name)
  return file.read_line(self.dir .. "/" .. name)
end

--- Writes to a file below the device's folder.  Returns true, or nil, a
-- message and the name of the errno; "stuck" after `limit` seconds (60).
function methods:try_set(name, value, limit)
  return file.try_write(self.dir .. "/" .. name, value, limit)
end

--- The same, but raises.
function methods:set(name, value, limit)
  local ok, message = self:try_set(name, value, limit)
  if not ok then error(message, 2) end
end

--- Enables it, which waits for the answer of the device's daemon.  As try_set.
function methods:try_enable(limit) return self:try_set("enable", 1, limit) end

--- The same, but raises.
function methods:enable(limit) self:set("enable", 1, limit) end

--- The name of its UIO device, "uio0"; nil while it has none.
function methods:uio()
  local name = ("tcm-user/%s/%s"):format(self.hba:match "%d+$", self.name)

  for _, uio in ipairs(file.names "/sys/class/uio") do
    local ok, text = pcall(file.read_line, "/sys/class/uio/" .. uio .. "/name")
    if ok and (text == name or text:sub(1, #name + 1) == name .. "/") then
      return uio, text
    end
  end
end

--- Takes the device away; it must have no LUN any more.
function methods:remove() return self.undo() end

--- Makes a backstore, not enabled.  `t.hba` is its kind and number ("user_0",
-- "fileio_0"), `t.name` its name (a new one), `t.control` a list of "key=value"
-- written to its control file one by one.  Returns an object with dir, name,
-- hba and the methods above.
function device.backstore(t)
  count = count + 1
  local d = setmetatable({}, methods)
  local hba = CORE .. "/" .. t.hba

  d.hba, d.name = t.hba, t.name or "t" .. count
  d.dir = hba .. "/" .. d.name
  file.mkdir(d.dir)
  d.undo = undo.defer(function()
    file.rmdir(d.dir)
    pcall(file.rmdir, hba)              -- unless others live there
  end)
  for _, setting in ipairs(t.control or {}) do d:set("control", setting) end
  return d
end

--- Makes a TCMU device.  `t` may have:
--   config   dev_config, "handler/option=value;..."
--   size     in bytes
--   name     a new one if there is none
--   hba      "user_0"
--   control  list of "key=value" for the control file
--   attrib   map of attributes, set before it is enabled
--   serial   the unit serial number; a new one unless it is false
--   enable   false for a device that is not enabled yet
function device.device(t)
  local control = { "dev_config=" .. t.config, ("dev_size=%d"):format(t.size) }

  table.move(t.control or {}, 1, #(t.control or {}), 3, control)
  local d = device.backstore { hba = t.hba or "user_0", name = t.name,
    control = control }
  d.config, d.size = t.config, t.size

  for name, value in pairs(t.attrib or {}) do
    d:set("attrib/" .. name, value)
  end
  if t.serial ~= false then
    d:set("wwn/vpd_unit_serial",
      t.serial or file.read_line "/proc/sys/kernel/random/uuid")
  end
  if t.enable ~= false then d:enable() end
  return d
end

return device
