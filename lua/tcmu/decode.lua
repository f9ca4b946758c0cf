--- CDBs as named fields, as rows of a table, and as one English sentence.
--
-- Everything comes from the layouts in tcmu.cdb; this file has no knowledge of
-- single commands except the sentences at the top, which are worded for the
-- commands that people meet most.

local cdb = require "tcmu.cdb"
local names = require "tcmu.cdb_names"

local decode = {}

-- Sentences by id without its number; {x} is the value of field x.  Fields that
-- a sentence does not mention follow it where they are not zero.
local SENTENCES <const> = {
  test_unit_ready = "asks whether the device is ready",
  request_sense = "asks for sense data, at most {allocation_length} bytes",
  report_luns = "asks for the list of logical units",
  read = "reads {transfer_length} blocks from LBA {logical_block_address}",
  write = "writes {transfer_length} blocks from LBA {logical_block_address}",
  write_and_verify = "writes and verifies {transfer_length} blocks from LBA "
                     .. "{logical_block_address}",
  verify = "verifies {verification_length} blocks from LBA "
           .. "{logical_block_address}",
  synchronize_cache = "puts {number_of_logical_blocks} blocks from LBA "
                      .. "{logical_block_address} on the medium",
  write_same = "writes one block to {number_of_logical_blocks} blocks from "
               .. "LBA {logical_block_address}",
  unmap = "unmaps what its parameter list of {parameter_list_length} bytes "
          .. "names",
  compare_and_write = "compares {number_of_logical_blocks} blocks from LBA "
                      .. "{logical_block_address} and writes them if equal",
  read_capacity = "asks for the size of the device",
}

-- READ (6) and WRITE (6): a TRANSFER LENGTH of 0 means 256 (SBC-2).
local function number_of(layout, field, value)
  if value == 0 and layout.length == 6 and field.name == "transfer_length" then
    return 256
  end
  return value
end

local function title(field) return (field.name:upper():gsub("_", " ")) end

local function is_address(field)
  return field.role == "lba" or field.width >= 16
end

-- Codes are given in hex as the standards do, lengths and addresses plain.
local function show(field, value)
  if field.role or is_address(field) then return ("%u"):format(value) end
  if field.width <= 3 then return tostring(value) end
  return ("%02Xh"):format(value)
end

-- Fields that say something only where another one is set: PAGE CODE of
-- INQUIRY is about a page with EVPD alone, and must be 0 without.
local function idle(layout, field, bytes)
  return field.with and cdb.get(bytes, layout.field[field.with]) == 0
end

local function meaning_of(layout, field, bytes)
  local value = cdb.get(bytes, field)
  if idle(layout, field, bytes) then
    return value ~= 0 and "must be 0 without " .. field.with:upper() or ""
  end
  if field.name == "operation_code" then
    return cdb.shared_name(value) or layout.name
  elseif field.name == "service_action" then
    return layout.name
  elseif field.name == "control" and value & 0x04 ~= 0 then
    return "NACA"
  end
  local meanings = field.means and names[field.means]
  return meanings and meanings[value] or ""
end

--- The fields of a CDB by name, as numbers; fields of one bit as booleans.
-- nil for a command that no layout describes.
function decode.fields(bytes, kind)
  local layout = cdb.find(bytes, kind)
  if not layout then return nil end
  local fields = {}
  for _, field in ipairs(layout.fields) do
    local value = cdb.get(bytes, field)
    if field.width == 1 then fields[field.name] = value == 1
    else fields[field.name] = number_of(layout, field, value) end
  end
  return fields
end

--- The standard's name of the command, or "opcode C1h" and the like.
function decode.name(bytes, kind)
  local layout = cdb.find(bytes, kind)
  if layout then return layout.name end
  local opcode = bytes:byte(1)
  local shared = cdb.shared_name(opcode, kind)
  if not shared then return ("opcode %02Xh"):format(opcode) end
  local action = opcode == 0x7F and #bytes >= 10
                 and string.unpack(">I2", bytes, 9)
                 or (bytes:byte(2) or 0) & 0x1F
  return ("%s, service action %02Xh"):format(shared, action)
end

-- The bits that belong to no field and are not 0, as pairs of byte and bits.
local function strays(layout, bytes)
  local found = {}
  for i = 2, math.min(#bytes, layout.length) do
    local left = bytes:byte(i)
    for _, field in ipairs(layout.fields) do
      if field.byte < i and i <= field.byte + field.bytes then
        local bits = field.limit << field.shift
        left = left & ~(bits >> 8 * (field.byte + field.bytes - i) & 0xFF)
      end
    end
    if left ~= 0 then found[#found + 1] = { i - 1, left } end
  end
  return found
end

--- Rows for a table of a CDB, in the order of its bytes:
-- { byte =, bit =, width =, field = "LOGICAL BLOCK ADDRESS", value =,
--   text = value as the standards would write it, meaning = a name or "" }.
-- Reserved bits that are not 0 are rows with the field "RESERVED".  nil for a
-- command that no layout describes.
function decode.table(bytes, kind)
  local layout = cdb.find(bytes, kind)
  if not layout then return nil end
  local rows = {}
  for _, field in ipairs(layout.fields) do
    local value = cdb.get(bytes, field)
    rows[#rows + 1] = {
      byte = field.byte, bit = field.bit, width = field.width,
      field = title(field), value = value, text = show(field, value),
      meaning = number_of(layout, field, value) ~= value and "256 blocks"
                or meaning_of(layout, field, bytes),
    }
  end
  for _, stray in ipairs(strays(layout, bytes)) do
    rows[#rows + 1] = {
      byte = stray[1], bit = 7, width = 8, field = "RESERVED",
      value = stray[2], text = ("%02Xh"):format(stray[2]),
      meaning = "must be 0",
    }
  end
  table.sort(rows, function(a, b)
    if a.byte ~= b.byte then return a.byte < b.byte end
    if a.bit ~= b.bit then return a.bit > b.bit end
    return a.field < b.field
  end)
  return rows
end

-- "FUA, PAGE CODE = 08h (Caching)" for what `said` does not have yet.
local function rest(layout, bytes, said)
  local list = {}
  for _, field in ipairs(layout.fields) do
    local value = cdb.get(bytes, field)
    local fixed = field.name == "operation_code"
                  or field.name == "service_action"
                  or field.name == "additional_cdb_length"
    local named = meaning_of(layout, field, bytes)
    local silent = value == 0 and (field.role ~= "allocation" and named == "")
    if not (fixed or silent or said[field.name]) then
      if field.width == 1 then
        if value == 1 then list[#list + 1] = title(field) end
      else
        list[#list + 1] = ("%s = %s%s"):format(title(field),
          show(field, value), named ~= "" and " (" .. named .. ")" or "")
      end
    end
  end
  for _, stray in ipairs(strays(layout, bytes)) do
    list[#list + 1] = ("reserved bits %02Xh in byte %d"):format(stray[2],
                                                                stray[1])
  end
  return table.concat(list, ", ")
end

--- One English sentence for a CDB, with the standard's names.
function decode.explain(bytes, kind)
  if #bytes == 0 then return "An empty CDB." end
  local layout = cdb.find(bytes, kind)
  if not layout then
    return ("%s is a command that no table here describes."):format(
      decode.name(bytes, kind):gsub("^opcode", "Opcode"))
  end

  local said = {}
  local sentence = SENTENCES[(layout.id:gsub("_%d+$", ""))]
  local text = layout.name
  if sentence then
    text = text .. " " .. sentence:gsub("{([%w_]+)}", function(name)
      local field = layout.field[name]
      if not field then return "?" end
      said[name] = true
      return show(field, number_of(layout, field, cdb.get(bytes, field)))
    end):gsub(" 1 blocks", " 1 block")
  end
  local more = rest(layout, bytes, said)
  if more ~= "" then
    text = text .. (sentence and ", with " or " with ") .. more
  end
  if #bytes < layout.length then
    text = ("%s (only %d of its %d bytes are here)"):format(text, #bytes,
                                                            layout.length)
  end
  return text .. "."
end

return decode
