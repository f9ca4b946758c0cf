--- What the figures were taken on: for whoever compares two files of results.

local rig = require "spec.bench.rig"

local machine = {}

function machine.facts()
  local cpus <const> = rig.slurp "/proc/cpuinfo" or ""
  local _, count = cpus:gsub("processor%s*:", "")
  local kernel <const> = rig.slurp "/proc/sys/kernel/osrelease" or "?"
  local load <const> = rig.slurp "/proc/loadavg" or "?"
  return {
    cpu = cpus:match "model name%s*: ([^\n]+)" or "?",
    cpus = count,
    kernel = kernel:match "%S+",
    load = load:match "%S+",
    quiet = rig.two_quiet_cpus(),
  }
end

return machine
