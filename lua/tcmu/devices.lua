--- The devices that this process serves: which shard has which, and the way
--- there and back.  What the kernel says about them is in tcmu.events.
--
-- The work is a shard's, which answers every message once.  What is done to one
-- device is done by jobs, one after the other; only its removal does not wait.
--
--              add answered 0               stop answered
--    adding ------------------> serving ------------------> stopped
--       |                          | ring broken
--       | refused at start-up      v
--       +--------> refused      parked        removed: forgotten, from any

local catalog = require "tcmu.catalog"
local configfs = require "tcmu.configfs"
local jobs = require "tcmu.jobs"
local refresh = require "tcmu.refresh"
local uio = require "tcmu.uio"

local ENOENT <const> = 2
local EBUSY <const> = 16
local ENODEV <const> = 19
local EINVAL <const> = 22
local ETIMEDOUT <const> = 110

-- Milliseconds: how long a shard may take to answer, a device to be recovered,
-- all of them to stop; how long to wait before somebody else's enable is said to
-- hang, or his device to be his; and for how long the disk may be at work yet
-- for a process that was killed.
local LIMITS <const> = {
  answer = 25000,
  recover = 40000,
  stop = 30000,
  patience = 5000,
  in_use = 20000,
}

local STEP <const> = 50         -- between looks at what is not ready yet
local LOOKS <const> = 20        -- at a device whose enable is about to end

local devices = {}

local Devices = {}
Devices.__index = Devices

--- @param of  { netlink, pool (core.shards), log = function(level, who, text),
-- io = for configfs, handlers = { [name] = path }, sole, limits as LIMITS, and
-- for tests roots = { configfs, uio, dev, proc, parameters } }
function devices.new(of)
  return setmetatable({
    netlink = of.netlink,
    pool = of.pool,
    log = of.log,
    io = of.io,
    handlers = of.handlers,
    sole = of.sole,
    limits = setmetatable(of.limits or {}, { __index = LIMITS }),
    roots = of.roots or {},
    by_minor = {},
    by_id = {},
    unanswered = {},            -- events of ours: { [event] = true }
    last_id = 0,
    load = {},                  -- devices per shard
  }, Devices)
end

--- The configfs directory of a device.
function Devices:directory(hba, name)
  return configfs.device(hba, name, self.roots.configfs, self.io)
end

--- Makes a record of a device that uio.parse() has found.
function Devices:remember(found)
  self.last_id = self.last_id + 1
  local record = setmetatable({
    id = self.last_id,          -- for the shards; never used again
    who = found.hba .. "/" .. found.name,
    configfs = self:directory(found.hba, found.name),
    state = "adding",
    replies = true,             -- the kernel waits for our answers
    jobs = jobs.queue(self.log),
    asked = {},
    stale = {},
  }, { __index = found })
  self.by_minor[record.minor] = record
  self.by_id[record.id] = record
  return record
end

--- The kernel's device is gone, or never was ours; again does nothing.
function Devices:forget(record)
  record.gone = true
  if not self.by_id[record.id] then return end
  if record.watch then record.watch:stop() end
  if record.shard then
    self.load[record.shard] = self.load[record.shard] - 1
  end
  self.by_id[record.id] = nil
  if self.by_minor[record.minor] == record then
    self.by_minor[record.minor] = nil
  end
end

--- How many devices are in a state.
function Devices:count(state)
  local n = 0
  for _, record in pairs(self.by_id) do
    if record.state == state then n = n + 1 end
  end
  return n
end

--- Messages to and from shards -----------------------------------------------

local function least_loaded(self)
  local best
  for shard = 1, self.pool:count() do
    self.load[shard] = self.load[shard] or 0
    if not best or self.load[shard] < self.load[best] then best = shard end
  end
  return best
end

--- Sends a message and waits, in a job, for its answer.
-- @return 0; or -errno, message; -ETIMEDOUT if there is none
function Devices:ask(record, verb, fields)
  local status, why = jobs.wait(self.limits.answer, function(wake)
    record.asked[verb] = record.asked[verb] or {}
    table.insert(record.asked[verb], wake)
    self.pool:send(record.shard, record.id, verb, fields)
  end)
  if status then return status, why end
  return -ETIMEDOUT, ("its shard did not '%s': %s"):format(verb, why)
end

--- Takes one message of a shard.
function Devices:message(message)
  local record = self.by_id[message.device]
  if not record then return end

  if message.verb == "parked" then
    record.state = "parked"
    self.log("error", record.who, ("%s: the device is parked; restart " ..
             "'tcmu-lua serve', which empties its ring"):format(message.why))
    return
  end
  if message.verb == "set_port_groups" then
    refresh.set_groups(self, record, message.why)
    return
  end
  local wake = table.remove(record.asked[message.verb] or {}, 1)
  if wake then wake(message.status, message.why) end
end

--- Attaching -----------------------------------------------------------------

-- What the shard must know; nil, message if the device cannot be served.
function Devices:describe(record)
  local facts, why = record.configfs:facts()
  if not facts then return nil, why end
  why = configfs.unsound(facts.size, facts.block_size)
  if why then return nil, why end
  local map_size, message = uio.map_size(record.minor, self.roots.uio)
  if not map_size then return nil, message end

  local fields = record.configfs:wwn()
  for key, value in pairs(facts) do fields[key] = value end
  local groups = refresh.read_groups(record)
  fields.groups, fields.port = groups.groups, groups.port
  fields.handler, fields.options_text =
    catalog.resolve(self.handlers, record.config)
  fields.name = record.name
  fields.hba = record.hba
  fields.config = record.config
  fields.uio = record.uio
  fields.map_size = map_size
  return fields
end

local function want_aborts(self, record)
  local ok, why, code = record.configfs:write("attrib/tmr_notification", 1)
  if not ok and code ~= ENOENT then
    self.log("warning", record.who, "aborts will not reach the handler: " ..
             why)
  end
end

--- Gives the device to a shard, in a job; not one that is gone meanwhile.
-- @param patience  milliseconds, or nil: what the handler uses may be in use
-- for so long by somebody else
-- @return 0; or -errno, message
function Devices:attach(record, patience)
  -- First the watch, then the values: a write between them is seen twice.
  refresh.watch(self, record)
  local fields, why = self:describe(record)
  if fields then want_aborts(self, record) end
  if record.gone then
    record.watch:stop()         -- begun after its removal had stopped it
    return -ENODEV, "removed before it was served"
  end
  if not fields then return -EINVAL, why end

  record.handler = fields.handler
  record.size = fields.size
  record.block_size = fields.block_size
  record.shard = least_loaded(self)
  self.load[record.shard] = self.load[record.shard] + 1
  local status, message = self:ask(record, "add", fields)
  for _ = STEP, patience or 0, STEP do
    if status ~= -EBUSY then break end
    jobs.sleep(STEP)
    if record.gone or self.stopping then break end
    status, message = self:ask(record, "add", fields)
  end
  if status == 0 then
    record.state = "serving"
  elseif status == -ETIMEDOUT then
    self.pool:send(record.shard, record.id, "remove", {})
  end
  return status, message
end

--- Start and stop ------------------------------------------------------------

--- Waits, in a job, until nobody has /dev/uioN open: a process that was killed
--- lets go a moment later, as does a shard of ours whose handler has refused.
-- @return true; false if somebody keeps it; nil, message if it cannot be opened
function Devices:wait_free(found)
  for _ = 1, self.limits.patience // STEP do
    local busy, why = uio.busy(found.uio)
    if busy == nil then return nil, why end
    if not busy then return true end
    jobs.sleep(STEP)
  end
  return false
end

-- In a job.  True if the device is one to attach, its ring now empty.
local function prepare(self, record)
  local ok, why, code = record.configfs:block()
  if not ok and code == EINVAL then
    -- Not configured: its ADDED has yet to be answered and comes as an event.
    self:forget(record)
    return false
  end
  record.blocked = ok
  if ok then ok, why = record.configfs:reset_ring() end
  return ok, why
end

-- In a job of the record.  While stopping, it is left blocked.  The disk may be
-- at work yet for a process that was killed: its file is free afterwards.
local function recover(self, record)
  local ready, why = prepare(self, record)
  if record.gone or self.stopping then return end
  if ready then
    local status, message = self:attach(record, self.limits.in_use)
    ready, why = status == 0, message
  end
  if ready and not self.stopping then
    ready, why = record.configfs:unblock()
    record.blocked = not ready
  end
  if ready then
    self.log("info", record.who, "taken over from before")
  elseif not record.gone then
    record.state = record.state == "serving" and "serving" or "refused"
    self.log("error", record.who, ("%s; left blocked, initiators get BUSY: " ..
             "cure it and start again, or type 'tcmu-lua delete %s'"):format(
             why, record.name))
  end
end

--- Takes over a device that was there before us: empties its ring, attaches
--- and lets commands in.  One that is open elsewhere is not touched.  One that
--- its handler refuses stays blocked: BUSY keeps the initiators trying, where
--- a ring without a reader would cost them a time-out per command.
--- In a job.
-- @param found  of uio.scan()
function Devices:recover(found)
  if not catalog.resolve(self.handlers, found.config) then return end
  local who = found.hba .. "/" .. found.name
  local free, trouble = self:wait_free(found)
  if not free then
    self.log("warning", who, trouble or found.uio .. " is open in another " ..
             "process: left alone; 'tcmu-lua doctor' names it")
    return
  end

  -- Its enable has come as an event meanwhile.
  if self.by_minor[found.minor] then return end

  local record = self:remember(found)
  record.recovering = true
  jobs.wait(self.limits.recover, function(wake)
    record.jobs:submit(function()
      recover(self, record)
      record.recovering = false
      wake(true)
    end)
  end)
end

-- EINVAL: its enable has been answered, but is not over yet.
local function block(record)
  for _ = 1, LOOKS do
    local ok, _, code = record.configfs:block()
    record.blocked = ok
    if code ~= EINVAL or record.gone then return end
    jobs.sleep(STEP)
  end
end

-- In a job of the record.  True if nothing of the device is in flight now.
local function stop_one(self, record)
  local idle = record.state ~= "serving" and record.state ~= "parked"
  local status, why = 0, nil
  if not idle then
    block(record)               -- again: it may have been let in meanwhile
    if record.gone then return true end
    status, why = self:ask(record, "stop", {})
  end
  if record.gone then return true end
  if status ~= 0 then self.log("error", record.who, why or "did not stop") end
  record.state = "stopped"
  return status == 0
end

--- Blocks all devices, then has the shards finish what is in flight; in a job.
-- @return how many devices are blocked now, and whether all came to an end
function Devices:stop()
  self.stopping = true
  local all = {}
  for _, record in pairs(self.by_id) do all[#all + 1] = record end
  for _, record in ipairs(all) do
    if record.watch then record.watch:stop() end
    -- A new one that no shard has may yet turn out to be somebody else's.
    if not record.gone and (record.shard or record.state ~= "adding") then
      record.blocked = record.configfs:block()
    end
  end

  local ended = jobs.wait(self.limits.stop, function(wake)
    local left, clean = #all, true
    if left == 0 then wake(true) end
    for _, record in ipairs(all) do
      record.jobs:submit(function()
        clean = stop_one(self, record) and clean
        left = left - 1
        if left == 0 then wake(clean) end
      end)
    end
  end)
  local blocked = 0
  for _, record in pairs(self.by_id) do
    if record.blocked then blocked = blocked + 1 end
  end
  return blocked, ended == true
end

return devices
