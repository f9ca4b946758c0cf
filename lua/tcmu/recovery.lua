--- What a process that died has left: configfs writes that still wait for its
--- answer, and devices with a ring that nobody reads.
--
-- An event sent before we joined the group never reaches us, but /proc shows
-- which device waits for what, and configfs by which number netlink knows it.
-- So each is treated as if its event had come now.  Only a hanging rmdir
-- cannot be told apart that way; it takes the module-wide reset, and only when
-- nobody else listens who might yet answer.

local events = require "tcmu.events"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local processes = require "tcmu.processes"
local uio = require "tcmu.uio"

local recovery = {}

local PARAMETERS <const> = "/sys/module/target_core_user/parameters"

local EAGAIN <const> = 11

-- When all counts as ready although a device still hangs; milliseconds.
local READY_LIMIT <const> = 50000

-- How long new waits are refused after a reset; milliseconds.
local RESET <const> = 500

-- Ends every netlink wait of the module with EINTR, whoever's it is, in a job.
-- A shell then writes again: meanwhile that is refused, with EAGAIN.  Events
-- received until then need no answer any more.
-- @return true, or nil, message
local function reset_netlink(held)
  local root = held.roots.parameters or PARAMETERS
  local ok, why = files.write(root .. "/block_netlink", "1")
  if not ok then return nil, why end
  ok, why = files.write(root .. "/reset_netlink", "1")
  jobs.sleep(RESET)
  held.netlink:receive()
  local open, message = files.write(root .. "/block_netlink", "0")
  if not open then return nil, message end
  return ok, why
end

-- The uio device of a configfs directory, if it has got one.
local function by_name(found, hba, name)
  for _, device in ipairs(found) do
    if device.hba == hba and device.name == name then return device end
  end
end

local function text_of(device)
  return ("tcm-user/%s/%s/%s"):format(device.hba:match("%d+$"), device.name,
                                      device.config)
end

--- The events of which `waiting` tells and that are not among `received`.
-- @param held     devices of devices.new()
-- @param waiting  of processes.waiting(), taken before the last receive()
-- @return list of events as netlink's receive() gives them
function recovery.orphans(held, waiting, received)
  local seen = {}
  for _, event in ipairs(received) do
    local device = uio.parse(event.device)
    if device then seen[device.hba .. "/" .. device.name] = true end
  end

  local orphans = {}
  local present = uio.scan(held.roots.uio, held.roots.dev)
  for _, wait in ipairs(waiting) do
    local key = wait.hba and wait.hba .. "/" .. wait.name
    local device = key and not seen[key] and
      by_name(present, wait.hba, wait.name)
    local id = device and held:directory(wait.hba, wait.name):id()
    if id then
      seen[key] = true
      orphans[#orphans + 1] = {
        command = wait.command,
        device = text_of(device),
        minor = device.minor,
        device_id = id,
      }
    end
  end
  return orphans
end

-- A waiting rmdir beyond those whose events we have: which is whose cannot be
-- told, so they are counted.
local function left_rmdir(held, waiting, received)
  local ours = 0
  local function count(event)
    if event.command == "removed" then ours = ours + 1 end
  end
  for _, event in ipairs(received) do
    if events.is_ours(held, event) then count(event) end
  end
  for event in pairs(held.unanswered) do count(event) end

  for _, wait in ipairs(waiting) do
    if wait.command == "removed" then
      if ours == 0 then return wait end
      ours = ours - 1
    end
  end
end

-- An rmdir that waits for a program that is no more.  False if all is left as
-- it was, because somebody else may answer.
local function free_rmdir(held, wait)
  local others = processes.listeners(held.netlink:group(), held.roots.proc)
  if not others or #others > 0 then
    held.log("warning", "control", ("process %d (%s) hangs in rmdir, and %s " ..
      "may yet answer; if not, type '%s'"):format(wait.pid, wait.process,
      others and others[1].name or "another program", processes.FREE))
    return false
  end

  held.log("warning", "control", ("process %d (%s) hangs in rmdir for a " ..
    "program that answers no more: freeing it and all that wait like it")
    :format(wait.pid, wait.process))
  local ok, why = reset_netlink(held)
  if not ok then held.log("error", "control", why) end
  return true
end

--- Gives every waiting configfs write the answer that it has been left
--- without, and takes the events that have come meanwhile.  At the start, and
--- when events have been lost; what is in hand goes on.  In a job, and not in
--- two at a time.
-- @param held  devices of devices.new()
function recovery.answer(held)
  local waiting = processes.waiting(held.roots.proc)
  local received = held.netlink:receive() or {}
  local rmdir = left_rmdir(held, waiting, received)
  if rmdir and free_rmdir(held, rmdir) then
    return events.forget_vanished(held)
  end

  for _, event in ipairs(recovery.orphans(held, waiting, received)) do
    if events.in_hand(held, event.device_id) then
      held.log("debug", event.device, event.command .. " is in hand")
    elseif event.command == "reconfig" then
      -- What it was to become is lost with the event: have it tried again.
      events.refuse(held, event, -EAGAIN)
    else
      jobs.start(held.log, events.take, held, event)
    end
  end
  for _, event in ipairs(received) do
    jobs.start(held.log, events.take, held, event)
  end
  events.forget_vanished(held)
end

--- Takes over every device of ours that there is, all at a time; in a job.
function recovery.take_over(held)
  jobs.wait(READY_LIMIT, function(wake)
    local left = 1
    local function one_less()
      left = left - 1
      if left == 0 then wake() end
    end
    for _, found in ipairs(uio.scan(held.roots.uio, held.roots.dev)) do
      if not held.by_minor[found.minor] then
        left = left + 1
        jobs.start(held.log, function()
          held:recover(found)
          one_less()
        end)
      end
    end
    one_less()
  end)
end

return recovery
