--- What stands before every command that the host answers itself.
--
-- A device kind lists its commands by id; `guard.commands` turns the list into
-- the `on` and `offers` tables of a kind.  Before a command's function runs,
-- every bit of the CDB that REPORT SUPPORTED OPERATION CODES does not promise
-- must be 0: reserved bits, NACA, protection fields and what this device
-- cannot do.  So what is advertised and what is enforced come from one table.

local cdb = require "tcmu.cdb"
local sense = require "tcmu.sense"

local guard = {}

local INVALID_FIELD <const> = sense.constant.INVALID_FIELD_IN_CDB
local FORMATS <const> = {           -- CDB length -> its bytes as integers
  [6] = ">I6", [10] = ">I8I2", [12] = ">I8I4", [16] = ">I8I8",
  [32] = ">I8I8I8I8",
}
local EVERYTHING <const> = setmetatable({}, {
  __index = function() return true end,
})

--- Fails the command with INVALID FIELD IN CDB and points to a field.
function guard.refuse(layout, name)
  local field = layout.field[name]
  error(INVALID_FIELD:at(field.byte, field.width % 8 ~= 0 and field.bit or nil))
end

--- The number in a field of the command's CDB, 0 if the layout has no such
-- field.
function guard.field(cmd, layout, name)
  local field = layout.field[name]
  return field and cdb.get(cmd.cdb, field) or 0
end

--- The Data-Out that the CDB announces, as a string; a buffer of the fabric
-- that is shorter fails the command, what is longer is ignored.
function guard.parameters(cmd, layout)
  local length <const> = cdb.get(cmd.cdb, layout.parameter)
  if length == 0 then return "" end
  if #cmd.data < length then guard.refuse(layout, layout.parameter.name) end
  return cmd.data:get(0, length)
end

-- A function that raises unless the CDB uses only what is promised.  The test
-- of all bits at once is for the common case; the table tells what is wrong.
local function checker(layout)
  local format <const> = FORMATS[layout.length]
  local a, b, c, d = string.unpack(format, cdb.allowed(layout, EVERYTHING))
  local demanding = {}
  for _, field in ipairs(layout.fields) do
    if field.needs and not field.no then demanding[#demanding + 1] = field end
  end

  local differs                     -- the last result of unpack is a position
  if layout.length == 6 then
    function differs(w) return w & ~a ~= 0 end
  elseif layout.length <= 16 then
    function differs(w, x) return (w & ~a | x & ~b) ~= 0 end
  else
    function differs(w, x, y, z)
      return (w & ~a | x & ~b | y & ~c | z & ~d) ~= 0
    end
  end

  local function fail(bytes, can)
    local byte, bit = cdb.violation(layout, bytes, can)
    error(INVALID_FIELD:at(byte, bit))
  end

  return function(bytes, can)
    if #bytes ~= layout.length then error(INVALID_FIELD:at(7)) end
    if differs(string.unpack(format, bytes)) then fail(bytes, EVERYTHING) end
    for i = 1, #demanding do
      local field = demanding[i]
      if not can[field.needs] and cdb.get(bytes, field) ~= 0 then
        fail(bytes, can)
      end
    end
  end
end

local function guarded(layout, answer)
  local check <const> = checker(layout)
  return function(self, cmd)
    check(cmd.cdb, cmd.dev.can)
    return answer(self, cmd, layout)
  end
end

--- Makes `on` and `offers` of a device kind.  `list` maps ids of commands to
-- functions `answer(self, cmd, layout)` or to { answer, when = f }, where
-- `f(dev)` says whether this device has the command.  `kind` names the layouts
-- ("disk" if absent).
function guard.commands(list, kind)
  local on, offers = {}, {}
  local function put(where, layout, value)
    if layout.action then
      where[layout.opcode] = where[layout.opcode] or {}
      where[layout.opcode][layout.action] = value
    else
      where[layout.opcode] = value
    end
  end
  for id, entry in pairs(list) do
    local layout = assert(cdb.by_id(id, kind), id)
    if type(entry) == "function" then entry = { entry } end
    put(on, layout, guarded(layout, entry[1]))
    if entry.when then put(offers, layout, entry.when) end
  end
  return on, offers
end

return guard
