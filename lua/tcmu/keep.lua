--- What a device has to remember beyond a restart of the host.
--
-- One small file per device in the host's state directory, a table of strings
-- and numbers in it.  It says for which device it is, so that one which has
-- been deleted and made anew under the same name does not inherit anything.

local core = require "tcmu.core"

local keep = {}

local DEFAULT <const> = "/var/lib/tcmu-lua"
local ROOM <const> = 16384          -- bytes of the file
local HEAD <const> = "tcmu-lua 1"

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

local function identity(dev)
  return ("%s %d %d"):format(dev.config, dev.size, dev.block_size)
end

--- Remembers a table of strings and numbers, on stable storage when it
-- returns.  A directory that is missing costs a line in the log.  Waits.
function keep.write(dev, values)
  local path = path_of(dev)
  if not path then return end
  local lines = { HEAD, identity(dev) }
  for name, value in pairs(values) do
    if math.type(value) == "integer" then
      lines[#lines + 1] = ("%s=%d"):format(name, value)
    else
      lines[#lines + 1] = ("%s:%s"):format(name, (tostring(value):gsub(".",
        function(c) return ("%02x"):format(c:byte()) end)))
    end
  end
  local text = table.concat(lines, "\n") .. "\nend\n"
  local buffer = core.buffer(ROOM)
  buffer:put(0, text)
  local ok, why = pcall(function()
    local store <close> = core.store.file(path, "c", ROOM)
    store:write(buffer, 0, true)
  end)
  if not ok then
    core.log("warning", dev.hba .. "/" .. dev.name, ("a restart would not "
      .. "know what the device is doing (%s): create the directory")
      :format(tostring(why)))
  end
end

--- What was remembered, or nil.
function keep.read(dev)
  local path = path_of(dev)
  local file = path and io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a"):gsub("%z+$", "")
  file:close()
  local body = text:match("^" .. HEAD .. "\n(.*\n)end\n$")
  local whose = body and body:match("^(.-)\n")
  if whose ~= identity(dev) then return nil end
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

--- Forgets it all.
function keep.forget(dev)
  local path = path_of(dev)
  if path then os.remove(path) end
end

return keep
