--- What the kernel says about TCMU devices, and what it is answered.
--
-- A netlink event of a device of ours gets exactly one reply, once a shard has
-- done what it asks or after a limit; until then the configfs write that caused
-- it waits.  An event of anybody else's device gets none: another program may
-- be about to answer it.

local catalog = require "tcmu.catalog"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local processes = require "tcmu.processes"
local request = require "tcmu.request"
local uio = require "tcmu.uio"

local ENOENT <const> = 2
local EIO <const> = 5
local EBUSY <const> = 16
local ENODEV <const> = 19
local ESHUTDOWN <const> = 108

local STOPPING <const> = "refused: tcmu-lua is stopping"

local events = {}

-- All of these take `held`, the devices of devices.new().

-- Tells the kernel, unless it has been told.
local function tell(held, event, status)
  if not held.unanswered[event] then return end
  held.unanswered[event] = nil
  local ok, message, code = held.netlink:done(event, status)
  -- ENODEV: nobody waits any more, reset_netlink has ended it.
  if not ok and code ~= ENODEV then
    held.log("error", event.device, "answering the kernel: " .. message)
  end
end

local function reply(held, record, event, status, why)
  if status ~= 0 then held.log("error", record.who, why or "refused") end
  if not record.replies then held.unanswered[event] = nil end
  tell(held, event, status)
end

-- Replies with what work() returns, status and message, also if it raises.
local function answer(held, record, event, work)
  local ok, status, why = xpcall(work, debug.traceback)
  if not ok then status, why = -EIO, status end
  reply(held, record, event, status, why)
  return status
end

-- The device is open elsewhere: whoever has it will answer.
local function leave(held, found)
  local holder = processes.holders({ found.uio }, held.roots.proc)[found.uio]
  local who = found.hba .. "/" .. found.name
  if holder then
    held.log("info", who, ("left alone: process %d (%s) has opened it"):format(
             holder.pid, holder.name))
  else
    held.log("warning", who, ("left alone: %s is open, but in no process " ..
             "that can be seen; if its enable hangs, type '%s', delete the " ..
             "device and create it anew"):format(found.uio, processes.FREE))
  end
end

-- Attaches a new device, in a job of the record.
-- @return 0; or -errno, message
local function attach(held, record)
  if held.stopping then return -ESHUTDOWN, STOPPING end
  local status, why = held:attach(record)
  if status == 0 and held.stopping and record.replies then
    -- It could not be blocked, which takes an enable that is over.
    record.state = "adding"
    held:ask(record, "remove", {})
    status, why = -ESHUTDOWN, STOPPING
  end
  if status == 0 then return 0 end

  -- The kernel takes a device whose file is open while enable fails for open
  -- ever after: its shard has to have let go of it.
  local free = held:wait_free(record)
  if free == false and status == -EBUSY then
    record.replies = false
    leave(held, record)
  end
  return status, why
end

-- Does not wait for the device's other jobs: one may hang in configfs for this.
-- Without an event the kernel has said nothing, and waits for nothing.
local function removed(held, record, event)
  record.gone = true
  if record.watch then record.watch:stop() end
  if record.shard and record.state ~= "stopped" then
    record.state = "removing"
    local status, why = held:ask(record, "remove", {})
    if status ~= 0 then held.log("warning", record.who, why or "remove") end
  end
  if event then reply(held, record, event, 0) end
  held.log("info", record.who, "removed")
  held:forget(record)
end

-- The removal of a device that we have not, or not yet.
local function removed_elsewhere(held, found, event)
  local free <const> = held:wait_free(found) ~= false
  local record = held.by_minor[found.minor]
  if record and record.who == found.hba .. "/" .. found.name then
    return removed(held, record, event)
  end
  if free then tell(held, event, 0) end
  held.unanswered[event] = nil
end

-- Whether the kernel has a device still.  One that cannot be looked at, for
-- want of descriptors for instance, is there.
local function is_there(held, record)
  local text, _, code = files.read(("%s/uio%d/name"):format(
    held.roots.uio or uio.ROOT, record.minor))
  if not text then return code ~= ENOENT and code ~= ENODEV end
  local found <const> = uio.parse(text)
  return found and found.hba == record.hba and found.name == record.name
end

-- A device that is being taken over is not stale: that ends first.
local function added(held, found, event)
  local stale = held.by_minor[found.minor]
  if stale and stale.recovering then
    stale.jobs:submit(function()
      if stale.gone then return added(held, found, event) end
      held.unanswered[event] = nil      -- it was enabled already
    end)
    return
  end
  if stale then
    if stale.shard then
      held.pool:send(stale.shard, stale.id, "remove", {})
    end
    held:forget(stale)
  end

  local record = held:remember(found)
  record.jobs:submit(function()
    if held:wait_free(record) == false then
      leave(held, record)
      held.unanswered[event] = nil
      return held:forget(record)
    end
    local supported = record.configfs:number("attrib/nl_reply_supported")
    record.replies = (supported or 1) > 0
    local status = answer(held, record, event, function()
      return attach(held, record)
    end)
    if status == 0 then
      held.log("info", record.who, ("added: %s, %d bytes, shard %d"):format(
               record.config, record.size, record.shard))
      -- Its enable may have been ended meanwhile, by reset_netlink.
      if not is_there(held, record) then removed(held, record) end
    elseif not record.gone then
      held:forget(record)
    end
  end)
end

local function reconfig(held, record, event)
  record.jobs:submit(function()
    local verb, fields
    local status = answer(held, record, event, function()
      local refusal, why
      if held.stopping then return -ESHUTDOWN, STOPPING end
      verb, fields, why = request.of(record, event)
      if not verb then
        refusal, fields = fields, nil
        return refusal, why
      end
      return held:ask(record, verb, fields)
    end)
    if status == 0 then
      record.size = fields.size or record.size
      record.config = fields.config or record.config
      held.log("info", record.who, ("%s is now %s"):format(
               verb, tostring(fields[verb])))
    end
  end)
end

local function name_hanging(held, found)
  for _, wait in ipairs(processes.waiting(held.roots.proc)) do
    if wait.hba == found.hba and wait.name == found.name then
      held.log("warning", found.hba .. "/" .. found.name, ("process %d (%s) " ..
        "hangs in enable, for no program serves '%s'; to free it, type '%s'")
        :format(wait.pid, wait.process, found.subtype, processes.FREE))
    end
  end
end

-- A new device of a subtype that we do not serve.
local function foreign(held, found, event)
  if held.sole then
    held.log("warning", found.hba .. "/" .. found.name,
             ("refused: there is no handler '%s'"):format(found.subtype))
    held.netlink:done(event, -ENOENT)
    return
  end
  jobs.sleep(held.limits.patience)
  name_hanging(held, found)
end

-- Whether somebody has its device open.
local function is_busy(held, event)
  return uio.busy(uio.file(event.minor, held.roots.dev)) ~= false
end

--- Whether it may be us who are to answer an event.
function events.is_ours(held, event)
  local found = uio.parse(event.device)
  if not found then return false end
  local known <const> = held.by_minor[event.minor] ~= nil
  local served <const> = catalog.resolve(held.handlers, found.config) ~= nil
  if event.command == "added" then return served end
  return known or served and event.command == "removed"
end

--- Takes one event of netlink's receive(), in a job.
function events.take(held, event)
  local found = uio.parse(event.device)
  if not found then return end
  found.minor = event.minor
  found.uio = uio.file(event.minor, held.roots.dev)

  if not events.is_ours(held, event) then
    if event.command == "added" then foreign(held, found, event) end
    return
  end
  held.unanswered[event] = true
  local record = held.by_minor[event.minor]
  if event.command == "added" then
    added(held, found, event)
  elseif event.command == "removed" and record then
    removed(held, record, event)
  elseif event.command == "removed" then
    removed_elsewhere(held, found, event)
  else
    reconfig(held, record, event)
  end
end

--- Whether an event is being dealt with that the kernel knows by this number.
function events.in_hand(held, device_id)
  for event in pairs(held.unanswered) do
    if event.device_id == device_id then return true end
  end
  return false
end

--- Lets go of the devices that the kernel has no more without our having heard.
function events.forget_vanished(held)
  local vanished = {}
  for _, record in pairs(held.by_id) do
    if not record.gone and not is_there(held, record) then
      vanished[#vanished + 1] = record
    end
  end
  for _, record in ipairs(vanished) do
    jobs.start(held.log, removed, held, record)
  end
end

--- Answers what nobody will any more: all has stopped.  Not the removal of a
--- device that somebody has open, who will.  Nor an enable whose device a shard
--- may have open: the kernel would take it for open ever after, and the next
--- start answers.
function events.finish(held)
  local late <const> = held.netlink:receive() or {}
  for _, event in ipairs(late) do
    if events.is_ours(held, event) then held.unanswered[event] = true end
  end
  for event in pairs(held.unanswered) do
    local record = held.by_minor[event.minor]
    if event.command == "removed" then
      if record or not is_busy(held, event) then tell(held, event, 0) end
    elseif event.command == "reconfig" or not (record and record.shard) then
      held.log("error", event.device, STOPPING)
      tell(held, event, -ESHUTDOWN)
    end
  end
end

--- Refuses an event that cannot be done any more, if its device is ours.
function events.refuse(held, event, status)
  local found = uio.parse(event.device)
  if held.by_minor[event.minor] or
     (catalog.resolve(held.handlers, found.config) and
      not is_busy(held, event)) then
    held.netlink:done(event, status)
  end
end

return events
