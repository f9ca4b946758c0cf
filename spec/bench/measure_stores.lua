--- Rows of moving data: against loops in C that only advance the ring and do
--- the same copies or calls.

local bench = require "bench"
local rig = require "spec.bench.rig"

local measure = {}

local SIZE <const> = 256 * rig.MIB
local FILE <const> = "build/bench/blocks"

local function load(op)
  return { op = op, depth = 32, count = 1 << 16, span = SIZE }
end

local function bare(op, options)
  local kernel <const> = bench.kernel { depth = 128 }
  return function()
    local r <const> = bench.bare(kernel, load(op), options)
    return r.ns / r.commands
  end
end

function measure.T8()
  local ram <const> = assert(rig.device "ram")
  rig.fill(ram, SIZE)
  local s <const> = rig.interleave {
    ram = function() return rig.run(ram, load "rw") end,
    bare = bare("rw", { memory = SIZE }),
  }
  return { s.bare.median / s.ram.median }, s
end

-- A file whose blocks are all in the page cache.
local function cached_file()
  local f <const> = assert(io.open(FILE, "wb"))
  local block <const> = ("\xA5"):rep(rig.MIB)
  for _ = 1, SIZE // rig.MIB do assert(f:write(block)) end
  f:close()
  return rig.undo(function() os.remove(FILE) end)
end

local function on_file(options)
  return rig.device("file", { fields = {
    options_text = "path=" .. FILE .. (options or "") } })
end

function measure.T9()
  local _ <close> = cached_file()
  local file <const> = assert(on_file())
  local s <const> = rig.interleave {
    file = function() return rig.run(file, load "read") end,
    bare = bare("read", { file = FILE }),
  }
  file.shard:remove(file.id)
  return { s.bare.median / s.file.median }, s
end

return measure
