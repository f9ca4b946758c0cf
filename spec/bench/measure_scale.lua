--- Rows of many devices: what an idle one costs, and whether a busy one, or a
--- new one, feels the others.

local bench = require "bench"
local rig = require "spec.bench.rig"

local measure = {}

local IDLE_MS <const> = 3000

-- A shard with n devices on small rings of their own.
local function crowd(n)
  local shard <const>, kernels <const> = bench.shard {}, {}
  for i = 1, n do
    kernels[i] = bench.kernel { ring_size = 1 << 16, io_max = 4096, depth = 4 }
    assert(shard:add(kernels[i], rig.fields "ram"))
  end
  return shard, kernels
end

function measure.T16()
  local shard <const>, kernels <const> = crowd(100)
  for _, kernel in ipairs(kernels) do
    shard:run(kernel, { op = "tur", depth = 4, count = 100 })
  end
  local ns <const>, woken <const> = bench.idle(shard, IDLE_MS)
  return { ns / (IDLE_MS * 1e6) * 100, woken }
end

function measure.T17()
  local shard <const>, kernels <const> = crowd(1000)
  local alone <const>, its_kernel <const> = crowd(1)
  local function one(at, kernel)
    return function()
      local r <const> = at:run(kernel, { op = "tur", depth = 1,
                                         count = 20000 })
      return r.cpu_ns / r.commands
    end
  end
  local s <const> = rig.interleave { of_1000 = one(shard, kernels[500]),
                                     of_1 = one(alone, its_kernel[1]) }
  return { s.of_1000.median / s.of_1.median }, s
end

-- Resident memory and page tables in KiB, without the pages of the rings,
-- which are the kernel's.
local function memory()
  local status <const> = rig.slurp "/proc/self/status"
  local sum = 0
  for _, name in ipairs { "RssAnon", "RssFile", "VmPTE" } do
    sum = sum + tonumber(status:match(name .. ":%s+(%d+)"))
  end
  return sum
end

-- As large as the kernel makes them: 8 MiB of ring, 1 GiB of data.
local function add_large(shard, kernels)
  local kernel <const> = bench.kernel { ring_size = 8 << 20, depth = 128,
                                        io_max = 8 << 20, idle = true }
  kernels[#kernels + 1] = kernel
  local _, cpu_ns <const>, ns <const> =
    assert(shard:add(kernel, rig.fields "ram"))
  return cpu_ns, ns
end

function measure.T18()
  local shard <const>, kernels <const> = bench.shard {}, {}
  local before
  for i = 1, 1000 do
    add_large(shard, kernels)
    if i == 100 then before = memory() end
  end
  return { (memory() - before) / 900 }
end

-- The very first one also loads the handler; it is not what grows.  Neither
-- end can be measured again, so the quickest of fifty stands for them.
function measure.T20()
  local shard <const>, kernels <const>, ns <const> = bench.shard {}, {}, {}
  for i = 1, 1000 do ns[i] = add_large(shard, kernels) end
  local first <const> = math.min(table.unpack(ns, 2, 51))
  local last <const> = math.min(table.unpack(ns, 951, 1000))

  local slow <const> = shard:add_begin(
    bench.kernel { depth = 4 }, rig.fields "slow")
  local _, beside <const> = add_large(shard, kernels)
  shard:add_end(slow)
  return { last / first, beside / 1e6 }, {
    first = { median = first }, last = { median = last },
  }
end

return measure
