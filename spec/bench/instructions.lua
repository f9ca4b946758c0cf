--- Instructions per command, counted by callgrind: run under
--- `valgrind --tool=callgrind` by itself, or from the rows and the specs.
--
--   build/bench/run spec/bench/instructions.lua WHAT COUNT   the work
--   instructions.count(WHAT)                                 the number
--
-- Only what the consumer does is counted, by the name of the function that it
-- runs in; two counts are taken, and their difference has no start in it.

local bench = require "bench"
local rig = require "spec.bench.rig"

local instructions = {}

local FEW <const>, MANY <const> = 3200, 16000
local DEPTH <const> = 32

-- What runs, and the function that instructions are counted in.
local works = {}

local function served(handler, op)
  return function(count)
    local device <const> = assert(rig.device(handler))
    device.shard:run(device.kernel, {
      op = op, depth = DEPTH, count = count, span = rig.MIB })
  end
end

works.lua = { turn = "bench_turn", run = served("noop", "tur") }
works.c = { turn = "bench_turn", run = served("ram", "tur") }
works.ram = { turn = "bench_turn", run = served("ram", "rw") }
works.view = { turn = "bench_turn", run = served("view", "rw") }
works.ring = { turn = "ring_turn", run = function(count)
  local kernel <const> = bench.kernel { depth = 128 }
  bench.ring(kernel, { op = "tur", depth = DEPTH, count = count })
end }
works.libtcmu = { turn = "libtcmu_turn", run = function(count)
  local kernel <const> = bench.kernel { depth = 128 }
  bench.libtcmu(kernel, { op = "tur", depth = DEPTH, count = count })
end }

function instructions.available()
  return os.execute "command -v valgrind >/dev/null" == true
end

local function collect(what, count)
  local out <const> = os.tmpname()
  local pipe <const> = assert(io.popen((
    "valgrind --tool=callgrind --callgrind-out-file=%s --toggle-collect=%s " ..
    "build/bench/run spec/bench/instructions.lua %s %d 2>&1"):format(
    out, works[what].turn, what, count)))
  local text <const> = pipe:read "a"
  pipe:close()
  os.remove(out)
  return tonumber(text:match "Collected : (%d+)")
         or error("callgrind has counted nothing:\n" .. text)
end

--- Instructions that one command takes, all told but for system calls and the
-- simulated kernel.
function instructions.count(what)
  return (collect(what, MANY) - collect(what, FEW)) / (MANY - FEW)
end

if arg[0]:match "instructions%.lua$" then
  works[arg[1]].run(math.tointeger(arg[2]))
end

return instructions
