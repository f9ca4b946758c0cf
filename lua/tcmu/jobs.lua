--- Control's own coroutines: a job is plain code that may wait.
--
-- Every callback of the event loop runs as a job, so an error in the handling
-- of one event is logged and the process, with all its devices, goes on.

local uv = require "luv"

local jobs = {}

local ETIMEDOUT <const> = 110

--- Runs fn(...) now, as far as it goes without waiting.
-- @param log  function(level, who, text)
function jobs.start(log, fn, ...)
  coroutine.resume(coroutine.create(function(...)
    local ok, why = xpcall(fn, debug.traceback, ...)
    if not ok then
      log("error", "control", "a bug in tcmu-lua, please report it: " ..
          tostring(why))
    end
  end), ...)
end

--- A callback for luv that runs fn as a job.
function jobs.callback(log, fn)
  return function(...) jobs.start(log, fn, ...) end
end

--- Waits in a job until somebody calls wake(...), now or later; calls after
--- the first do nothing.
-- @param ms   the longest wait
-- @param arm  function(wake)
-- @return what wake was given; or nil, message, ETIMEDOUT
function jobs.wait(ms, arm)
  local co = coroutine.running()
  local timer = uv.new_timer()
  local result, yielded
  local function wake(...)
    if result then return end
    timer:close()
    result = table.pack(...)
    if yielded then coroutine.resume(co) end
  end

  uv.update_time()              -- or what has just been done counts as waited
  timer:start(ms, 0, function()
    wake(nil, ("no answer within %g s"):format(ms / 1000), ETIMEDOUT)
  end)
  arm(wake)
  if not result then
    yielded = true
    coroutine.yield()
  end
  return table.unpack(result, 1, result.n)
end

--- Lets a job sleep.
function jobs.sleep(ms)
  jobs.wait(ms, function() end)
end

--- Jobs that run one after the other.
local Queue = {}
Queue.__index = Queue

function jobs.queue(log)
  return setmetatable({ log = log, waiting = {}, running = false }, Queue)
end

--- Runs fn when all that were submitted before it have ended.
function Queue:submit(fn)
  table.insert(self.waiting, fn)
  if self.running then return end
  self.running = true
  jobs.start(self.log, function()
    while self.waiting[1] do
      local ok, why = xpcall(table.remove(self.waiting, 1), debug.traceback)
      if not ok then jobs.start(self.log, error, why) end
    end
    self.running = false
  end)
end

return jobs
