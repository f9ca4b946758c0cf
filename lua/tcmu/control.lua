--- `tcmu-lua serve`: the order of start and stop, signals, the event loop.
--
-- Runs on luv's default loop in the control thread; the shards have loops and
-- threads of their own.  Nothing here serves a command.

local catalog = require "tcmu.catalog"
local configfs = require "tcmu.configfs"
local core = require "tcmu.core"
local dbus = require "tcmu.dbus"
local deputy = require "tcmu.deputy"
local devices = require "tcmu.devices"
local doctor = require "tcmu.doctor"
local events = require "tcmu.events"
local hangup = require "tcmu.hangup"
local jobs = require "tcmu.jobs"
local keep = require "tcmu.keep"
local luns = require "tcmu.luns"
local processes = require "tcmu.processes"
local recovery = require "tcmu.recovery"
local refresh = require "tcmu.refresh"
local uv = require "luv"

local control = {}

-- Milliseconds that the predecessor's end may take, and between looks.
local TAKES_OVER <const> = 3000
local STEP <const> = 100

local function log(level, text) core.log(level, "control", text) end

-- Another tcmu-lua would answer the same events.  One that was killed just now
-- may take a moment to be gone.
local function served_already(nl)
  local pid
  for _ = 1, TAKES_OVER // STEP do
    pid = nil
    for _, other in ipairs(processes.listeners(nl:group()) or {}) do
      if other.name == "tcmu-lua" then pid = other.pid end
    end
    if not pid then return nil end
    uv.sleep(STEP)
  end
  return pid
end

-- A netlink socket, or nil: it has been said why.
local function connect()
  local sound = true
  for _, finding in ipairs(doctor.kernel()) do
    if not finding.ok then
      log("error", finding.text)
      sound = false
    end
  end
  if not sound then return nil end

  local nl, why = core.netlink.open()
  if not nl then
    log("error", why)
    return nil
  end
  local pid = served_already(nl)
  if pid then
    log("error", ("process %d is a tcmu-lua that serves already: stop it " ..
                  "with 'kill %d'"):format(pid, pid))
    return nil
  end
  return nl
end

-- Calls fn when the descriptor is readable.
local function on_readable(fd, fn)
  local poll = uv.new_poll(fd)
  poll:start("r", jobs.callback(core.log, fn))
end

-- Takes SET_FEATURES back, or every enable hangs from now on; unless
-- another program counts on it.
local function take_back(nl)
  local others = processes.listeners(nl:group())
  if others and #others > 0 then
    log("info", ("%s (process %d) listens too: the kernel goes on waiting " ..
        "for answers"):format(others[1].name, others[1].pid))
    return
  end
  local ok, why = nl:set_features(0)
  if not ok then log("error", why) end
end

local function stopped_text(blocked)
  if blocked == 0 then return "stopped" end
  return ("stopped; %d devices are blocked: initiators get BUSY and give up " ..
          "after about two minutes, so start again before"):format(blocked)
end

-- sd_notify(3); outside systemd nobody wants to know.
local function notify(text)
  local address = os.getenv "NOTIFY_SOCKET"
  if not address then return end
  local ok, why = core.sd_notify(address, text)
  if not ok then log("warning", address .. ": " .. why) end
end

-- sd_watchdog_enabled(3): tells systemd twice an interval that the loop turns.
local function feed_watchdog()
  local interval = tonumber(os.getenv "WATCHDOG_USEC") or 0
  local pid = tonumber(os.getenv "WATCHDOG_PID") or uv.os_getpid()
  if interval == 0 or pid ~= uv.os_getpid() then return end
  uv.new_timer():start(0, interval // 2000, function()
    notify "WATCHDOG=1"
  end)
end

local Server = {}
Server.__index = Server

function Server:begin_stop(name)
  if self.stopping then
    log("warning", name .. " again: leaving at once, with commands in flight")
    pcall(take_back, self.netlink)      -- whatever comes of it
    core.leave(1)
  end
  self.stopping = true
  log("info", name .. ": blocking the devices, finishing what is in flight")
  notify("STOPPING=1")
  local blocked, clean = self.devices:stop()
  take_back(self.netlink)
  events.finish(self.devices)
  self.code = clean and 0 or 1
  log("info", stopped_text(blocked))
  uv.stop()
end

-- Signals that come meanwhile ask for one more.
function Server:reload()
  self.asked_again = self.reloading
  if self.reloading or self.stopping then return end
  self.reloading = true
  log("info", "SIGHUP: loading the handlers again")
  notify(("RELOADING=1\nMONOTONIC_USEC=%d"):format(uv.hrtime() // 1000))
  local text = hangup.take(self.devices, self.places)
  if self.stopping then return end
  notify("READY=1\nSTATUS=" .. text)
  self.reloading = false
  if self.asked_again then self:reload() end
end

function Server:handle_signals()
  local function on(name, fn)
    local signal = uv.new_signal()
    signal:start(name, jobs.callback(core.log, fn))
  end
  on("sigterm", function() self:begin_stop("SIGTERM") end)
  on("sigint", function() self:begin_stop("SIGINT") end)
  on("sighup", function() self:reload() end)
end

function Server:take_events()
  local received, lost = self.netlink:receive()
  if not received then
    log("error", "netlink: " .. lost)
    return
  end
  for _, event in ipairs(received) do
    jobs.start(core.log, events.take, self.devices, event)
  end
  if lost then
    log("warning", "netlink events were lost: looking for those who wait")
    self.looks:submit(function() recovery.answer(self.devices) end)
  end
end

-- Through which ports a device is reached is part of what it answers.
function Server:watch_luns(io)
  luns.start {
    root = configfs.ROOT, io = io, log = core.log,
    changed = function(who) refresh.groups(self.devices, who) end,
  }
end

-- In a job.  Only then are events polled for: none is taken twice.
function Server:start(names, io)
  recovery.answer(self.devices)
  on_readable(self.netlink:fd(), function() self:take_events() end)
  recovery.take_over(self.devices)
  jobs.start(core.log, self.watch_luns, self, io)
  log("info", ("ready: %d devices, handlers: %s"):format(
      self.devices:count("serving"), table.concat(names, " ")))
  notify("READY=1")
  feed_watchdog()
  dbus.serve { handlers = self.devices.handlers, names = names, log = core.log }
end

--- Serves until a signal.  Waits; prints to the log only.
-- @param options  { handlers = directories and files, shards = how many (or
-- nil: one per processor), sole = answer for subtypes that nobody has,
-- memory_limit = bytes of a Lua state (or nil), no_fast_path, poll = "auto",
-- "on" or "off", poll_limit = microseconds, third_party = EXTENDED COPY between
-- devices }
-- @return exit code: 0 after a clean stop, 1 otherwise
function control.serve(options)
  core.raise_nofile()
  local nl <close> = connect()
  if not nl then return 1 end
  local io, why = deputy.start(core.log)
  if not io then
    log("error", why)
    return 1
  end

  local kept, lost = keep.prepare()
  if not kept then log("error", lost) end

  local paths, names = catalog.find(options.handlers)
  local pool = core.shards {
    count = options.shards or core.cpus(),
    memory_limit = options.memory_limit,
    no_fast_path = options.no_fast_path,
    poll = options.poll,
    poll_limit = options.poll_limit,
    third_party = options.third_party,
  }
  local held = devices.new {
    netlink = nl,
    pool = pool,
    log = core.log,
    io = io,
    handlers = paths,
    sole = options.sole,
  }
  local server = setmetatable({
    netlink = nl,
    devices = held,
    places = options.handlers,
    looks = jobs.queue(core.log),       -- for those whose events were lost
  }, Server)

  -- A signal between the two would leave every enable hanging.
  server:handle_signals()
  local waits, refusal = nl:set_features(1)
  if not waits then
    log("error", refusal)
    pool:stop()
    return 1
  end
  on_readable(pool:fd(), function()
    for _, message in ipairs(pool:receive()) do held:message(message) end
  end)
  jobs.start(core.log, server.start, server, names, io)
  uv.run()

  -- A shard that did not finish would be waited for without end.
  if server.code ~= 0 or not pool:stop() then core.leave(1) end
  return 0
end

return control
