--- Rows of one command's way: into Lua, in C, and what it allocates and writes.

local bench = require "bench"
local instructions = require "spec.bench.instructions"
local rig = require "spec.bench.rig"

local measure = {}

local MIB <const> = rig.MIB
local NO_VALGRIND <const> =
  "valgrind is not installed: skipped, dist/need bench"

local function load(op, depth, count, span)
  return { op = op, depth = depth, count = count, span = span or MIB }
end

function measure.T1()
  local lua <const>, c <const> = assert(rig.device "noop"),
                                 assert(rig.device "ram")
  local s <const> = rig.interleave {
    lua = function() return rig.run(lua, load("tur", 32, 1 << 17)) end,
    c = function() return rig.run(c, load("tur", 32, 1 << 17)) end,
  }
  return { s.lua.median / s.c.median }, s
end

function measure.T2()
  if not instructions.available() then return nil, NO_VALGRIND end
  return { instructions.count "lua" }
end

function measure.T3()
  if not instructions.available() then return nil, NO_VALGRIND end
  return { instructions.count "c" }
end

function measure.T4()
  local device <const> = assert(rig.device "noop")
  local function enter(by)
    local n <const> = 200000
    return function() return device.shard:entries(device.id, by, n) / n end
  end
  local s <const> = rig.interleave { task = enter "task", pcall = enter "pcall" }
  return { s.task.median / s.pcall.median }, s
end

function measure.T5()
  local once <const>, never <const> =
    assert(rig.device "yields"), assert(rig.device "noop")
  once.shard:teach(once.id)
  local s <const> = rig.interleave {
    waits = function() return rig.run(once, load("tur", 32, 1 << 17)) end,
    does_not = function() return rig.run(never, load("tur", 32, 1 << 17)) end,
  }
  return { s.waits.median / s.does_not.median }, s
end

-- Allocations of 100,000 commands once 1,000 were answered.
local function allocations(handler, op)
  local device <const> = assert(rig.device(handler))
  rig.fill(device, MIB)
  device.shard:run(device.kernel, load(op, 32, 1000))
  local r <const> = device.shard:run(device.kernel, load(op, 32, 100000))
  return r.allocations / r.commands
end

function measure.T6()
  return { allocations("noop", "tur"), allocations("ram", "rw"),
           allocations("view", "rw") }
end

function measure.T7()
  local device <const> = assert(rig.device "ram")
  device.shard:run(device.kernel, load("rw", 32, 1000))
  local r <const> = device.shard:run(device.kernel, load("rw", 32, 32000))
  return { r.writes / r.turns, r.writes / r.commands }
end

function measure.T11()
  local lua <const>, c <const> = assert(rig.device "view"),
                                 assert(rig.device "ram")
  rig.fill(lua, 256 * MIB)
  rig.fill(c, 256 * MIB)
  local function on(device, span)
    return function()
      return rig.run(device, load("rw", 32, 1 << 16, span))
    end
  end
  local s <const> = rig.interleave {
    view_1 = on(lua, MIB), c_1 = on(c, MIB),
    view_256 = on(lua, 256 * MIB), c_256 = on(c, 256 * MIB),
  }
  return { s.view_1.median / s.c_1.median,
           s.view_256.median / s.c_256.median }, s
end

function measure.T14()
  if not instructions.available() then return nil, NO_VALGRIND end
  local one <const> = { op = "tur", depth = 1, count = 1 }
  if not bench.libtcmu(bench.kernel { depth = 1 }, one) then
    return nil, "libtcmu is not installed: skipped, apt-get install libtcmu2"
  end
  return { instructions.count "libtcmu" / instructions.count "ring" }
end

return measure
