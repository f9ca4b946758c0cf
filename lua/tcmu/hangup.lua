--- What SIGHUP asks for: the handlers' files again, for devices that go on.
---
--- Handlers that have devices are loaded once more in every state; one that was
--- not there before is served from now on.

local catalog = require "tcmu.catalog"
local jobs = require "tcmu.jobs"
local rollout = require "tcmu.rollout"

local ETIMEDOUT <const> = 110

-- Devices that have a handler, or are about to.
local SERVED <const> = { adding = true, serving = true }

local hangup = {}

-- Files that have come, gone or moved; the devices keep theirs.
local function look_again(held, places)
  local paths <const> = catalog.find(places)
  for name in pairs(held.handlers) do held.handlers[name] = nil end
  for name, path in pairs(paths) do held.handlers[name] = path end
end

local function devices_of(held, path)
  local list = {}
  for _, record in pairs(held.by_id) do
    if record.handler == path and SERVED[record.state] and not record.gone then
      list[#list + 1] = record
    end
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

local function paths_of(held)
  local paths, seen = {}, {}
  for _, record in pairs(held.by_id) do
    local path = record.handler
    if path and not seen[path] then
      seen[path] = true
      paths[#paths + 1] = path
    end
  end
  table.sort(paths)
  return paths
end

-- After what the device is being asked already.  One that is not served at the
-- moment has nothing to say.
local function ask(held, record, verb, fields)
  local status, why = jobs.wait(held.limits.recover, function(wake)
    record.jobs:submit(function()
      if record.gone or record.state ~= "serving" then return wake(0) end
      wake(held:ask(record, verb, fields))
    end)
  end)
  return status or -ETIMEDOUT, why
end

-- True if all devices of the handler have gone over.
local function reload(held, path)
  local over, failed = rollout.run(function()
    return devices_of(held, path)
  end, function(record, verb, fields)
    return ask(held, record, verb, fields)
  end)
  for _, failure in ipairs(failed) do
    held.log("error", failure.device.who, ("%s is not reloaded: %s; %s"):format(
             path, failure.why, over == 0 and "the handler in service stays"
             or "this device keeps the handler that it has"))
  end
  if over > 0 then
    held.log("info", "control", ("%s is reloaded: %d devices"):format(path,
             over))
  end
  return failed[1]
end

--- Reloads all handlers that have devices, in a job.
-- @param held    the devices of devices.new()
-- @param places  as for catalog.find
-- @return one line for whoever asks how it went
function hangup.take(held, places)
  look_again(held, places)
  local paths <const> = paths_of(held)
  local first
  for _, path in ipairs(paths) do
    if held.stopping then break end
    first = reload(held, path) or first
  end
  if not first then
    return ("%d handlers reloaded"):format(#paths)
  end
  return ("%s is not reloaded: %s"):format(first.device.who, first.why)
end

return hangup
