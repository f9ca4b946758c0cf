--- A device on a simulated kernel: `require "tcmu.sim"`.
--
-- The same C objects as in the host serve a ring whose other half is
-- host/sim.c.  No root, no kernel, and virtual time: a handler that sleeps for
-- an hour answers at once.  This is what `tcmu-lua try` and the specs use.
--
--   local dev = sim.device("handlers/ram.lua", { size = 1 << 20 })
--   local r = dev:cmd(scsi.cdb.inquiry { length = 96 })   r.status, r.data
--   local slow = dev:submit(cdb); dev:wait(slow); slow.result
--   dev:close()

local cdb = require "tcmu.cdb"
local core = require "tcmu.core"
local rollout = require "tcmu.rollout"
local sense = require "tcmu.sense"

local sim = {}

local DATA_IN <const> = 4096        -- for commands whose CDB tells no length
local SIZE <const> = 64 << 20
local IDLE_TURNS <const> = 3        -- without anything, and nothing will come

local Host = {}
Host.__index = Host
local Device = {}
Device.__index = Device

--- A process with shards but without threads: { shards =, memory_limit =,
-- no_fast_path =, poll =, poll_limit =, poll_cost =, stay =, third_party = }.
-- Its devices go to the shards in turn.
function sim.host(options)
  options = options or {}
  local host = setmetatable({ shards = {}, devices = {}, reports = {},
                              next_id = 1 }, Host)
  for i = 1, options.shards or 1 do
    host.shards[i] = core.shard {
      memory_limit = options.memory_limit,
      no_fast_path = options.no_fast_path, poll = options.poll,
      poll_limit = options.poll_limit, poll_cost = options.poll_cost,
      stay = options.stay, third_party = options.third_party, beside = host.shards[1],
    }
  end
  return host
end

-- Takes in what kernels and shards have to tell.
local function gather(host)
  for _, shard in ipairs(host.shards) do
    for _, report in ipairs(shard:receive()) do
      host.reports[report.device .. report.verb] = report
    end
  end
  for _, dev in pairs(host.devices) do
    for _, done in ipairs(dev.kernel:collect()) do
      local handle = dev.pending[done.tag]
      dev.pending[done.tag] = nil
      done.sense_bytes = done.sense
      done.sense = done.sense and sense.decode(done.sense)
      handle.result = done
      dev.done[#dev.done + 1] = handle
    end
  end
end

-- One time for all shards: moves it to the next timer of any; false if there
-- is none.
local function advance(host)
  local next_due
  for _, shard in ipairs(host.shards) do
    local due = shard:due()
    if due and (not next_due or due < next_due) then next_due = due end
  end
  if not next_due then return false end
  for _, shard in ipairs(host.shards) do shard:advance(next_due) end
  return true
end

-- Turns the shards until `over()`: real I/O is waited for, virtual time jumps.
-- False if nothing can happen any more.
local function run(host, over)
  local idle = 0
  while true do
    local busy
    for _, shard in ipairs(host.shards) do
      if shard:turn(false) then busy = shard end
    end
    gather(host)
    if over() then return true end
    if busy then
      busy:turn(#host.shards == 1)
    else
      local moved = advance(host)
      gather(host)
      if over() then return true end
      -- What was closed in one turn of the loop is reported in the next.
      idle = not moved and idle + 1 or 0
      if idle > IDLE_TURNS then return false end
    end
  end
end

local function await_report(host, id, verb)
  local key = id .. verb
  run(host, function() return host.reports[key] end)
  local report = host.reports[key]
  host.reports[key] = nil
  return report
end

--- Adds a device.  `path` names a handler's file, or is "=NAME\n" and the
-- handler's source.  Options: size (bytes), block_size, options (the text
-- after "handler/"), write_cache, read_only, cmd_time_out (seconds),
-- max_sectors, name, state_dir, reservations, serial, vendor, product,
-- revision, company_id, and kernel = { ring_size =, data_size =, caps =,
-- version =, block_pages = }.
-- @return the device; or nil, why and errno if its handler refuses it
function Host:device(path, options)
  options = options or {}
  local id = self.next_id
  self.next_id = id + 1
  local kernel = core.raw.sim(options.kernel)
  local dev = setmetatable({
    id = id, host = self, path = path, kernel = kernel, pending = {}, done = {},
    shard = self.shards[(id - 1) % #self.shards + 1],
    block_size = options.block_size or 512,
  }, Device)
  dev.shard:add(id, kernel, {
    handler = path, hba = "sim", name = options.name or ("dev" .. id),
    config = "sim/" .. (options.options or ""),
    options_text = options.options or "",
    size = options.size or SIZE, block_size = dev.block_size,
    max_sectors = options.max_sectors or 2048,
    write_cache = options.write_cache ~= false,
    read_only = options.read_only or false,
    cmd_time_out = options.cmd_time_out or 30,
    serial = options.serial or "", vendor = options.vendor or "",
    product = options.product or "", revision = options.revision or "",
    company_id = options.company_id or "", state_dir = options.state_dir,
    reservations = options.reservations,
  })
  local report = await_report(self, id, "add")
  if report.status ~= 0 then
    kernel:close()
    return nil, report.why, -report.status
  end
  self.devices[id] = dev
  return dev
end

local function in_order(devices)
  local list = {}
  for _, dev in pairs(devices) do list[#list + 1] = dev end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

--- Loads the handlers' files again, as SIGHUP does.
-- @return true; or nil and a sentence for the first device that refuses, which
-- has kept its handler
function Host:reload()
  local by_path, paths = {}, {}
  for _, dev in ipairs(in_order(self.devices)) do
    if not by_path[dev.path] then
      by_path[dev.path] = {}
      paths[#paths + 1] = dev.path
    end
    table.insert(by_path[dev.path], dev)
  end
  local first
  for _, path in ipairs(paths) do
    local _, failed = rollout.run(function()
      return by_path[path]
    end, Device.change)
    first = first or failed[1]
  end
  if first then return nil, first.why end
  return true
end

--- Closes what is left and the shards.
function Host:close()
  for _, dev in ipairs(in_order(self.devices)) do dev:close() end
  for _, shard in ipairs(self.shards) do
    for _ = 1, 1000 do
      if shard:close() then break end
      shard:turn(shard:turn(false))     -- waits only for what will come
    end
    assert(shard:close(), "a Lua state or device is still in use")
  end
end

--- A device in a host of its own.
function sim.device(path, options)
  local host = sim.host(options)
  local dev, why, errno = host:device(path, options)
  if not dev then
    host:close()
    return nil, why, errno
  end
  dev.owns_host = true
  return dev
end

-- Commands ------------------------------------------------------------------

-- How much Data-In an initiator would expect.
local function expected(dev, bytes)
  local layout = cdb.find(bytes)
  if not layout then return DATA_IN end
  if layout.direction ~= "in" then return 0 end
  if layout.allocation then return cdb.get(bytes, layout.allocation) end
  if layout.blocks then
    local blocks = cdb.get(bytes, layout.blocks)
    if blocks == 0 and layout.length == 6 then blocks = 256 end
    return blocks * dev.block_size
  end
  return DATA_IN
end

--- Sends a command and does not wait.  `data` is Data-Out as a string, or a
-- table { data_out =, data_in = length }.
-- @return a handle; its `result` comes with wait() or next_done()
function Device:submit(bytes, data)
  local what
  if type(data) == "table" then
    what = data
  elseif data then
    what = { data_out = data }
  else
    what = { data_in = expected(self, bytes) }
  end
  local tag = self.kernel:submit(bytes, what)
  local handle = { tag = tag, cdb = bytes }
  self.pending[tag] = handle
  return handle
end

--- Lets things happen until `over()` is true, or nothing more can.
function Device:run(over) return run(self.host, over) end

--- Waits for a submitted command.
-- @return { status, data, sense (decoded or nil), sense_bytes, tag }
function Device:wait(handle)
  if not run(self.host, function() return handle.result end) then
    error("this command is never answered: nothing is left that could wake it",
          2)
  end
  for i, done in ipairs(self.done) do
    if done == handle then
      table.remove(self.done, i)
      break
    end
  end
  return handle.result
end

--- Sends a command and waits for its result.
function Device:cmd(bytes, data) return self:wait(self:submit(bytes, data)) end

--- The next command that ends, of those submitted; nil if none can.
function Device:next_done()
  run(self.host, function() return self.done[1] end)
  return table.remove(self.done, 1)
end

--- ABORT TASK for a submitted command; LUN RESET without one.
function Device:abort(handle)
  self.kernel:tmr(handle and 1 or 5, handle and { handle.tag } or nil)
end

--- The kernel's time-out strikes: the initiator has its answer.
function Device:expire(handle) return self.kernel:expire(handle.tag) end

--- Seconds on the device's clock.
function Device:now() return self.shard:now() end

-- Requests of control -------------------------------------------------------

--- What a netlink event would ask: "size", "write_cache", "wwn", "config".
-- @return status (0 or -errno), why
function Device:change(verb, fields)
  self.shard:change(self.id, verb, fields)
  local report = await_report(self.host, self.id, verb)
  return report.status, report.why
end

--- Loads the handlers of the device's host again: see Host:reload().
function Device:reload() return self.host:reload() end

--- Ends the device as a clean stop does ("stop"), or as if the kernel had
-- removed it ("remove").
function Device:close(verb)
  if not self.host.devices[self.id] then return end
  verb = verb or "stop"
  self.shard:change(self.id, verb)
  local report = await_report(self.host, self.id, verb)
  gather(self.host)
  self.shard:turn(false)
  self.host.devices[self.id] = nil
  self.kernel:close()
  if self.owns_host then self.host:close() end
  return report and report.status, report and report.why
end

Device.__close = Device.close
Host.__close = Host.close

return sim
