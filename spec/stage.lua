--- The control thread on a stage: real policy, real files, a real event loop.
-- A spec plays the kernel's end of netlink and the shards.
local devices = require "tcmu.devices"
local events = require "tcmu.events"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local tree = require "spec.tree"
local uv = require "luv"
local assert = require "luassert"

local EBUSY <const>, EINVAL <const> = 16, 22
local OPEN <const> = io.open

local stage = {}
stage.__index = stage

--- Sets one up: `held` as control has it, below the directory `root`, with what
-- the kernel was answered (`replies`: { event, status }) and what shards were
-- told (`sent`).  `answers[verb]` is what the shards say, { status, why, times =
-- how often if not always }, or false for silence.  The enable of devices in
-- `enabling` is not over.
function stage.make()
  local s = setmetatable({
    root = tree.make { ["proc/net/netlink"] = "" },
    replies = {}, sent = {}, answers = {}, lines = {}, enabling = {},
  }, stage)

  s.pool = { count = function() return 2 end }
  function s.pool.send(_, shard, device, verb, fields)
    s.sent[#s.sent + 1] = { shard = shard, device = device, verb = verb,
                            fields = fields }
    local with = s.answers[verb]
    if with == false then return end
    if with and with.times then
      with.times = with.times - 1
      if with.times == 0 then s.answers[verb] = nil end
    end
    s.held:message { device = device, verb = verb,
                     status = with and with[1] or 0, why = with and with[2] }
  end

  s.held = devices.new {
    netlink = {
      done = function(_, e, status)
        s.replies[#s.replies + 1] = { e, status }
        return true
      end,
      receive = function() return {} end,
      group = function() return 9 end,
    },
    pool = s.pool,
    log = function(level, who, text)
      s.lines[#s.lines + 1] = ("%s %s: %s"):format(level, who, text)
    end,
    io = s:kernel_files(),
    handlers = { ram = "/handlers/ram.lua", file = "/handlers/file.lua" },
    limits = { answer = 60, patience = 60, stop = 200 },
    roots = {
      configfs = s.root, uio = s.root .. "/uio", dev = s.root .. "/dev",
      proc = s.root .. "/proc", parameters = s.root .. "/parameters",
    },
  }
  return s
end

-- Real files, but that the kernel refuses an action before the enable is over.
function stage:kernel_files()
  local function write(path, text)
    local name = path:match "/([^/]+)/action/"
    if name and self.enabling[name] then
      return nil, path .. ": Invalid argument", EINVAL
    end
    return files.write(path, text)
  end
  return setmetatable({ write = write }, { __index = files })
end

--- Somebody has /dev/uioN open for the next so many looks; -1: for ever.
function stage:hold(minor, looks)
  local path <const> = ("%s/dev/uio%d"):format(self.root, minor)
  rawset(io, "open", function(name, ...)
    if name ~= path or looks == 0 then return OPEN(name, ...) end
    looks = looks - 1
    return nil, path .. ": Device or resource busy", EBUSY
  end)
end

function stage:clean()
  rawset(io, "open", OPEN)
  for _, record in pairs(self.held.by_id) do self.held:forget(record) end
  uv.run()
  tree.remove(self.root)
end

--- Lets time pass until fn() is true; fails after 20 s.
function stage.settle(fn)
  uv.update_time()              -- the loop may not have run for long
  local limit = uv.new_timer()
  limit:start(20000, 0, function() limit:close() end)
  while not fn() and not limit:is_closing() do uv.run "once" end
  if not limit:is_closing() then limit:close() end
  uv.run "nowait"
  assert.truthy(fn())
end

--- Lets so many milliseconds pass.
function stage.pass(ms)
  local over = false
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    over = true
  end)
  while not over do uv.run "once" end
end

--- Whether a line of the log has this text.
function stage:logged(text)
  for _, line in ipairs(self.lines) do
    if line:find(text, 1, true) then return true end
  end
  return false
end

--- The verbs of what was sent, in their order.
function stage:verbs()
  local list = {}
  for i, message in ipairs(self.sent) do list[i] = message.verb end
  return table.concat(list, " ")
end

--- A file of the device "d".
function stage:path(file) return self.root .. "/core/user_0/d/" .. file end

--- What the kernel shows of a device; `values` as for tree.backstore().
function stage:backstore(name, config, minor, values)
  tree.add(self.root, tree.backstore("user_0/" .. name, values))
  tree.add(self.root, {
    [("uio/uio%d/name"):format(minor)] =
      ("tcm-user/0/%s/%s\n"):format(name, config),
    [("uio/uio%d/maps/map0/size"):format(minor)] = "0x40800000\n",
    [("dev/uio%d"):format(minor)] = "",
  })
end

--- What the kernel says of one.
function stage.event(command, name, config, minor, more)
  local e = {
    command = command, minor = minor, device_id = minor + 100,
    device = ("tcm-user/0/%s/%s"):format(name, config),
  }
  for key, value in pairs(more or {}) do e[key] = value end
  return e
end

--- Control hears it.
function stage:take(e)
  jobs.start(self.held.log, events.take, self.held, e)
  return e
end

--- Control stops, in a job.
-- @return a table that has got { blocked, clean } when that is over
function stage:stop()
  local over = {}
  jobs.start(self.held.log, function()
    over.blocked, over.clean = self.held:stop()
  end)
  return over
end

--- Control serves one device "d", and nothing has been said or sent since.
function stage:serve()
  self:backstore("d", "ram/", 0)
  self:take(stage.event("added", "d", "ram/", 0))
  stage.settle(function() return #self.replies == 1 end)
  self.replies, self.sent = {}, {}
end

return stage
