--- TCMU devices as class/uio shows them: /dev/uioN and what stands behind it.
--
-- The kernel names them "tcm-user/HBA/NAME/CONFIG", CONFIG being
-- "SUBTYPE/anything"; without a CONFIG its slash is missing too.  Every other
-- UIO device of the machine is passed over untouched.

local files = require "tcmu.files"

local uio = {}

uio.ROOT = "/sys/class/uio"
uio.DEV = "/dev"

local EBUSY <const> = 16

--- Takes a dev_config apart: "file/path=/x" is "file", "path=/x".
-- @return subtype, the rest (both "" if absent)
function uio.split_config(config)
  local subtype, rest = config:match("^([^/]*)/?(.*)$")
  return subtype, rest
end

--- Takes a UIO name apart.
-- @return { hba = "user_0", name, config, subtype, options_text }, or nil for
-- a name that is not TCMU's
function uio.parse(text)
  local hba, rest = text:match("^tcm%-user/(%d+)/(.+)$")
  if not hba then return nil end

  local name, config = rest:match("^([^/]+)/(.*)$")
  config = files.trim(config or "")     -- echo >dev_config adds a newline
  local subtype, options_text = uio.split_config(config)
  return {
    hba = "user_" .. hba,
    name = name or rest,
    config = config,
    subtype = subtype,
    options_text = options_text,
  }
end

--- The device file of a minor number.
function uio.file(minor, dev)
  return ("%s/uio%d"):format(dev or uio.DEV, minor)
end

--- Every TCMU device there is now, by minor number; each as parse() gives it,
--- with `minor` and `uio` ("/dev/uio0").
-- @param root, dev  class/uio and /dev, for tests
function uio.scan(root, dev)
  root = root or uio.ROOT
  local found = {}
  for _, entry in ipairs(files.list(root)) do
    local minor = entry:match("^uio(%d+)$")
    local text = minor and files.read(("%s/%s/name"):format(root, entry))
    local device = text and uio.parse(text)
    if device then
      device.minor = math.tointeger(minor)
      device.uio = uio.file(device.minor, dev)
      found[#found + 1] = device
    end
  end
  table.sort(found, function(a, b) return a.minor < b.minor end)
  return found
end

--- What must be mapped, in bytes: ring and data area together.
-- @return size, or nil, message
function uio.map_size(minor, root)
  local path = ("%s/uio%d/maps/map0/size"):format(root or uio.ROOT, minor)
  local text, why = files.read(path)
  if not text then return nil, why end
  local size = math.tointeger(tonumber(text))
  if not size then return nil, ("%s: '%s' is no size"):format(path, text) end
  return size
end

--- Whether some process has the device open; UIO lets only one in.
-- @return true or false, or nil, message if that cannot be known
function uio.busy(path)
  local f <close>, message, code = io.open(path, "r")
  if f then return false end
  if code == EBUSY then return true end
  return nil, message
end

return uio
