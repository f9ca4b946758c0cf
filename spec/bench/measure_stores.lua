--- Rows of moving data: against loops in C that only advance the ring and do
--- the same copies or calls.

local bench = require "bench"
local rig = require "spec.bench.rig"

local measure = {}

local SIZE <const> = 256 * rig.MIB
local FILE <const>, OTHER <const> = "build/bench/blocks", "build/bench/others"

local function load(op)
  return { op = op, depth = 32, count = 1 << 16, span = SIZE }
end

local function bare(op, options)
  local kernel <const> = bench.kernel { depth = 128 }
  return function()
    local r <const> = bench.bare(kernel, load(op), options)
    return r.cpu_ns / r.commands
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
local function cached(path)
  local f <const> = assert(io.open(path, "wb"))
  local block <const> = ("\xA5"):rep(rig.MIB)
  for _ = 1, SIZE // rig.MIB do assert(f:write(block)) end
  f:close()
  return rig.undo(function() os.remove(path) end)
end

local function on_file(path, options)
  return assert(rig.device("file", { fields = {
    options_text = "path=" .. path .. (options or "") } }))
end

function measure.T9()
  local _ <close> = cached(FILE)
  local file <const> = on_file(FILE)
  local s <const> = rig.interleave {
    file = function() return rig.run(file, load "read") end,
    bare = bare("read", { file = FILE }),
  }
  file.shard:remove(file.id)
  return { s.bare.median / s.file.median }, s
end

function measure.T10()
  local _ <close> = cached(FILE)
  local _ <close> = cached(OTHER)
  local inline <const>, async <const> =
    on_file(FILE), on_file(OTHER, ";reads=async")
  local s <const> = rig.interleave {
    inline = function() return rig.run(inline, load "read") end,
    async = function() return rig.run(async, load "read") end,
  }
  return { s.inline.median / s.async.median }, s
end

return measure
