--- Which commands a device has: handler and kind taken together.
--
-- A handler's `on` comes first: a function (or a table of functions by service
-- action) is a command of its own, `false` switches one off.  Otherwise the
-- kind's `on` counts where its `offers` agree.  REPORT SUPPORTED OPERATION
-- CODES and the VPD pages ask here, and so follow what a handler overrides.

local cdb = require "tcmu.cdb"

local offer = {}

-- What a table of commands says: true, false, or nil for nothing.
local function says(on, opcode, action)
  local entry = on and on[opcode]
  if type(entry) == "table" then entry = entry[action] end
  if entry == nil then return nil end
  return entry ~= false
end

local function kind_has(dev, opcode, action)
  local kind <const> = dev.kind
  if not says(kind.on, opcode, action) then return false end
  local when = kind.offers and kind.offers[opcode]
  if type(when) == "table" then when = when[action] end
  return when == nil or when(dev) and true or false
end

--- True if the device answers the command.  `action` is the service action of
-- opcodes that have them, otherwise nil.
function offer.has(dev, opcode, action)
  local own = says(dev.handler.on, opcode, action)
  if own ~= nil then return own end
  return kind_has(dev, opcode, action)
end

--- The order of commands: by opcode, then by service action.
function offer.before(a, b)
  if a.opcode ~= b.opcode then return a.opcode < b.opcode end
  return (a.action or 0) < (b.action or 0)
end

local function collect(found, on)
  for opcode, entry in pairs(on or {}) do
    found[opcode] = found[opcode] or {}
    if type(entry) == "table" then
      for action in pairs(entry) do found[opcode][action] = true end
    end
  end
end

--- All commands of a device in the order of opcode and service action, as
-- { opcode =, action = or nil, layout = or nil }.
function offer.list(dev)
  local found, list = {}, {}
  collect(found, dev.kind.on)
  collect(found, dev.handler.on)
  for opcode, actions in pairs(found) do
    local ones = next(actions) == nil and { false } or {}
    for action in pairs(actions) do ones[#ones + 1] = action end
    for _, action in ipairs(ones) do
      action = action or nil
      if offer.has(dev, opcode, action) then
        list[#list + 1] = {
          opcode = opcode, action = action,
          layout = cdb.layout(opcode, action, dev.kind.layouts),
        }
      end
    end
  end
  table.sort(list, offer.before)
  return list
end

return offer
