--- Commands, in the foreground and in the background.
-- Each runs in a process group of its own with its output in a file, so that
-- a command which the kernel keeps from dying fails a spec with a message
-- instead of hanging it.

local uv = require "luv"
local file = require "spec.vm.guest.file"
local undo = require "spec.vm.guest.undo"
local wait = require "spec.vm.guest.wait"

local process = {}

local LIMIT <const> = 120               -- seconds, in the foreground

local methods = {}
methods.__index = methods

local count = 0

local function temporary(what)
  count = count + 1
  return ("/tmp/%s-%d-%d"):format(what, uv.os_getpid(), count)
end

local function spawn(command, out, err)
  local p = setmetatable({ command = command, log = out }, methods)
  local fd_out = assert(uv.fs_open(out, "a", 420))
  local fd_err = err and assert(uv.fs_open(err, "a", 420)) or fd_out
  local handle, pid = uv.spawn("/bin/sh", {
    args = { "-c", command },
    stdio = { nil, fd_out, fd_err },
    detached = true,
  }, function(status, signal)
    p.status = signal ~= 0 and 128 + signal or status
    p.handle:close()
  end)

  uv.fs_close(fd_out)
  if err then uv.fs_close(fd_err) end
  assert(handle, pid)
  p.handle, p.pid = handle, pid
  return p
end

-- What a group of processes that will not end is doing.
local function why_stuck(pid)
  local lines = {}

  for _, name in ipairs(file.names "/proc") do
    local ok, stat = pcall(file.read_file, "/proc/" .. name .. "/stat")
    if tonumber(name) and ok then
      local command, state, group = stat:match "%((.*)%) (%a) %d+ (%d+)"
      if tonumber(group) == pid then
        local _, stack = pcall(file.read_file, "/proc/" .. name .. "/stack")
        lines[#lines + 1] = ("%s %s, state %s\n%s"):format(name, command,
          state, stack)
      end
    end
  end
  return table.concat(lines, "\n")
end

--- Whether the process is still there.
function methods:running()
  uv.run "nowait"
  return not self.status
end

--- Sends a signal ("sigterm", "sigkill", ...) to the process alone.
function methods:signal(name)
  if self:running() then assert(uv.kill(self.pid, name)) end
end

--- Everything that it has printed so far.
function methods:output() return file.read_file(self.log) end

--- Waits for the end and returns the exit status, 128 + N after signal N.
-- Raises when it has not come within `seconds`; the process stays as it is.
function methods:wait(seconds)
  local function over() return self.status end

  if not wait.turn_until(seconds or LIMIT, over) then
    error(("has not ended after %g s: %s\n%s%s"):format(seconds or LIMIT,
      self.command, self:output(), why_stuck(self.pid)), 2)
  end
  return self.status
end

--- Ends it and everything in its process group, and waits.
function methods:kill()
  if self:running() then
    uv.kill(-self.pid, "sigkill")
    self:wait(30)
  end
end

local function format(fmt, ...)
  return select("#", ...) > 0 and fmt:format(...) or fmt
end

--- One word for the shell, whatever is in it.
function process.quote(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

--- Starts a shell command in the background.  `log` is the file that its
-- output is added to (a temporary one).  Returns an object with pid, log,
-- status (nil while it runs), running(), signal(name), wait(seconds), kill()
-- and output().  It is killed by cleanup().  Begin with "exec" for the
-- process itself to have that pid, and not a shell around it.
function process.start(command, log)
  local p = spawn(command, log or temporary "log")

  undo.defer(function() p:kill() end)
  return p
end

--- Runs a shell command, formatted if there are arguments.  Returns its exit
-- status and what it printed, on stdout and stderr together.
function process.try(fmt, ...)
  local log = temporary "try"
  local p = spawn(format(fmt, ...), log)
  local ok, status = pcall(p.wait, p, LIMIT)
  local output = p:output()

  os.remove(log)
  if ok then return status, output end
  uv.kill(-p.pid, "sigkill")
  error(status, 2)
end

--- Runs a shell command, formatted if there are arguments, and returns what it
-- printed on stdout, without the last newline.  Raises with all of its output
-- unless it ends with 0 within two minutes.
function process.sh(fmt, ...)
  return process.sh_within(LIMIT, fmt, ...)
end

--- The same with a limit of its own, in seconds.
function process.sh_within(seconds, fmt, ...)
  local out, err = temporary "out", temporary "err"
  local p = spawn(format(fmt, ...), out, err)
  local ok, status = pcall(p.wait, p, seconds)
  local printed, complaint = p:output(), file.read_file(err)

  os.remove(out)
  os.remove(err)
  if not ok then
    uv.kill(-p.pid, "sigkill")
    error(status .. complaint, 2)
  elseif status ~= 0 then
    error(("status %d from: %s\n%s%s"):format(status, p.command, printed,
      complaint), 2)
  end
  return (printed:gsub("\n$", ""))
end

return process
