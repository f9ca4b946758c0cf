--- Runs in the guest: the rounds, and what comes of them.
--
-- A round runs each job once on each disk, one disk after the other in a
-- single fio, and the next round begins with another disk: what slows the
-- machine for a while slows all of them.

package.path = "./?.lua;./lua/?.lua;" .. package.path

local disks = require "spec.bench.vm.disks"
local fio = require "spec.bench.vm.fio"
local guest = require "spec.vm.guest"
local report = require "spec.bench.vm.report"
local trace = require "spec.bench.vm.trace"

local options = {
  set = "compare", rounds = 7, seconds = 2, window = 2000, dir = "",
  writes = "auto", jobs = "", disks = "",
}

for _, argument in ipairs(arg) do
  local name, value = argument:match "^(%w+)=(.*)$"
  assert(options[name], argument)
  options[name] = math.type(options[name]) and math.tointeger(value) or value
end

-- Settings of files are worth nothing where a file is memory.
if options.dir == "" then
  options.dir = options.set == "settings" and "/data" or "/tmp"
end

-- `list` from its n-th on, and then the first ones.
local function rotated(list, n)
  local turned = {}
  for i = 1, #list do turned[i] = list[(i + n - 2) % #list + 1] end
  return turned
end

-- Not by an error: the exit would wait for threads that the kernel holds, and
-- for daemons that run.
local function abandon(why)
  io.stderr:write(why, "\n")
  disks.keep_logs()
  os.exit(1, false)
end

local function failed(why) abandon(debug.traceback(why)) end

-- A pattern that fits nothing may be one of another kind: Lua's have no "|".
local function some(list, kind)
  if list[1] then return list end
  abandon(("bench: no %s of the set %s matches the Lua pattern '%s'")
          :format(kind, options.set, options[kind]))
end

local jobs = some(fio.jobs(options.jobs), "jobs")
if not disks.has(options.set) then
  abandon(("bench: there is no set '%s': see spec/bench/vm/run --help")
          :format(options.set))
end
local _, made = xpcall(disks.make, failed, options)
some(made, "disks")
if options.set == "trace" then
  io.write(trace.report(made))
  disks.keep_logs()
  return
end
local results = {}

for _, job in ipairs(jobs) do results[job.name] = {} end
for round = 1, options.rounds do
  for _, job in ipairs(jobs) do
    local rates = fio.run(job, rotated(made, round), options.seconds)
    for name, rate in pairs(rates) do
      local samples = results[job.name][name] or {}
      samples[round] = rate
      results[job.name][name] = samples
    end
  end
  guest.kernel_says("round " .. round)
  io.stderr:write(("round %d of %d\n"):format(round, options.rounds))
end

local answer = report.evaluate(options, jobs, made, results)
local file <close> = assert(io.open("/results/vm.json", "w"))
assert(file:write(report.json(answer), "\n"))
io.write(report.table(answer))
disks.keep_logs()
