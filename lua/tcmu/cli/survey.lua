--- What a handler offers, found out in a state like the one it will run in.
--
-- A handler's file is somebody's program: it is loaded in a shard of the
-- simulator, with the watchdog, the memory limit and the libraries that it
-- will have, never in the state of the command line.  There `survey.handler`
-- (below) takes its place and answers one vendor command with the findings as
-- text.

local blame = require "tcmu.cli.blame"
local cdb = require "tcmu.cdb"
local core = require "tcmu.core"
local dispatch = require "tcmu.dispatch"
local handler = require "tcmu.handler"
local offer = require "tcmu.offer"
local option = require "tcmu.option"

local survey = {}

local ASK <const> = 0xFF
local ROOM <const> = 256 << 10      -- bytes of an answer
local SOURCE <const> = "=%s\nreturn require('tcmu.cli.survey').handler(%q, %q)"

-- In the handler's state ----------------------------------------------------

local function who_answers(dev, shortcuts, entry)
  local own = dev.handler.on and dev.handler.on[entry.opcode]
  if type(own) == "table" then own = own[entry.action] end
  if own then return "on" end
  return shortcuts[entry.opcode] or "default"
end

local function name_of(entry)
  if entry.layout then return entry.layout.name end
  return cdb.shared_name(entry.opcode) or "vendor specific"
end

-- A line of fields for each finding; "\t" and "\n" do not occur in them.
local function findings(dev)
  local h <const> = dev.handler
  local lines = {}
  local function add(...)
    local fields = { ... }
    for i, field in ipairs(fields) do
      fields[i] = tostring(field):gsub("[\t\n]", " ")
    end
    lines[#lines + 1] = table.concat(fields, "\t")
  end

  add("name", h.name)
  add("about", h.about or "")
  add("kind", dev.kind.about or dev.kind.name or "a device")
  for _, text in ipairs(option.describe(h.options)) do add("option", text) end
  for _, name in ipairs(option.names(h.options)) do
    add("type", name, h.options[name].type)
  end
  core.sleep(0)                     -- what follows gets a budget of its own
  local shortcuts = dispatch.shortcuts(dev)
  for _, entry in ipairs(offer.list(dev)) do
    core.sleep(0)
    add("command", entry.opcode, entry.action or "",
        who_answers(dev, shortcuts, entry), name_of(entry))
  end
  return table.concat(lines, "\n")
end

-- What a device of this handler would be like, as far as its table tells.
local function imagined(h)
  local own <const> = h.read ~= nil
  return {
    handler = h, kind = h.device or require "tcmu.disk", store = not own,
    can = { read = true, write = not own or h.write ~= nil,
            unmap = not own or h.unmap ~= nil,
            flush = not own or h.flush ~= nil,
            zero = not own or h.write ~= nil,
            atomic = own and h.write ~= nil and h.flush == nil },
  }
end

--- The handler that stands in for the one in `path`.  `depth` says how far to
-- go: "load" it, "check" the options too, or "open" the device.
function survey.handler(path, depth)
  local h = handler.load(path)
  if depth == "open" then
    local plain = setmetatable({ on = h.on or {} }, { __index = h })
    h.on = { [ASK] = function(_, cmd)
      local dev = setmetatable({ handler = plain }, { __index = cmd.dev })
      return findings(dev)
    end }
    return h
  end
  local checked <const> = depth == "check"
  return handler.new {
    name = h.name,
    options = checked and h.options or nil,
    check = checked and h.check or nil,
    on = { [ASK] = function() return findings(imagined(h)) end },
  }
end

-- In the state of the command line ------------------------------------------

local read = {}

function read.name(found, text) found.name = text end
function read.about(found, text) found.about = text end
function read.kind(found, text) found.kind = text end

function read.option(found, text)
  found.options[#found.options + 1] = text
end

function read.type(found, name, type) found.types[name] = type end

function read.command(found, opcode, action, who, name)
  found.commands[#found.commands + 1] = {
    opcode = math.tointeger(opcode), action = math.tointeger(action),
    who = who, name = name,
  }
end

local function parsed(text)
  local found = { options = {}, types = {}, commands = {}, text = text }
  for line in text:gmatch("[^\n]+") do
    local fields = {}
    for field in (line .. "\t"):gmatch("([^\t]*)\t") do
      fields[#fields + 1] = field
    end
    read[fields[1]](found, table.unpack(fields, 2))
  end
  return found
end

local function run(path, depth, options)
  local sim = require "tcmu.sim"
  local host <close> = sim.host { memory_limit = core.memory() // 4 }
  local name = path:match("([^/]*)%.lua$") or path
  local dev, why = host:device(SOURCE:format(name, path, depth), options)
  if not dev then return nil, blame.text(path, why) end
  local result = dev:cmd(string.char(ASK) .. ("\0"):rep(9), { data_in = ROOM })
  if result.status ~= 0 then
    return nil, "the survey of " .. path .. " failed: the log says why"
  end
  return parsed(result.data)
end

--- Loads a handler and nothing more.  The survey, here and below: { name,
-- about, kind, options = lines, types = option types by name, commands = list
-- of { opcode, action or nil, name, who = "store", "read", "write", "on" or
-- "default" }, text = all of it in lines of fields }.
-- @return the survey; or nil and why not, see tcmu.cli.blame
function survey.load(path) return run(path, "load") end

--- Loads a handler and has it check the text of its options.
function survey.check(path, text)
  return run(path, "check", { options = text })
end

--- The same with the traceback of whatever fails in the log.
function survey.trace(path, text)
  core.log_level "debug"
  run(path, "check", { options = text })
  core.log_level "info"
end

--- Opens a device in the simulator.  `device` as for sim.device.
function survey.open(path, device) return run(path, "open", device) end

return survey
