--- The functions that answer a device's commands, kept once for all devices
--- that have the same commands.
--
-- What dispatch.routes makes depends on the handler, on what its `on` has, which
-- an open may change, and on which of the conditional commands of its kind the
-- device has, on nothing else of the device.  A reload brings another handler,
-- and so other tables; the old ones go with the last device, or command, that
-- uses them.

local dispatch = require "tcmu.dispatch"
local offer = require "tcmu.offer"

local routes = {}

local conditional = setmetatable({}, { __mode = "k" })      -- by kind
local made = setmetatable({}, { __mode = "k" })             -- by handler

-- The commands that some devices of a kind have and others have not.
local function conditional_of(kind)
  local list = conditional[kind]
  if list then return list end
  list = {}
  for opcode, when in pairs(kind.offers or {}) do
    if type(when) == "table" then
      for action in pairs(when) do
        list[#list + 1] = { opcode = opcode, action = action }
      end
    else
      list[#list + 1] = { opcode = opcode }
    end
  end
  conditional[kind] = list
  return list
end

-- Adds what a table of answers has, which is functions, false, and tables of
-- them by service action.  The address tells a function while the routes that
-- have it live.
local function describe(answers, parts, prefix)
  for code, answer in pairs(answers) do
    local what <const> = prefix .. code
    if type(answer) == "table" then
      describe(answer, parts, what .. "/")
    else
      parts[#parts + 1] = answer and ("%s=%p"):format(what, answer) or what
    end
  end
end

-- Which of them the device has, and what its handler says of any.
local function key_of(dev)
  local parts = {}
  describe(dev.handler.on or {}, parts, "")
  for _, command in ipairs(conditional_of(dev.kind)) do
    local has <const> = offer.has(dev, command.opcode, command.action)
    parts[#parts + 1] = ("%d/%s %s"):format(command.opcode, command.action, has)
  end
  table.sort(parts)
  return table.concat(parts, " ")
end

--- The table of a device as dispatch.routes makes it; nobody may change it.
function routes.of(dev)
  local of_handler <const> = made[dev.handler] or {}
  made[dev.handler] = of_handler
  local key <const> = key_of(dev)
  of_handler[key] = of_handler[key] or dispatch.routes(dev)
  return of_handler[key]
end

return routes
