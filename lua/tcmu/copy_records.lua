--- How copies went, by their list identifiers, until somebody has asked.
--
-- Lists of all initiators are in one pot, since a ring entry names none of
-- them; and since a device is not told either when an initiator is gone, which
-- would end the keeping, nothing is kept for long.

local sense = require "tcmu.sense"

local records = {}

--- How many copies there may be at a time, with the ended ones that are kept.
records.most = 16

--- A record's status: as COPY MANAGER STATUS has it (SPC-4 table 239).
records.IN_PROGRESS, records.GOOD, records.BAD = 0, 1, 2

local IN_PROGRESS <const>, BAD <const> = records.IN_PROGRESS, records.BAD
local CLEARED <const> = sense.new(0x0B, 0, 0)   -- ABORTED COMMAND
local KEPT_SECONDS <const> = 30
local CHECK_CONDITION <const> = 0x02
-- COPY OPERATION STATUS of one that runs, and of one that something else than
-- an error has ended (SPC-4 table 242).
local IN_BACKGROUND <const>, TERMINATED <const> = 0x12, 0x60
-- ILLEGAL REQUEST with OPERATION IN PROGRESS: the list identifier is in use.
local IN_USE <const> = sense.new(0x05, 0x00, 0x16)

-- Forgets what has ended a while ago.
local function tidy(copies)
  for i = #copies, 1, -1 do
    local ended = copies[i].ended
    if ended and os.time() - ended > KEPT_SECONDS then
      table.remove(copies, i)
    end
  end
end

--- The record with an identifier, or nil.
function records.find(dev, id)
  local copies = dev.copies or {}
  tidy(copies)
  for i, record in ipairs(copies) do
    if record.id == id then return record, i end
  end
end

--- Forgets a record.
function records.forget(dev, id)
  local _, i = records.find(dev, id)
  if i then table.remove(dev.copies, i) end
end

-- The oldest that has ended makes room.
local function make_room(copies)
  if #copies < records.most then return end
  for i, record in ipairs(copies) do
    if record.ended then
      table.remove(copies, i)
      return
    end
  end
  error(sense.status.BUSY)
end

--- A new record { id, status, bytes = moved so far, segments = done so far },
-- kept only if `keep`.  Raises if a copy with that identifier runs, or too many
-- do.
function records.enter(dev, id, keep)
  local record = { id = id, status = IN_PROGRESS, bytes = 0, segments = 0,
                   resets = dev.handle():resets() }
  if not keep then return record end
  dev.copies = dev.copies or {}
  local old <const> = records.find(dev, id)
  if old and old.status == IN_PROGRESS then error(IN_USE) end
  records.forget(dev, id)
  make_room(dev.copies)
  table.insert(dev.copies, record)
  return record
end

local ending <const> = { __close = function(record, why)
  if record.status == IN_PROGRESS then
    record.status = why == nil and record.done and records.GOOD or BAD
  end
  if sense.is(why) then record.failure = why end
  record.ended = os.time()
end }

--- Calls fn(record, ...).  However it ends, and if it is cancelled, the record
-- says so.  Waits; raises what fn raises.
function records.perform(record, fn, ...)
  local _ <close> = setmetatable(record, ending)
  fn(record, ...)
  record.done = true
end

--- Raises if the device has been reset meanwhile, which ends copies in the
-- background too (SPC-4 5.17.4); the others are aborted with their commands.
function records.go_on(record, dev)
  if dev.handle():resets() ~= record.resets then error(CLEARED) end
end

--- The first 28 bytes of the answers that tell of a copy by a list identifier
-- of four bytes, without the length, and its sense data (SPC-4 tables 240 and
-- 246).  `action` is the command's; the transfer count is in `unit`s, coded as
-- `code`.
function records.describe(record, action, unit, code)
  local state = record.status
  if state == IN_PROGRESS then state = IN_BACKGROUND end
  if record.failure == CLEARED then state = TERMINATED end
  local text = record.failure and record.failure.status == CHECK_CONDITION
               and sense.encode(record.failure, true) or ""
  return string.pack(">BBI2I4BBBBI8I2c6", action,
    state,
    0, 0,                           -- counter, estimated delay
    record.status == BAD and CHECK_CONDITION or 0,
    #text, #text, code, record.bytes // unit, record.segments,
    ("\0"):rep(6)) .. text
end

return records
