--- The functions that answer a device's commands, kept once for all devices
--- that have the same commands.
--
-- What dispatch.routes makes depends on the handler and on which of the
-- conditional commands of its kind the device has, on nothing else of the
-- device.  A reload brings another handler, and so other tables; the old ones
-- go with the last device, or command, that uses them.

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

-- Which of them the device has, as a string of zeroes and ones.
local function key_of(dev)
  local flags = {}
  for i, command in ipairs(conditional_of(dev.kind)) do
    flags[i] = offer.has(dev, command.opcode, command.action) and "1" or "0"
  end
  return table.concat(flags)
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
