--- Sense values: how a command fails, as an ordinary Lua error value.
--
-- A sense value is immutable and says which status a command ends with and,
-- for CHECK CONDITION, which sense data go with it.  Handlers raise one
-- (`error(scsi.INVALID_FIELD_IN_CDB:at(2))`); the host encodes it in the
-- format that D_SENSE asks for.  The same object is what `sense.decode` makes
-- of bytes.

local bytes_of = require "tcmu.sense_bytes"
local codes = require "tcmu.sense_codes"
local suggest = require "tcmu.suggest"

local sense = {}

-- Every field a value can have; an unknown name reads as nil all the same,
-- since code that looks at an error must be able to ask.
--   status            SAM status byte; 02h for sense
--   name              the constant's name, if it is one
--   key, asc, ascq
--   pointer           { byte =, bit = or nil, cdb = boolean }
--   progress          0 to 65535
--   information, command_specific
--   filemark, eom, ili
--   deferred, format  only from decode
local DATA <const> = {}             -- the key under which the fields hide
local CHECK_CONDITION <const> = 0x02

local methods = {}
local meta = { __name = "tcmu.sense" }
sense.meta = meta

local function new(fields)
  return setmetatable({ [DATA] = fields }, meta)
end

local function with(value, changes)
  local fields = {}
  for k, v in pairs(value[DATA]) do fields[k] = v end
  for k, v in pairs(changes) do fields[k] = v end
  return new(fields)
end

function meta.__index(value, field)
  local method = methods[field]
  if method then return method end
  return rawget(value, DATA)[field]
end

function meta.__newindex(_, field)
  error(("a sense value cannot be changed (field '%s'); its methods return "
         .. "changed copies"):format(tostring(field)), 2)
end

function meta.__eq(a, b)
  if getmetatable(a) ~= meta or getmetatable(b) ~= meta then return false end
  return sense.describe(a) == sense.describe(b)
end

function meta.__tostring(value) return sense.describe(value) end

--- A copy that says where in the CDB the bad field is: byte from 0, and the
-- leftmost bit of the field if it is not whole bytes (SPC-4 4.5.2.4).
function methods.at(value, byte, bit)
  return with(value, { pointer = { byte = byte, bit = bit, cdb = true } })
end

--- The same for a field of the parameter list (Data-Out).
function methods.at_param(value, byte, bit)
  return with(value, { pointer = { byte = byte, bit = bit, cdb = false } })
end

--- A copy with INFORMATION: for block commands the LBA in question.
function methods.info(value, n) return with(value, { information = n }) end

--- A copy with COMMAND-SPECIFIC INFORMATION.
function methods.specific(value, n)
  return with(value, { command_specific = n })
end

--- A copy with a progress indication, from 0 to 65535 (SPC-4 4.5.2.4).
function methods.progressing(value, n) return with(value, { progress = n }) end

--- A copy with any of the stream flags: { filemark=, eom=, ili= }.
function methods.stream(value, flags)
  return with(value, { filemark = flags.filemark or nil,
                       eom = flags.eom or nil, ili = flags.ili or nil })
end

--- True if both mean the same thing: status, key, ASC and ASCQ, whatever
-- details either carries.
function methods.is(value, other)
  return getmetatable(other) == meta and value.status == other.status
         and value.key == other.key and value.asc == other.asc
         and value.ascq == other.ascq
end

--- A sense value of any key and code; named constants are in tcmu.scsi.
function sense.new(key, asc, ascq)
  assert(codes.keys[key], "a sense key is a number from 0 to 15")
  assert(math.type(asc) == "integer" and asc >= 0 and asc <= 255,
         "an additional sense code is a number from 0 to 255")
  return new { status = CHECK_CONDITION, key = key, asc = asc,
               ascq = ascq or 0 }
end

--- True if `value` is a sense or status value.
function sense.is(value) return getmetatable(value) == meta end

-- Names ---------------------------------------------------------------------

local texts = {}                    -- asc << 8 | ascq -> text
local lines = {}                    -- constant name -> { key, asc, ascq }

local function constant_name(text)
  return (text:upper():gsub("[^%w]+", "_"):gsub("_$", ""))
end

for key, asc, ascq, text in
    codes.texts:gmatch("(%x) (%x%x) (%x%x) ([^\n]+)\n") do
  asc, ascq = tonumber(asc, 16), tonumber(ascq, 16)
  texts[asc << 8 | ascq] = text
  lines[constant_name(text)] = { tonumber(key, 16), asc, ascq }
end

--- The standard text of a code, or nil.
function sense.text(asc, ascq)
  local text = texts[asc << 8 | ascq]
  if text then return text end
  local range = codes.ranges[asc]
  return range and range:format(ascq)
end

function sense.key_name(key) return codes.keys[key] end
function sense.status_name(status) return codes.statuses[status] end

--- The constants, made when first asked for: `sense.constant[NAME]` is a
-- value or nil.
sense.constant = setmetatable({}, { __index = function(cache, name)
  local line = lines[name]
  if not line then return nil end
  local value = new { status = CHECK_CONDITION, name = name, key = line[1],
                      asc = line[2], ascq = line[3] }
  rawset(cache, name, value)
  return value
end })

--- All constant names, as keys: for "did you mean" and for documentation.
sense.names = lines

--- The status values: `sense.status.BUSY` and so on.  CHECK CONDITION is none
-- of them: raise a sense value instead.
sense.status = {}
for status, text in pairs(codes.statuses) do
  if status ~= CHECK_CONDITION then
    local name = constant_name(text)
    sense.status[name] = new { status = status, name = name }
  end
end
setmetatable(sense.status, { __index = function(known, name)
  error(("no status is called '%s'%s"):format(tostring(name),
        suggest.hint(name, known)), 2)
end })

-- errno name and number -> { on read, on write }
local errors = {}
for _, line in ipairs(require "tcmu.sense_errno") do
  local name, number, on_read, on_write = table.unpack(line)
  errors[name] = { on_read, on_write }
  errors[number] = errors[name]
end

--- The sense or status value for an errno, given by name ("ENOSPC") or as a
-- number of either sign.  One that is not in the table is a medium error.
function sense.from_errno(errno, is_write)
  if math.type(errno) == "integer" then errno = math.abs(errno) end
  local name = (errors[errno] or errors.EIO)[is_write and 2 or 1]
  local status = name:match("^status%.(.*)")
  return status and sense.status[status] or sense.constant[name]
end

-- Bytes ---------------------------------------------------------------------

--- Sense data for a value: 18 bytes in fixed format, 8 and more in descriptor
-- format.
function sense.encode(value, descriptor_format)
  if value.status ~= CHECK_CONDITION then
    error(("%s carries no sense data"):format(sense.describe(value)), 2)
  end
  return (descriptor_format and bytes_of.descriptor or bytes_of.fixed)(value)
end

--- The sense value that sense data mean, with two more fields: `format`
-- ("fixed" or "descriptor") and `deferred`.  For bytes that are no sense data:
-- nil and a message.
function sense.decode(bytes)
  local fields, message = bytes_of.read(bytes)
  if not fields then return nil, message end
  fields.status = CHECK_CONDITION
  return new(fields)
end

--- One sentence for a value or for sense bytes: "ILLEGAL REQUEST: INVALID
-- FIELD IN CDB (24h/00h) in CDB byte 1 bit 4".
function sense.describe(value)
  if type(value) == "string" then
    local decoded, message = sense.decode(value)
    if not decoded then return message end
    value = decoded
  end
  if value.status ~= CHECK_CONDITION then
    return codes.statuses[value.status] or ("status %02Xh"):format(value.status)
  end

  local out = { ("%s: %s (%02Xh/%02Xh)"):format(
    codes.keys[value.key],
    sense.text(value.asc, value.ascq) or "a code without a name",
    value.asc, value.ascq) }
  local pointer = value.pointer
  if pointer then
    out[#out + 1] = ("in %s byte %d"):format(
      pointer.cdb and "CDB" or "parameter list", pointer.byte)
    if pointer.bit then out[#out + 1] = ("bit %d"):format(pointer.bit) end
  end
  if value.information then
    out[#out + 1] = ("with INFORMATION %u"):format(value.information)
  end
  if value.command_specific then
    out[#out + 1] = ("with COMMAND-SPECIFIC INFORMATION %d")
                    :format(value.command_specific)
  end
  if value.progress then
    out[#out + 1] = ("at %d %%"):format(value.progress * 100 // 65536)
  end
  for _, flag in ipairs { "filemark", "eom", "ili" } do
    if value[flag] then out[#out + 1] = "with " .. flag:upper() end
  end
  if value.deferred then out[#out + 1] = "(deferred)" end
  return table.concat(out, " ")
end

return sense
