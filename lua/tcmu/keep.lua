--- What a device has to remember beyond a restart of the host.
--
-- One small file per device in the host's state directory, with strings and
-- integers by name.  It says for which device it is, so that another one which
-- has got the same name does not inherit anything.  The new file takes the
-- place of the old one when it is complete: a crash leaves one of both.

local core = require "tcmu.core"
local sense = require "tcmu.sense"

local keep = {}

local DEFAULT <const> = "/var/lib/tcmu-lua"
local ROOM <const> = 65536          -- bytes of the file
local ENOENT <const> = 2
local HEAD <const> = "tcmu-lua state 1"
local CANNOT <const> = sense.constant.INTERNAL_TARGET_FAILURE

--- Where the files are: systemd's StateDirectory, or the same place.
function keep.directory() return os.getenv "STATE_DIRECTORY" or DEFAULT end

-- Where the device's file is; nil for a device that is not the kernel's,
-- unless it was given a place.
local function path_of(dev)
  local directory = dev.state_dir
  if not directory then
    if not dev.hba:find("^user_%d+$") then return nil end
    directory = keep.directory()
  end
  return ("%s/%s_%s"):format(directory, dev.hba, (dev.name:gsub("/", "_")))
end

-- For which device it is: one line.
local function owner(dev) return (dev.config:gsub("\n", "\\n")) end

-- The contents of a file, or nil if there is none.  What only cannot be read
-- may say that nobody may have the data.
local function contents(path)
  local text
  local file <close>, why, code = io.open(path, "rb")
  if file then text, why = file:read "a" end
  if text or code == ENOENT then return text end
  error(("what the device has to remember is not known, since %s cannot be "
         .. "read (%s): see to that, and start the device again")
        :format(path, why:gsub("^.*: ", "")), 0)
end

local function load_file(dev)
  local path = path_of(dev)
  local text = path and contents(path)
  if not text then return {} end
  text = text:gsub("%z+$", "")
  local head, whose, body = text:match("^([^\n]*)\n([^\n]*)(\n.*\n)end\n$")
  if head ~= HEAD then
    core.log("warning", dev.hba .. "/" .. dev.name, path .. " is no state of "
             .. "a device that this version knows: what it says is ignored")
    return {}
  end
  if whose ~= owner(dev) then return {} end
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
  local lines = { HEAD, owner(dev) }
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

local function remove(path)
  local ok, why, code = os.remove(path)
  -- A read-only file system refuses what is not there as well.
  if not ok and code ~= ENOENT and contents(path) then error(why, 0) end
  return ok
end

local function replace(dev, path, values)
  local text <const> = text_of(dev, values)
  local buffer = core.buffer(ROOM)
  buffer:put(0, text)
  do
    local store <close> = core.store.file(path .. ".new", "c", ROOM)
    store:write(buffer, 0, true)
  end
  local ok, why = os.rename(path .. ".new", path)
  if not ok then error(why, 0) end
  return ok
end

-- A name that was changed or removed is that of before after a loss of power,
-- unless the directory was synced.
local function store_file(dev, path, values)
  local changed
  if next(values) == nil then
    changed = remove(path)
  else
    changed = replace(dev, path, values)
  end
  dev.kept = values
  if changed then core.sync_directory(path) end
end

--- What is remembered: a table of strings and integers, not to be changed.
function keep.read(dev)
  dev.kept = dev.kept or load_file(dev)
  return dev.kept
end

-- A place among the changes of a device, which come one after the other in the
-- order in which they were asked for; until it is closed.
local function place(dev)
  local queue <const> = dev.keeping or {}
  dev.keeping = queue
  local mine <const> = {}
  table.insert(queue, mine)
  return setmetatable(mine, { __close = function()
    for i, other in ipairs(queue) do
      if other == mine then table.remove(queue, i) break end
    end
    if queue[1] and queue[1].wake then queue[1].wake() end
  end })
end

local function await_turn(dev, mine)
  while dev.keeping[1] ~= mine do
    core.await(function(wake) mine.wake = wake end)
  end
end

--- Remembers these, or forgets those that are false; on stable storage when it
-- returns.  Waits; raises INTERNAL TARGET FAILURE, with the reason in the log,
-- where that cannot be done: then all is remembered as before.
function keep.change(dev, changes)
  local mine <close> = place(dev)
  await_turn(dev, mine)
  local before <const>, values = keep.read(dev), {}
  for name, value in pairs(before) do values[name] = value end
  for name, value in pairs(changes) do values[name] = value or nil end
  local path = path_of(dev)
  if not path then
    dev.kept = values
    return
  end
  local ok, why = pcall(store_file, dev, path, values)
  if not ok then
    -- What is in place, but nobody knows for how long, must not be found.
    if dev.kept ~= before then pcall(store_file, dev, path, before) end
    dev.kept = before
    core.log("error", dev.hba .. "/" .. dev.name, ("what has to survive a "
      .. "restart cannot be written, so the command is refused (%s): make %s "
      .. "a directory with room in it"):format(tostring(why),
      path:match("^(.*)/")))
    error(CANNOT)
  end
end

-- For a program that has a moment, and no loop that could do it.
local function sync_now(directory)
  local uv = require "luv"
  local fd <const> = assert(uv.fs_open(directory, "r", 0))
  local ok, why = uv.fs_fsync(fd)
  uv.fs_close(fd)
  if not ok then error(why, 0) end
end

--- Forgets all of a device that is no more, for good: a FORMAT UNIT that a loss
--- of power brings back would go on with the next device of its name.
-- @param device  { hba = "user_0", name = }
-- @return true, or nil, message
function keep.remove(device)
  local path <const> = path_of(device)
  local ok, why = pcall(function()
    remove(path .. ".new")
    if remove(path) then sync_now(path:match "^(.*)/") end
  end)
  if ok then return true end
  return nil, ("the device is gone, but what it had to remember is not (%s): "
    .. "see to that, and remove %s"):format(tostring(why), path)
end

--- Makes the directory where systemd has not, for control.
-- @return true; or nil and a message if nothing can be kept
function keep.prepare()
  local uv = require "luv"
  local directory <const> = keep.directory()
  local ok, why = uv.fs_mkdir(directory, tonumber("700", 8))
  if not ok and uv.fs_stat(directory) then
    ok, why = uv.fs_access(directory, "W")
  end
  if ok then return true end
  return nil, ("devices can remember nothing beyond a restart (%s), so FORMAT "
    .. "UNIT, SANITIZE and SET IDENTIFYING INFORMATION are refused: make %s a "
    .. "directory that can be written to, and start again"):format(
    why or "not permitted", directory)
end

return keep
