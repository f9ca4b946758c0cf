--- The product's daemon, as it lies in the source tree, and Debian's tcmu-runner.

local file = require "spec.vm.guest.file"
local process = require "spec.vm.guest.process"
local undo = require "spec.vm.guest.undo"
local wait = require "spec.vm.guest.wait"

local daemon = {}

-- A pattern for the line in its log that says it has attached to the devices
-- which are there and listens for new ones.
local READY <const> = "ready: %d+ devices"

-- Where the processor is emulated, and its threads wait for one of the host's,
-- CPU time tells little; and a shard that waits awake holds up everything else.
-- What comes later on the command line counts.
local ARGS <const> = "--budget 60000 --poll off"

local methods = {}
local count = 0

--- Ends it by SIGTERM, or another signal.  Returns its exit status, which is
-- 128 + N if it died of signal N.
function methods:stop(name, seconds)
  self:signal(name or "sigterm")
  return self:wait(seconds or 60)
end

--- Waits until its log has a line with the pattern; `from` is a position in the
-- log to begin at, as #output() before said it.  Returns the line.
function methods:wait_for_log(pattern, seconds, from)
  local what = ("%q in the daemon's log"):format(pattern)

  return wait.wait_for(what, seconds or 20, function()
    for line in self:output():sub((from or 0) + 1):gmatch "[^\n]+" do
      if line:find(pattern) then return line end
    end
    return nil, "\n" .. self:output()
  end)
end

-- Where its threads are, in the kernel and in user space.
local function stacks(pid)
  local _, inside = process.try("head -n 20 /proc/%d/task/*/stack", pid)
  local _, outside = process.try(
    "gdb -p %d -batch -ex 'thread apply all bt 12' 2>&1 | tail -n 80", pid)
  return inside .. outside
end

--- Starts `./tcmu-lua serve ARGS` (ARGS for the shell), patient and without
-- polling unless they say otherwise, and waits until it is ready.  `prefix` goes
-- before the command ("strace -f -o /results/trace").
-- Returns an object as start() does, with stop() and wait_for_log() besides;
-- its log is kept in /results.
function daemon.serve(args, prefix)
  count = count + 1
  -- On tmpfs, so that a full disk of the host's cannot swallow a line.
  local base = ("serve-%d.log"):format(count)
  local log = "/tmp/" .. base
  undo.defer(function()
    local kept <close> = assert(io.open("/results/" .. base, "w"))
    kept:write(file.read_file(log))
  end)
  local p = process.start(("exec %s ./tcmu-lua serve %s %s"):format(prefix or "",
    ARGS, args or ""), log)

  for name, method in pairs(methods) do p[name] = method end
  -- Comes before the kill of start(), which is for those that do not obey.
  undo.defer(function()
    if p:running() then pcall(p.stop, p) end
  end)
  local ok, why = pcall(wait.wait_for, "the daemon to be ready", 30, function()
    local said = p:output()
    if said:find(READY) then return true end
    if not p:running() then
      error("ended with " .. p.status .. "\n" .. said, 0)
    end
    return nil, "\n" .. said
  end)
  if not ok then error(why .. stacks(p.pid), 2) end
  return p
end

--- Starts Debian's tcmu-runner, and the bus that it wants, and waits until it
-- serves qcow; `log` as for start().  No bus may be there yet, and none of our
-- devices may be made from now on: tcmu-runner refuses what it does not know.
function daemon.tcmu_runner(log)
  process.sh "mkdir -p /run/dbus /etc/tcmu && dbus-daemon --system --fork"
  local p = process.start("exec tcmu-runner", log)

  wait.wait_for("tcmu-runner to serve", 60, function()
    local status = process.try("dbus-send --system --print-reply " ..
      "--dest=org.kernel.TCMUService1 /org/kernel/TCMUService1/qcow " ..
      "org.freedesktop.DBus.Peer.Ping")
    return status == 0, p:output()
  end)
  return p
end

return daemon
