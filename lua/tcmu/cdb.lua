--- CDB layouts: which field of which command is where.
--
-- The data are in tcmu.cdb_spc, cdb_sbc and so on; this file indexes them and
-- reads, writes and checks fields.  Decoding, encoding, explaining, refusing
-- reserved bits and REPORT SUPPORTED OPERATION CODES all go through here, so a
-- command that is in a table is in all of them.
--
-- A layout is { name, id, opcode, action or nil, length, direction ("in",
-- "out" or "none"), standard, fields, field }: `fields` in the order of the
-- bytes, `field` the same by name.  It also names the fields that have a role,
-- where there is one: `lba`, `blocks` (a length in blocks), `allocation` (the
-- most Data-In that is wanted, bytes) and `parameter` (the length of Data-Out,
-- bytes).  A field is { name, byte, bit, width, means, no, ignored, needs, with }.

local suggest = require "tcmu.suggest"

local cdb = {}

local VARIABLE <const> = 0x7F

-- Lengths by the upper three bits of the opcode; groups 6 and 7 are the
-- vendor's and have 10 bytes, as the kernel sees them.
local LENGTHS <const> = { [0] = 6, 10, 10, 12, 16, 12, 10, 10 }

-- Which tables a device type uses; the first that has a command wins.
local SETS <const> = {
  disk = { "spc", "sbc", "zbc" },
  cdrom = { "mmc", "spc", "sbc" },
  tape = { "ssc", "spc" },
}

local ROLES <const> = {
  logical_block_address = "lba",
  starting_logical_block_address = "lba",
  zone_id = "lba",
  zone_start_lba = "lba",
  transfer_length = "blocks",
  verification_length = "blocks",
  prefetch_length = "blocks",
  number_of_logical_blocks = "blocks",
  allocation_length = "allocation",
  parameter_list_length = "parameter",
}

--- The length of a CDB, from its first byte (and byte 7 of opcode 7Fh).
function cdb.length(bytes)
  local opcode = bytes:byte(1)
  if opcode == VARIABLE then return 8 + (bytes:byte(8) or 0) end
  return LENGTHS[opcode >> 5]
end

-- Fields --------------------------------------------------------------------

local finished = setmetatable({}, { __mode = "k" })

-- Adds to the data of a field how to read it: `format` takes the bytes it
-- touches as one number, which `shift` and `limit` cut down to the field.
local function finish(raw)
  local field = finished[raw]
  if field then return field end
  local name, byte, bit, width = table.unpack(raw)
  local bytes = (7 - bit + width + 7) // 8
  field = {
    name = name, byte = byte, bit = bit, width = width,
    means = raw.means, no = raw.no, ignored = raw.ignored, needs = raw.needs,
    with = raw.with,
    role = ROLES[name], bytes = bytes, format = ">I" .. bytes,
    shift = bytes * 8 - (7 - bit) - width,
    limit = width == 64 and -1 or (1 << width) - 1,
  }
  finished[raw] = field
  return field
end

--- The number in a field; bytes that a short CDB lacks count as 0.
function cdb.get(bytes, field)
  local missing = field.byte + field.bytes - #bytes
  if missing > 0 then bytes = bytes .. ("\0"):rep(missing) end
  return string.unpack(field.format, bytes, field.byte + 1) >> field.shift
         & field.limit
end

-- Layouts -------------------------------------------------------------------

local OPCODE <const> = { "operation_code", 0, 7, 8 }
local ACTION <const> = { "service_action", 1, 4, 5 }
local LONG_ACTION <const> = { "service_action", 8, 7, 16 }
local LONG_LENGTH <const> = { "additional_cdb_length", 7, 7, 8 }
local LONG_CONTROL <const> = { "control", 1, 7, 8, no = true }
local CONTROLS <const> = {}         -- length -> field
for _, length in ipairs { 6, 10, 12, 16 } do
  CONTROLS[length] = { "control", length - 1, 7, 8, no = true }
end

local function identifier(name)
  return (name:lower():gsub("[^%w]+", "_"):gsub("_$", ""))
end

-- Layouts are made when first asked for: a state that serves a disk needs a
-- dozen of the hundred.
local function layout_of(raw)
  if raw.layout then return raw.layout end
  local name, opcode, direction, data = table.unpack(raw)
  local long <const> = opcode == VARIABLE
  local length <const> = long and 32 or LENGTHS[opcode >> 5]
  local layout = {
    name = name, id = identifier(name), opcode = opcode, action = raw.action,
    length = length, direction = direction, standard = raw.standard,
    fields = {}, field = {},
  }

  local function add(field)
    layout.fields[#layout.fields + 1] = field
    layout.field[field.name] = field
    if field.role then layout[field.role] = field end
  end
  add(finish(OPCODE))
  for _, field in ipairs(data) do add(finish(field)) end
  if raw.action then add(finish(long and LONG_ACTION or ACTION)) end
  if long then add(finish(LONG_LENGTH)) end
  add(finish(long and LONG_CONTROL or CONTROLS[length]))
  table.sort(layout.fields, function(a, b)
    if a.byte ~= b.byte then return a.byte < b.byte end
    return a.bit > b.bit
  end)
  raw.layout = layout
  return layout
end

local function new_set(names)
  local set = { by_opcode = {}, by_id = {}, shared = {} }
  for _, part in ipairs(names) do
    local data = require("tcmu.cdb_" .. part)
    for opcode, name in pairs(data.shared) do set.shared[opcode] = name end
    for _, raw in ipairs(data.commands) do
      raw.standard = data.standard
      local opcode, id = raw[2], identifier(raw[1])
      if raw.action then
        set.by_opcode[opcode] = set.by_opcode[opcode] or { actions = {} }
        local actions = set.by_opcode[opcode].actions
        if actions and not actions[raw.action] then
          actions[raw.action], set.by_id[id] = raw, raw
        end
      elseif not set.by_opcode[opcode] then
        set.by_opcode[opcode], set.by_id[id] = raw, raw
      end
    end
  end
  return set
end

local sets = {}

local function set_of(kind)
  kind = kind or "disk"
  local set = sets[kind]
  if set then return set end
  if not SETS[kind] then
    error(("no CDB layouts for '%s'%s"):format(tostring(kind),
          suggest.hint(kind, SETS)), 3)
  end
  set = new_set(SETS[kind])
  sets[kind] = set
  return set
end

--- The layout for a CDB, or nil if none is known.  `kind` is the device type
-- whose tables are meant, "disk" if absent.
function cdb.find(bytes, kind)
  local entry = set_of(kind).by_opcode[bytes:byte(1)]
  if entry and entry.actions then
    local field = finish(bytes:byte(1) == VARIABLE and LONG_ACTION or ACTION)
    entry = entry.actions[cdb.get(bytes, field)]
  end
  return entry and layout_of(entry)
end

--- The layout for an opcode and, where the opcode has them, a service action.
-- nil if there is none, or if one is given and the other expected.
function cdb.layout(opcode, action, kind)
  local entry = set_of(kind).by_opcode[opcode]
  if entry and entry.actions then entry = entry.actions[action]
  elseif action then return nil end
  return entry and layout_of(entry)
end

--- The layout with an id such as "read_10", or nil.
function cdb.by_id(id, kind)
  local raw = set_of(kind).by_id[id]
  return raw and layout_of(raw)
end

--- The ids of all commands of a device type, as keys.
function cdb.ids(kind) return set_of(kind).by_id end

--- Iterates over id, opcode and service action (or nil) of all commands,
-- in no order.
function cdb.codes(kind)
  local ids = set_of(kind).by_id
  local id, raw
  return function()
    id, raw = next(ids, id)
    if id then return id, raw[2], raw.action end
  end
end

--- True if the opcode's meaning lies in a service action.
function cdb.has_actions(opcode, kind)
  local entry = set_of(kind).by_opcode[opcode]
  return entry ~= nil and entry.actions ~= nil
end

--- The standard's name for an opcode that has service actions, or nil.
function cdb.shared_name(opcode, kind) return set_of(kind).shared[opcode] end

--- All layouts of a device type, in the order of opcode and service action.
function cdb.all(kind)
  local list = {}
  for _, raw in pairs(set_of(kind).by_id) do
    list[#list + 1] = layout_of(raw)
  end
  table.sort(list, function(a, b)
    if a.opcode ~= b.opcode then return a.opcode < b.opcode end
    return (a.action or 0) < (b.action or 0)
  end)
  return list
end

-- Masks ---------------------------------------------------------------------

local function supported(field, can)
  if field.no then return false end
  return not field.needs or (can ~= nil and can[field.needs] == true)
end

-- The bytes of a mask with a 1 for every bit of every field that may be set;
-- `looked_at`: of those alone that mean something.
local function mask_bytes(layout, can, looked_at)
  local mask = {}
  for i = 1, layout.length do mask[i] = 0 end
  for _, field in ipairs(layout.fields) do
    if supported(field, can) and not (looked_at and field.ignored) then
      local bits = field.limit << field.shift
      for i = field.bytes, 1, -1 do
        mask[field.byte + i] = mask[field.byte + i] | bits & 0xFF
        bits = bits >> 8
      end
    end
  end
  return mask
end

--- CDB usage data as REPORT SUPPORTED OPERATION CODES gives them (SPC-4):
-- the opcode and the service action themselves, otherwise a 1 for
-- every bit that the device server looks at and accepts.  `can` is dev.can.
function cdb.usage(layout, can)
  local mask = mask_bytes(layout, can, true)
  mask[1] = layout.opcode
  local action = layout.field.service_action
  if layout.opcode == VARIABLE then
    mask[8], mask[9], mask[10] = layout.length - 8, layout.action >> 8,
                                 layout.action & 0xFF
  elseif action then
    mask[2] = mask[2] & ~action.limit | layout.action
  end
  return string.char(table.unpack(mask))
end

--- A mask with a 1 for every bit that may be set: what usage data promise, and
-- what the standard wants to be ignored.
function cdb.allowed(layout, can)
  return string.char(table.unpack(mask_bytes(layout, can)))
end

--- Where a CDB uses something that is not allowed: the byte and, unless the
-- field is whole bytes, its leftmost bit; nil if it is all right.
function cdb.violation(layout, bytes, can)
  local mask = mask_bytes(layout, can)
  for i = 2, layout.length do
    local wrong = bytes:byte(i) & ~mask[i]
    if wrong ~= 0 then
      for _, field in ipairs(layout.fields) do
        if field.byte < i and i <= field.byte + field.bytes
           and not supported(field, can) and cdb.get(bytes, field) ~= 0
           and field.name ~= "control" then
          return field.byte, field.width % 8 ~= 0 and field.bit or nil
        end
      end
      local bit = 7
      while wrong & 1 << bit == 0 do bit = bit - 1 end
      return i - 1, bit
    end
  end
  return nil
end

return cdb
