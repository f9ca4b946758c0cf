--- Sense data as bytes, in both formats.
--
-- Fixed format is 18 bytes (SPC-4 4.5.3); descriptor format is a header of 8
-- bytes and a list of descriptors (SPC-4 4.5.2).  Reads and makes plain tables
-- with the fields that tcmu.sense lists; users want tcmu.sense, which wraps
-- them.

local bytes_of = {}

-- The three sense-key specific bytes, or nil (SPC-4 4.5.2.4).
local function key_specific(value)
  local pointer = value.pointer
  if pointer then
    local flags = 0x80 | (pointer.cdb and 0x40 or 0)
    if pointer.bit then flags = flags | 0x08 | pointer.bit end
    return string.pack(">BI2", flags, pointer.byte)
  end
  if value.progress then return string.pack(">BI2", 0x80, value.progress) end
  return nil
end

local function stream_flags(value)
  return (value.filemark and 0x80 or 0) | (value.eom and 0x40 or 0)
         | (value.ili and 0x20 or 0)
end

-- A number that needs more than 32 bits has no place in fixed format: then
-- VALID is 0 (SPC-4 4.5.3).
function bytes_of.fixed(value)
  local information, valid = value.information or 0, 0
  if value.information then
    if math.ult(information, 1 << 32) then valid = 0x80 else information = 0 end
  end
  local specific = value.command_specific or 0
  if not math.ult(specific, 1 << 32) then specific = 0 end
  return string.pack(">BBBI4BI4BBBc3", 0x70 | valid, 0,
                     value.key | stream_flags(value), information, 10,
                     specific, value.asc, value.ascq, 0,
                     key_specific(value) or "\0\0\0")
end

function bytes_of.descriptor(value)
  local list = {}
  if value.information then
    list[#list + 1] = string.pack(">BBBBi8", 0, 0x0A, 0x80, 0,
                                  value.information)
  end
  if value.command_specific then
    list[#list + 1] = string.pack(">BBBBi8", 1, 0x0A, 0, 0,
                                  value.command_specific)
  end
  local specific = key_specific(value)
  if specific then
    list[#list + 1] = string.pack(">BBBBc3B", 2, 6, 0, 0, specific, 0)
  end
  if stream_flags(value) ~= 0 then
    list[#list + 1] = string.pack(">BBBB", 4, 2, 0, stream_flags(value))
  end
  local body = table.concat(list)
  return string.pack(">BBBBBBBB", 0x72, value.key, value.asc, value.ascq,
                     0, 0, 0, #body) .. body
end

local function read_key_specific(fields, bytes, at)
  local flags, number = string.unpack(">BI2", bytes, at)
  if flags & 0x80 == 0 then return end
  if fields.key == 0x5 then
    fields.pointer = { byte = number, cdb = flags & 0x40 ~= 0,
                       bit = flags & 0x08 ~= 0 and flags & 0x07 or nil }
  elseif fields.key == 0x0 or fields.key == 0x2 then
    fields.progress = number
  end
end

local function read_flags(fields, byte)
  fields.filemark = byte & 0x80 ~= 0 or nil
  fields.eom = byte & 0x40 ~= 0 or nil
  fields.ili = byte & 0x20 ~= 0 or nil
end

local readers = {                   -- descriptor type -> reader
  [0] = { 0x0A, function(fields, bytes, at)
    if bytes:byte(at + 2) & 0x80 ~= 0 then
      fields.information = string.unpack(">i8", bytes, at + 4)
    end
  end },
  [1] = { 0x0A, function(fields, bytes, at)
    fields.command_specific = string.unpack(">i8", bytes, at + 4)
  end },
  [2] = { 0x06, function(fields, bytes, at)
    read_key_specific(fields, bytes, at + 4)
  end },
  [4] = { 0x02, function(fields, bytes, at)
    read_flags(fields, bytes:byte(at + 3))
  end },
  [5] = { 0x02, function(fields, bytes, at)
    fields.ili = bytes:byte(at + 3) & 0x20 ~= 0 or nil
  end },
}

local function decode_descriptors(fields, bytes)
  local last = math.min(#bytes, 8 + (bytes:byte(8) or 0))
  local at = 9
  while at + 1 <= last do
    local kind, length = bytes:byte(at, at + 1)
    local reader = readers[kind]
    if reader and length >= reader[1] and at + 1 + length <= last then
      reader[2](fields, bytes, at)
    end
    at = at + 2 + length
  end
end

local function decode_fixed(fields, bytes)
  read_flags(fields, bytes:byte(3))
  bytes = bytes .. ("\0"):rep(18 - #bytes)
  if bytes:byte(1) & 0x80 ~= 0 then
    fields.information = string.unpack(">I4", bytes, 4)
  end
  local specific = string.unpack(">I4", bytes, 9)
  if specific ~= 0 then fields.command_specific = specific end
  fields.asc, fields.ascq = bytes:byte(13, 14)
  read_key_specific(fields, bytes, 16)
end

--- The fields that sense data mean, or nil and a message.
function bytes_of.read(bytes)
  local code = #bytes >= 3 and bytes:byte(1) & 0x7F
  local fields = { deferred = code == 0x71 or code == 0x73 }
  if code == 0x70 or code == 0x71 then
    fields.format, fields.key = "fixed", bytes:byte(3) & 0x0F
    decode_fixed(fields, bytes)
  elseif (code == 0x72 or code == 0x73) and #bytes >= 4 then
    fields.format, fields.key = "descriptor", bytes:byte(2) & 0x0F
    fields.asc, fields.ascq = bytes:byte(3, 4)
    decode_descriptors(fields, bytes)
  else
    return nil, "these bytes are not sense data: the first must be 70h to 73h"
  end
  return fields
end

return bytes_of
