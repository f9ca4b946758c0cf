--- Configfs files for the control thread, which must not hang in one.
--
-- rmdir keeps a device's configfs locked until we have answered its REMOVED; so
-- a thread of its own touches the files, and the job that asked waits.

local core = require "tcmu.core"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local uv = require "luv"

local deputy = {}

local LIMIT <const> = 5000      -- milliseconds

--- Starts the thread.
-- @param limit  milliseconds that a file may take; 5000
-- @return a table with read(path) and write(path, text) as in tcmu.files, but
-- only for jobs, and close(); or nil, message
function deputy.start(log, limit)
  local thread, why = core.deputy.open()
  if not thread then return nil, why end

  local waiting, last = {}, 0
  local poll = uv.new_poll(thread:fd())
  poll:start("r", jobs.callback(log, function()
    for _, answer in ipairs(thread:receive()) do
      local wake = waiting[answer.id]
      waiting[answer.id] = nil
      wake(answer)             -- in vain if the job has given up
    end
  end))

  local function ask(path, text)
    local answer, message, code = jobs.wait(limit or LIMIT, function(wake)
      last = last + 1
      waiting[last] = wake
      local ok, reason, errno = thread:ask(last, path, text)
      if not ok then wake(nil, reason, errno) end
    end)
    if not answer or answer.code then
      return nil, ("%s: %s"):format(path, message or answer.message),
        code or answer.code
    end
    return answer
  end

  return {
    read = function(path)
      local answer, message, code = ask(path)
      if not answer then return nil, message, code end
      return files.trim(answer.text)
    end,
    write = function(path, text)
      local answer, message, code = ask(path, text)
      if not answer then return nil, message, code end
      return true
    end,
    close = function()
      poll:close()
      thread:close()
    end,
  }
end

return deputy
