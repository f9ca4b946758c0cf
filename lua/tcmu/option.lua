--- Declared options of a handler, and the dev_config text that sets them.
--
-- A handler says `options = { path = tcmu.option.path "the file to serve" }`;
-- users write `path=/srv/disk.img;mode=ro`, or just the value of the first
-- option.  Options are separated by semicolons, since the kernel splits at
-- commas; there is no way to have a semicolon in a value.

local suggest = require "tcmu.suggest"

local option = {}
local meta = { __name = "tcmu.option" }

local counter = 0                   -- declaration order: the first is special

local UNITS <const> = { [""] = 1, k = 1 << 10, m = 1 << 20, g = 1 << 30,
                        t = 1 << 40, p = 1 << 50 }

--- Bytes from "512", "64K", "1.5M", "10GiB": nil and a message if it is none.
function option.parse_size(text)
  local number, unit = text:lower():match("^(%d+%.?%d*)%s*([kmgtp]?)i?b?$")
  number, unit = tonumber(number), UNITS[unit]
  local bytes
  if number and number <= math.maxinteger // unit then
    bytes = math.tointeger(number * unit)
  end
  if not bytes then
    return nil, ("'%s' is not a size such as 512M or 10G"):format(text)
  end
  return bytes
end

local parse = {}

function parse.string(text) return text end

function parse.path(text)
  if text == "" then return nil, "a path is needed" end
  return text
end

function parse.integer(text)
  local n = math.tointeger(tonumber(text))
  if not n then return nil, ("'%s' is not an integer"):format(text) end
  return n
end

function parse.number(text)
  local n = tonumber(text)
  if not n then return nil, ("'%s' is not a number"):format(text) end
  return n
end

parse.size = option.parse_size

local TRUTH <const> = { ["1"] = true, yes = true, on = true, ["true"] = true,
                        ["0"] = false, no = false, off = false,
                        ["false"] = false }

function parse.boolean(text)
  local value = TRUTH[text:lower()]
  if value == nil then return nil, ("'%s' is neither yes nor no"):format(text) end
  return value
end

function parse.choice(text, declared)
  for _, value in ipairs(declared.values) do
    if text == value then return text end
  end
  return nil, ("'%s' is none of %s%s"):format(text,
    table.concat(declared.values, ", "), suggest.hint(text, declared.values))
end

-- Whether a default is what the type's text would have become.
local fits = {
  string = function(v) return type(v) == "string" end,
  integer = function(v) return math.type(v) == "integer" end,
  number = function(v) return type(v) == "number" end,
  size = function(v) return math.type(v) == "integer" and v >= 0 end,
  boolean = function(v) return type(v) == "boolean" end,
  choice = function(v, declared)
    return type(v) == "string" and parse.choice(v, declared) ~= nil
  end,
}
fits.path = fits.string

local function declare(kind, about, extra)
  assert(type(about) == "string", "an option needs a text that says what it is")
  counter = counter + 1
  local declared = { type = kind, about = about, order = counter }
  for key, value in pairs(extra or {}) do declared[key] = value end
  local default <const> = declared.default
  if default ~= nil and not fits[kind](default, declared) then
    error(("the default of an option of type %s cannot be %s")
          :format(kind, tostring(default)), 3)
  end
  return setmetatable(declared, meta)
end

-- tcmu.option.TYPE "about" or tcmu.option.TYPE { "about", default = value }.
-- An option without a default has to be given.
local function declarer(kind)
  return function(about)
    if type(about) ~= "table" then return declare(kind, about) end
    return declare(kind, about[1], { default = about.default,
                                     optional = about.optional })
  end
end

for _, kind in ipairs { "string", "path", "integer", "number", "size",
                        "boolean" } do
  option[kind] = declarer(kind)
end

--- tcmu.option.choice { "about", "ro", "rw", default = "rw" }: a table, with
-- the values behind the text.
function option.choice(about)
  local values = table.move(about, 2, #about, 1, {})
  assert(#values > 1, "a choice has at least two values")
  return declare("choice", about[1], { values = values,
                                       default = about.default,
                                       optional = about.optional })
end

--- True if `value` was declared by one of the functions above.
function option.is(value) return getmetatable(value) == meta end

--- The names of declared options in the order of their declaration.
function option.names(declared)
  local names = {}
  for name in pairs(declared or {}) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    return declared[a].order < declared[b].order
  end)
  return names
end

local function named(part) return part:match("^([%a_][%w_]*)=(.*)$") end

--- True if the text has a value without a name, which is the first option's.
function option.relies_on_first(text)
  for part in text:gmatch("[^;]+") do
    if not named(part) then return true end
  end
  return false
end

--- Reads the text after "handler/" of a dev_config.
-- @return table of values by name; or nil and one sentence
function option.parse(declared, text)
  local names = option.names(declared)
  local values = {}
  for part in (text or ""):gmatch("[^;]+") do
    local name, value = named(part)
    if not name then name, value = names[1], part end
    local known = declared and declared[name]
    if not known then
      if not name then
        return nil, ("'%s': this handler has no options"):format(part)
      end
      return nil, ("there is no option '%s'%s"):format(name,
                                                  suggest.hint(name, names))
    end
    if values[name] ~= nil then
      return nil, ("option '%s' is given twice"):format(name)
    end
    local parsed, message = parse[known.type](value, known)
    if parsed == nil then
      return nil, ("option '%s': %s"):format(name, message)
    end
    values[name] = parsed
  end
  for _, name in ipairs(names) do
    local known = declared[name]
    if values[name] == nil then
      if known.default == nil and not known.optional then
        return nil, ("option '%s' is missing: %s"):format(name, known.about)
      end
      values[name] = known.default
    end
  end
  return values
end

--- One line per option, for `tcmu-lua list` and for help.
function option.describe(declared)
  local lines = {}
  for i, name in ipairs(option.names(declared)) do
    local known = declared[name]
    local default = ""
    if known.default ~= nil then
      default = (" (default %s)"):format(tostring(known.default))
    elseif known.optional then
      default = " (optional)"
    end
    lines[i] = ("%s=%s  %s%s"):format(name,
      known.values and table.concat(known.values, "|") or known.type:upper(),
      known.about, default)
  end
  return lines
end

return option
