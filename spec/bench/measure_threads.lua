--- Rows that need two processors of their own: what waking up costs, and what
--- a second shard brings.

local bench = require "bench"
local rig = require "spec.bench.rig"

local measure = {}

local NOT_QUIET <const> = "needs 2 quiet CPUs: skipped"

function measure.T15()
  if not rig.two_quiet_cpus() then return nil, NOT_QUIET end
  local function latency(poll)
    local device <const> = assert(rig.device("ram", { poll = poll }))
    return function()
      local r <const> = device.shard:beside(device.kernel, {
        op = "tur", depth = 1, count = 3000, spin = poll ~= "off" }, 0, 1)
      return r.ns / r.commands
    end
  end
  local s <const> = rig.interleave { awake = latency "auto",
                                     asleep = latency "off" }
  return { s.awake.median / s.asleep.median }, s
end

function measure.T19()
  if not rig.two_quiet_cpus() then return nil, NOT_QUIET end
  local load <const> = { op = "tur", depth = 32, count = 1 << 17 }
  local a <const>, b <const> = assert(rig.device "noop"),
                               assert(rig.device "noop")
  local s <const> = rig.interleave {
    one = function()
      return a.shard:run(a.kernel, load).ns / load.count
    end,
    two = function()
      local x <const>, y <const> = bench.pair(load, a.shard, a.kernel,
                                              b.shard, b.kernel)
      return (x + y) / 2 / load.count
    end,
  }
  return { 2 * s.one.median / s.two.median }, s
end

return measure
