--- Checks a handler's table: `return tcmu.handler { ... }`.
--
-- A slip in a handler must show when it is loaded, not when the first disk
-- misbehaves: unknown keys are refused with the nearest known one, and every
-- value has to have its type.

local option = require "tcmu.option"
local suggest = require "tcmu.suggest"

local handler = {}
local meta = { __name = "tcmu.handler" }

local KEYS <const> = {
  name = "string", about = "string", version = "string",
  options = "table", inquiry = "table", device = "table", on = "table",
  check = "function", open = "function", close = "function",
  read = "function", write = "function", flush = "function",
  unmap = "function", status = "function", upgrade = "function",
  resize = "function",
}

local INQUIRY <const> = { vendor = 8, product = 16, revision = 4 }

local function check_keys(h)
  for key, value in pairs(h) do
    local want = KEYS[key]
    if not want then
      error(("handler: unknown key '%s'%s"):format(tostring(key),
            suggest.hint(key, KEYS)), 0)
    end
    if type(value) ~= want then
      error(("handler: '%s' must be a %s, not a %s"):format(key, want,
            type(value)), 0)
    end
  end
end

local function check_options(options)
  for name, declared in pairs(options or {}) do
    if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
      error(("handler: '%s' is no name for an option"):format(tostring(name)), 0)
    end
    if not option.is(declared) then
      error(("handler: option '%s' must be declared by tcmu.option.string, "
             .. "path, integer, number, size, boolean or choice"):format(name),
            0)
    end
  end
end

local function check_inquiry(inquiry)
  for key, value in pairs(inquiry or {}) do
    local most = INQUIRY[key]
    if not most then
      error(("handler: inquiry has no '%s'%s"):format(tostring(key),
            suggest.hint(key, INQUIRY)), 0)
    end
    if type(value) ~= "string" or #value > most then
      error(("handler: inquiry.%s is a string of up to %d characters")
            :format(key, most), 0)
    end
  end
end

local function check_entry(where, entry)
  if type(entry) ~= "function" and entry ~= false then
    error(("handler: %s must be a function, or false to switch the command "
           .. "off"):format(where), 0)
  end
end

local function check_on(on)
  for opcode, entry in pairs(on or {}) do
    if math.type(opcode) ~= "integer" or opcode < 0 or opcode > 255 then
      error(("handler: on[%s] is no opcode from 0 to 255")
            :format(tostring(opcode)), 0)
    end
    if type(entry) == "table" then
      for action, fn in pairs(entry) do
        check_entry(("on[0x%02X][%s]"):format(opcode, tostring(action)), fn)
      end
    else
      check_entry(("on[0x%02X]"):format(opcode), entry)
    end
  end
end

--- Checks a handler and makes it one.  Raises one sentence on any slip.
function handler.new(h)
  if type(h) ~= "table" then
    error("tcmu.handler takes a table: tcmu.handler { name = ... }", 2)
  end
  check_keys(h)
  if not h.name or not h.name:find("^[%w_%-]+$") then
    error("handler: 'name' must be letters, digits, '_' and '-'", 0)
  end
  check_options(h.options)
  check_inquiry(h.inquiry)
  check_on(h.on)
  if h.write and not h.read then
    error("handler: 'write' without 'read' makes no disk", 0)
  end
  return setmetatable(h, meta)
end

--- True if `value` came through tcmu.handler.
function handler.is(value) return getmetatable(value) == meta end

-- Modules of a handler -------------------------------------------------------

--- Names of the modules that came from a handler's own folder.
handler.own = {}

local folders = {}                  -- search templates, the latest first

-- A searcher of `require`.  Nobody stands in for the host's own modules.
local function find_own(name)
  if name == "tcmu" or name:find("^tcmu%.") then return nil end
  local tried = {}
  for i, template in ipairs(folders) do
    local path, message = package.searchpath(name, template)
    tried[i] = message
    if path then
      local chunk, why = loadfile(path, "t")
      if not chunk then error(why, 0) end
      handler.own[name] = true
      return chunk, path
    end
  end
  return table.concat(tried, "\n\t")
end

local function search_in(folder)
  local template <const> = ("%s/?.lua;%s/?/init.lua"):format(folder, folder)
  if #folders == 0 then table.insert(package.searchers, 2, find_own) end
  for i, known in ipairs(folders) do
    if known == template then table.remove(folders, i) end
  end
  table.insert(folders, 1, template)
end

--- Loads a handler's file, or its source when `path` is "=NAME\n" and the
-- source.  Its own folder is searched by `require`.  Raises one sentence.
function handler.load(path)
  local chunk, message
  if path:sub(1, 1) == "=" then
    local name, source = path:match("^=([^\n]*)\n(.*)$")
    chunk, message = load(source, "=" .. name, "t")
  else
    search_in(path:match("^(.*)/[^/]*$") or ".")
    chunk, message = loadfile(path, "t")
  end
  if not chunk then error(message, 0) end
  local h = chunk()
  if not handler.is(h) then
    error(("%s does not return a handler: its last line is "
           .. "'return tcmu.handler { ... }'"):format(
             path:match("^=([^\n]*)") or path), 0)
  end
  return h
end

return handler
