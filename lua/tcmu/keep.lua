--- What a device has to remember beyond a restart of the host.
--
-- One small file per device in the host's state directory, with strings and
-- integers by name.  It says for which device it is, so that one which has been
-- deleted and made anew under the same name does not inherit anything.

local core = require "tcmu.core"

local keep = {}

local DEFAULT <const> = "/var/lib/tcmu-lua"
local ROOM <const> = 65536          -- bytes of the file
local HEAD <const> = "tcmu-lua state 1"

-- Where the device's file is; nil for a device that is not the kernel's,
-- unless it was given a place.
local function path_of(dev)
  local directory = dev.state_dir
  if not directory then
    if not dev.hba:find("^user_%d+$") then return nil end
    directory = os.getenv("STATE_DIRECTORY") or DEFAULT
  end
  return ("%s/%s_%s"):format(directory, dev.hba, (dev.name:gsub("/", "_")))
end

local function load_file(dev)
  local path = path_of(dev)
  local file = path and io.open(path, "rb")
  if not file then return {} end
  local text = file:read("a"):gsub("%z+$", "")
  file:close()
  local head, whose, body = text:match("^([^\n]*)\n([^\n]*)(\n.*\n)end\n$")
  if head ~= HEAD or whose ~= dev.config then return {} end
  local values = {}
  for name, number in body:gmatch("\n([%w_]+)=(%-?%d+)") do
    values[name] = math.tointeger(number)
  end
  for name, hex in body:gmatch("\n([%w_]+):(%x*)") do
    values[name] = hex:gsub("%x%x", function(pair)
      return string.char(tonumber(pair, 16))
    end)
  end
  return values
end

local function text_of(dev, values)
  local lines = { HEAD, dev.config }
  for name, value in pairs(values) do
    if math.type(value) == "integer" then
      lines[#lines + 1] = ("%s=%d"):format(name, value)
    else
      local hex = value:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end)
      lines[#lines + 1] = ("%s:%s"):format(name, hex)
    end
  end
  return table.concat(lines, "\n") .. "\nend\n"
end

local function store_file(dev, path, values)
  if next(values) == nil then
    os.remove(path)
    return
  end
  local buffer = core.buffer(ROOM)
  buffer:put(0, text_of(dev, values))
  local ok, why = pcall(function()
    local store <close> = core.store.file(path, "c", ROOM)
    store:write(buffer, 0, true)
  end)
  if not ok and not dev.cannot_keep then
    dev.cannot_keep = true          -- once is enough
    core.log("warning", dev.hba .. "/" .. dev.name,
      ("what the device has to remember is lost with a restart (%s): create "
       .. "the directory"):format(tostring(why)))
  end
end

--- What is remembered: a table of strings and integers, not to be changed.
function keep.read(dev)
  dev.kept = dev.kept or load_file(dev)
  return dev.kept
end

--- Remembers these, or forgets those that are false; on stable storage when it
-- returns.  A directory that is missing costs one line in the log.  Waits.
function keep.change(dev, changes)
  local values = {}
  for name, value in pairs(keep.read(dev)) do values[name] = value end
  for name, value in pairs(changes) do values[name] = value or nil end
  dev.kept = values
  local path = path_of(dev)
  if path then store_file(dev, path, values) end
end

return keep
