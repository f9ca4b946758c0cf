--- Measures one row and prints the result as a Lua table, for main.lua.

local row <const> = arg[1]
local measures = {}
for _, name in ipairs { "commands", "stores", "scale", "threads", "runner" } do
  for key, fn in pairs(require("spec.bench.measure_" .. name)) do
    measures[key] = fn
  end
end

local function literal(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for key, v in pairs(value) do
    parts[#parts + 1] = ("[%s] = %s"):format(literal(key), literal(v))
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local measure <const> = measures[row]
local values, more
if measure then
  values, more = measure()
else
  more = "there is no such row"
end
print("return " .. literal(values and { values = values, samples = more }
                           or { reason = more }))
