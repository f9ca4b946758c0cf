--- Writes a value as JSON: keys in order, a table with [1] as an array.

local json = {}

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    return ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local function encode(value, indent)
  if type(value) == "string" then return quote(value) end
  if math.type(value) == "float" then return ("%.6g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end

  local inner <const>, parts <const> = indent .. "  ", {}
  if value[1] ~= nil then
    for i, v in ipairs(value) do parts[i] = encode(v, inner) end
    if type(value[1]) ~= "table" then
      return "[" .. table.concat(parts, ", ") .. "]"
    end
    return "[\n" .. inner .. table.concat(parts, ",\n" .. inner) .. "\n" ..
           indent .. "]"
  end
  local keys <const> = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do
    parts[i] = quote(key) .. ": " .. encode(value[key], inner)
  end
  return "{\n" .. inner .. table.concat(parts, ",\n" .. inner) .. "\n" ..
         indent .. "}"
end

--- A string without a newline at the end.
function json.encode(value) return encode(value, "") end

return json
