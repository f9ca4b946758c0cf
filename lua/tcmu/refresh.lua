--- Keeps the shards up to date with what is written to configfs while a device
--- is served, and writes there what an initiator wants.
--
-- Names, time-outs and target port groups change without a netlink event;
-- tcmu.watch and tcmu.luns tell that something has changed, here it is read
-- again, in a job of the device.

local jobs = require "tcmu.jobs"
local port_groups = require "tcmu.port_groups"
local watch = require "tcmu.watch"

local EIO <const> = 5

local refresh = {}

-- All of these take `held`, the devices of devices.new().

-- Tells the shard what read() returns.  Several writes in a row make one job.
local function tell(held, record, verb, read)
  if record.stale[verb] then return end
  record.stale[verb] = true
  record.jobs:submit(function()
    record.stale[verb] = nil
    local fields = not record.gone and read()
    if not fields or record.gone or record.state ~= "serving" then return end
    local status, why = held:ask(record, verb, fields)
    if status ~= 0 then held.log("warning", record.who, why or verb) end
  end)
end

--- The target port groups for a message to the shard, and whether they are
--- other than it knows; in a job.
function refresh.read_groups(record)
  local found = port_groups.read(record.configfs)
  local text = (found.groups or "") .. "|" .. (found.port or "")
  local new <const> = text ~= record.port_groups
  record.port_groups = text
  return found, new
end

--- Has the target port groups of a device read again.
-- @param who  "user_0/NAME"; it may be nobody we know
function refresh.groups(held, who)
  for _, record in pairs(held.by_id) do
    if record.who == who then
      tell(held, record, "alua", function()
        local found, new = refresh.read_groups(record)
        return new and found
      end)
    end
  end
end

-- Also of the devices that follow this one.
local function all_groups(held, record)
  refresh.groups(held, record.who)
  record.jobs:submit(function()
    if record.gone then return end
    for _, who in ipairs(port_groups.peers(record.configfs)) do
      refresh.groups(held, who)
    end
  end)
end

--- Writes what SET TARGET PORT GROUPS wants, "ID STATE;...", and has the shard
--- hear how that went.
function refresh.set_groups(held, record, text)
  record.jobs:submit(function()
    local status, why = 0, nil
    for id, state in text:gmatch("(%d+) (%d+)") do
      local ok, message, code = port_groups.set(record.configfs, tonumber(id),
                                                tonumber(state))
      if not ok then
        status, why = code or EIO, message
        break
      end
    end
    local fields = refresh.read_groups(record)
    fields.set, fields.why = status, why
    held:ask(record, "alua", fields)
  end)
end

--- Watches a device's files from now on; in a job.
function refresh.watch(held, record)
  local device <const> = record.configfs
  local function changed(directory, file)
    if directory == "wwn" then
      tell(held, record, "wwn", function() return device:wwn() end)
    elseif directory == "alua" then
      record.watch:below(file)
      refresh.groups(held, record.who)
    elseif directory:find("^alua/") then
      all_groups(held, record)
    elseif file == "alua_support" then
      refresh.groups(held, record.who)
    elseif file == "cmd_time_out" then
      tell(held, record, "time_out", function()
        local seconds = device:number("attrib/cmd_time_out")
        return seconds and { cmd_time_out = seconds }
      end)
    end
  end
  record.watch = watch.start(device, { "wwn", "attrib", "alua" }, "alua",
                             jobs.callback(held.log, changed))
  for _, group in ipairs(port_groups.names(device)) do
    record.watch:below(group)
  end
end

return refresh
