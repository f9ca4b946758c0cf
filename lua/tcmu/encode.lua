--- CDBs from field names and values, the reverse of tcmu.decode.
--
-- For initiators: the simulator, the command line, specs.  Users reach it as
-- `scsi.cdb.read_10 { lba = 0, length = 8 }`.  Strict about names and ranges,
-- but it makes any CDB that fits, also one that our devices refuse.

local cdb = require "tcmu.cdb"
local suggest = require "tcmu.suggest"

local encode = {}

-- What else a field may be called when a CDB is made.
local ALIASES <const> = {
  lba = { "lba" },
  blocks = { "blocks" },
  length = { "allocation", "blocks", "parameter" },
  page = { "page_code" },
}

local function field_called(layout, name)
  local field = layout.field[name]
  if field then return field end
  for _, other in ipairs(ALIASES[name] or {}) do
    field = layout[other] or layout.field[other]
    if type(field) == "table" then return field end
  end
  error(("%s has no field '%s'%s"):format(layout.name, tostring(name),
        suggest.hint(name, layout.field, ALIASES)), 4)
end

--- The bytes of a command.  `values` has numbers or booleans by field name;
-- `lba`, `blocks` and `length` stand for the fields with these roles.  Raises
-- for a name that the command does not have and for a number that does not
-- fit.
function encode.bytes(layout, values)
  local bytes = {}
  for i = 1, layout.length do bytes[i] = 0 end
  local function put(field, value)
    if value == true then value = 1 elseif value == false then value = 0 end
    if math.type(value) ~= "integer" or value & ~field.limit ~= 0 then
      error(("%s: %s must be a whole number from 0 to %u, not %s"):format(
            layout.name, field.name, field.limit, tostring(value)), 4)
    end
    local bits = value << field.shift
    for i = field.byte + field.bytes, field.byte + 1, -1 do
      bytes[i] = bytes[i] | bits & 0xFF
      bits = bits >> 8
    end
  end
  put(layout.field.operation_code, layout.opcode)
  if layout.action then put(layout.field.service_action, layout.action) end
  if layout.opcode == 0x7F then
    put(layout.field.additional_cdb_length, layout.length - 8)
  end
  for name, value in pairs(values or {}) do
    put(field_called(layout, name), value)
  end
  return string.char(table.unpack(bytes))
end

--- A table of encoders by id: `encoders.read_10 { lba = 0, length = 8 }`.  An
-- id that does not exist raises.
function encode.all(kind)
  return setmetatable({}, { __index = function(cache, id)
    local layout = cdb.by_id(id, kind)
    if not layout then
      error(("no command is called '%s'%s"):format(tostring(id),
            suggest.hint(id, cdb.ids(kind))), 2)
    end
    local function make(values) return encode.bytes(layout, values) end
    rawset(cache, id, make)
    return make
  end })
end

return encode
