--- `make bench`: measures the rows asked for, or all of them, prints one table
--- and writes one file.
--
--   build/bench/run spec/bench/main.lua [OUTPUT.json] [ROW...]
--
-- A skipped row says why.  Nothing here fails a build: times are for reading.
-- A row runs in a process of its own, so that none inherits another's memory.

local json = require "spec.bench.json"
local machine = require "spec.bench.machine"
local rows = require "spec.bench.rows"

local output = "build/bench.json"
local wanted
for _, word in ipairs(arg) do
  if word:match "%.json$" then
    output = word
  else
    wanted = wanted or {}
    wanted[word] = true
  end
end

-- The lines of `row`, measured by spec/bench/one.lua.
local function measured(row)
  local pipe <const> = assert(io.popen(
    "build/bench/run spec/bench/one.lua " .. row))
  local text <const> = pipe:read "a"
  if not pipe:close() then return { reason = "failed" } end
  return assert(load(text, row, "t", {}))()
end

local function verdict(line, value)
  local limits <const> = line.most or line.least
  local function reached(limit)
    if line.most then return value <= limit end
    return value >= limit
  end
  if reached(limits[2]) then return "ok" end
  return reached(limits[1]) and "ok, short of the aim" or "SHORT"
end

local function number(n)
  return (("%.3f"):format(n):gsub("%.?0*$", ""))
end

local function print_line(line, value, outcome)
  local limits <const> = line.most or line.least
  local sign <const> = line.most and "<= " or ">= "
  print(("%-4s %-62s %9s %9s %9s  %s"):format(
    line.row, line.what, value and number(value) .. (line.unit or "") or "-",
    sign .. number(limits[1]), sign .. number(limits[2]), outcome))
  io.stdout:flush()
end

print(("%-4s %-62s %9s %9s %9s  %s"):format(
  "row", "what", "value", "must", "aim", "verdict"))
local results, cache, index = {}, {}, {}
for _, line in ipairs(rows) do
  if not wanted or wanted[line.row] then
    cache[line.row] = cache[line.row] or measured(line.row)
    local got <const> = cache[line.row]
    index[line.row] = (index[line.row] or 0) + 1
    local value <const> = got.values and got.values[index[line.row]]
    local outcome <const> = value and verdict(line, value) or got.reason
    print_line(line, value, outcome)
    results[#results + 1] = {
      row = line.row, what = line.what, value = value, verdict = outcome,
      unit = line.unit, must = (line.most or line.least)[1],
      aim = (line.most or line.least)[2], bound = line.most and "most" or "least",
      samples = index[line.row] == 1 and got.samples or nil,
    }
  end
end

local f <const> = assert(io.open(output, "w"))
f:write(json.encode { machine = machine.facts(), rows = results }, "\n")
f:close()
print("written to " .. output)
