--- Configfs for the control thread, which must not hang in it.
--
-- rmdir keeps a device's configfs locked until we have answered its REMOVED; so
-- threads of their own touch the files, and the job that asked waits.

local core = require "tcmu.core"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local uv = require "luv"

local deputy = {}

local LIMIT <const> = 5000      -- milliseconds

-- Hanging files, each with a thread, before files wait for each other.
local THREADS <const> = 16

local function new_thread(self)
  local handle, why = core.deputy.open()
  if not handle then return nil, why end
  local thread = { handle = handle, busy = 0, poll = uv.new_poll(handle:fd()) }
  thread.poll:start("r", jobs.callback(self.log, function()
    for _, answer in ipairs(handle:receive()) do
      thread.busy = thread.busy - 1
      local wake = self.waiting[answer.id]
      self.waiting[answer.id] = nil
      wake(answer)              -- in vain if the job has given up
    end
  end))
  table.insert(self.threads, thread)
  return thread
end

-- An idle thread; a new one if there is none; or the one with least to do.
local function pick(self)
  local best
  for _, thread in ipairs(self.threads) do
    if not best or thread.busy < best.busy then best = thread end
  end
  if best and (best.busy == 0 or #self.threads >= THREADS) then return best end
  return new_thread(self) or best
end

-- Has a file read or written, in a job.
local function ask(self, path, text)
  local answer, message, code = jobs.wait(self.limit, function(wake)
    local thread = pick(self)
    self.last = self.last + 1
    local ok, why, errno = thread.handle:ask(self.last, path, text)
    if not ok then return wake(nil, why, errno) end
    self.waiting[self.last] = wake
    thread.busy = thread.busy + 1
  end)
  if not answer or answer.code then
    return nil, ("%s: %s"):format(path, message or answer.message),
      code or answer.code
  end
  return answer
end

-- The lines of a directory, one fn(name, target or nil) each.
local function each_name(self, path, fn)
  local answer = ask(self, path)
  for line in (answer and answer.text or ""):gmatch("[^\n]+") do
    fn(line:match("^([^\t]+)\t?(.*)$"))
  end
end

--- Starts the first thread; others follow while one hangs.
-- @param limit  milliseconds that a file may take; 5000
-- @return a table with read(path), write(path, text), list(path) and
-- links(path) as in tcmu.files, but only for jobs, and close(); or nil, message
function deputy.start(log, limit)
  local self = { log = log, limit = limit or LIMIT, threads = {},
                 waiting = {}, last = 0 }
  local thread, why = new_thread(self)
  if not thread then return nil, why end

  return {
    read = function(path)
      local answer, message, code = ask(self, path)
      if not answer then return nil, message, code end
      return files.trim(answer.text)
    end,
    write = function(path, text)
      local answer, message, code = ask(self, path, text)
      if not answer then return nil, message, code end
      return true
    end,
    list = function(path)
      local names = {}
      each_name(self, path, function(name) names[#names + 1] = name end)
      table.sort(names)
      return names
    end,
    links = function(path)
      local links = {}
      each_name(self, path, function(name, target)
        if target ~= "" then links[name] = target end
      end)
      return links
    end,
    close = function()
      for _, each in ipairs(self.threads) do
        each.poll:close()
        each.handle:close()
      end
    end,
  }
end

return deputy
