--- Rows against the unmodified tcmu-runner: one fake kernel for both, in a
--- thread on the same processor as the rest.

local rig = require "spec.bench.rig"

local measure = {}

local RUNNER <const> = "/usr/bin/tcmu-runner"
local MISSING <const> = "tcmu-runner is not installed: skipped, " ..
                        "apt-get install tcmu-runner"
local OUTPUT <const> = "build/bench/runner/ns"
local SPAN <const> = rig.MIB
local COUNTS <const> = { [1] = 20000, [32] = 100000, [128] = 100000 }
local ROUNDS <const> = 5

local function first_cpu()
  return rig.slurp "/proc/self/status":match "Cpus_allowed_list:%s*(%d+)"
end

-- Nanoseconds per command of the daemon with one worker thread, started anew.
local function runner(depth)
  local count <const> = COUNTS[depth]
  local command <const> = ("BENCH_DEPTH=%d BENCH_COUNT=%d BENCH_SPAN=%d " ..
    "BENCH_OUTPUT=%s LD_PRELOAD=$PWD/build/bench/runner_shim.so timeout 60 " ..
    "taskset -c %s %s --handler-path build/bench/runner -l build/bench " ..
    ">/dev/null 2>&1"):format(depth, count, SPAN, OUTPUT, first_cpu(), RUNNER)
  return function()
    os.remove(OUTPUT)
    os.execute(command)
    local ns <const> = tonumber(rig.slurp(OUTPUT) or "")
    if not ns or ns < 0 then
      error("tcmu-runner did not come to an end: see " ..
            "build/bench/tcmu-runner.log", 0)
    end
    return ns / count
  end
end

local function ours(handler, depth)
  local device <const> = assert(rig.device(handler))
  rig.fill(device, SPAN)
  return function()
    local r <const> = device.shard:beside(device.kernel, {
      op = "rw", depth = depth, count = COUNTS[depth], span = SPAN }, 0, 0)
    return r.cpu_ns / r.commands
  end
end

local function is_installed()
  local f <const> = io.open(RUNNER)
  if f then f:close() end
  return f ~= nil
end

function measure.T12()
  if not is_installed() then return nil, MISSING end
  local s <const> = rig.interleave({
    runner = runner(32), c = ours("ram", 32), lua = ours("view", 32),
  }, ROUNDS)
  return { s.runner.median / s.c.median, s.runner.median / s.lua.median }, s
end

function measure.T13()
  if not is_installed() then return nil, MISSING end
  local s <const> = rig.interleave({
    runner_128 = runner(128), c_128 = ours("ram", 128),
    runner_1 = runner(1), c_1 = ours("ram", 1),
  }, ROUNDS)
  return { s.runner_128.median / s.c_128.median,
           s.runner_1.median / s.c_1.median }, s
end

return measure
