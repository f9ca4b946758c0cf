--- What the rows share: handlers, devices on kernels, rounds and medians.

local bench = require "bench"

local rig = {}

rig.ROUNDS = 7
rig.MIB = 1 << 20

--- Handlers, as a name and their source.
rig.handlers = {
  -- Answers TEST UNIT READY itself; the store is there for the fast path.
  noop = [[=noop
    local tcmu = require "tcmu"
    return tcmu.handler { name = "noop",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0x00] = function() end } }]],
  -- The same, after a wait that is over at once; see shard:teach().
  yields = [[=yields
    local tcmu = require "tcmu"
    return tcmu.handler { name = "yields",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0x00] = function() again() end } }]],
  -- Serves the data itself, by views.
  view = [[=view
    local tcmu = require "tcmu"
    return tcmu.handler { name = "view",
      open = function(dev) return { disk = tcmu.store.memory(dev.size) } end,
      read = function(self, cmd, offset) self.disk:read(cmd.data, offset) end,
      write = function(self, cmd, offset) self.disk:write(cmd.data, offset) end,
    }]],
  -- Its open takes its time.
  slow = [[=slow
    local tcmu = require "tcmu"
    return tcmu.handler { name = "slow", open = function(dev)
      tcmu.sleep(1000)
      return { store = tcmu.store.memory(dev.size) }
    end }]],
  ram = "handlers/ram.lua",
  file = "handlers/file.lua",
}

--- What control tells a shard about a new device; `more` overrides.
function rig.fields(handler, more)
  local fields = {
    handler = rig.handlers[handler], hba = "bench", name = "d",
    config = "bench/", options_text = "", size = 256 * rig.MIB,
    block_size = 512, max_sectors = 2048, write_cache = true,
    cmd_time_out = 30, serial = "", vendor = "", product = "", revision = "",
    company_id = "",
  }
  for key, value in pairs(more or {}) do fields[key] = value end
  return fields
end

--- A shard with one device on a kernel of its own: { shard, kernel, id }.
-- options: { poll =, no_fast_path =, kernel = {}, fields = {} }
function rig.device(handler, options)
  options = options or {}
  local shard = bench.shard(options)
  local kernel = bench.kernel(options.kernel or { depth = 128 })
  local id, why = shard:add(kernel, rig.fields(handler, options.fields))
  if not id then return nil, why end
  return { shard = shard, kernel = kernel, id = id }
end

--- Nanoseconds of CPU time per command of a load on such a device: all of it
-- happens on one thread, and what others do on a busy machine does not count.
function rig.run(device, load)
  local r = device.shard:run(device.kernel, load)
  return r.cpu_ns / r.commands
end

--- Writes to every block below `size`, so that nothing is sparse.
function rig.fill(device, size)
  device.shard:run(device.kernel, { op = "fill", depth = 32, length = 4096,
                                    span = size, count = size // 4096 })
end

function rig.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[(#sorted + 1) // 2]
end

--- Runs the samples { name = fn, ... } in turn, round after round; each returns
-- a number.  One round before that is for warming up.
-- @return { name = { median =, rounds = { ... } }, ... }
function rig.interleave(samples, rounds)
  local names, results = {}, {}
  for name in pairs(samples) do
    names[#names + 1] = name
    results[name] = { rounds = {} }
  end
  table.sort(names)
  for round = 0, rounds or rig.ROUNDS do
    for _, name in ipairs(names) do
      local value = samples[name]()
      if round > 0 then results[name].rounds[round] = value end
    end
  end
  for _, result in pairs(results) do
    result.median = rig.median(result.rounds)
  end
  return results
end

--- Is this machine fit for what needs two processors?
function rig.two_quiet_cpus() return bench.quiet(150) > 0.97 end

-- A whole file, nil if there is none.
function rig.slurp(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local text = f:read "a"
  f:close()
  return text
end

--- Removes what a row has made when it ends: local _ <close> = rig.undo(fn)
function rig.undo(fn) return setmetatable({}, { __close = fn }) end

return rig
