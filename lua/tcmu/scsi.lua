--- The SCSI vocabulary: `local scsi = require "tcmu.scsi"`.
--
--   scsi.READ_10 ...            operation codes
--   scsi.action.READ_CAPACITY_16 ...   service actions
--   scsi.INVALID_FIELD_IN_CDB ...      sense values to raise (tcmu.sense)
--   scsi.status.BUSY ...        other statuses to raise
--   scsi.cdb.read_10 { lba = 0, length = 8 }   the bytes of a CDB
--   scsi.vpd(page, body)        a vital product data page
--
-- A name that does not exist raises and says which one is near.

local cdb = require "tcmu.cdb"
local decode = require "tcmu.decode"
local encode = require "tcmu.encode"
local sense = require "tcmu.sense"
local suggest = require "tcmu.suggest"

local function shout(name) return (name:upper():gsub("[^%w]+", "_")) end

local function unknown(what, name, ...)
  local near = suggest.hint(name, ...)
  error(("%s '%s'%s"):format(what, tostring(name), near), 3)
end

local scsi = {
  action = {},
  status = sense.status,
  sense = sense,
  cdb = encode.all(),
  explain = decode.explain,
}

for opcode = 0, 0xFF do
  local name = cdb.shared_name(opcode)
  if name then scsi[shout(name):gsub("_$", "")] = opcode end
end
for id, opcode, action in cdb.codes() do
  if action then scsi.action[shout(id)] = action
  else scsi[shout(id)] = opcode end
end

--- A vital product data page: four bytes of header before `body` (SPC-4 7.8).
-- `device_type` is the peripheral device type, 0 (a disk) if absent.
function scsi.vpd(page, body, device_type)
  return string.pack(">BBs2", device_type or 0, page, body)
end

setmetatable(scsi.action, { __index = function(known, name)
  unknown("no service action is called", name, known)
end })

return setmetatable(scsi, { __index = function(known, name)
  local value = sense.constant[name]
  if value == nil then unknown("tcmu.scsi has no", name, known, sense.names) end
  return value
end })
