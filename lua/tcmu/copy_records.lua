--- How copies went, by their list identifiers, until somebody has asked.
--
-- Lists of all initiators are in one pot, since a ring entry names none of
-- them; and since a device is not told either when an initiator is gone, which
-- would end the keeping, nothing is kept for long.

local core = require "tcmu.core"
local failure = require "tcmu.failure"
local sense = require "tcmu.sense"

local records = {}

--- How many copies there may be at a time, with the ended ones that are kept.
records.most = 16

--- A record's status: as COPY COMMAND STATUS has it (SPC-4 table 239).
records.IN_PROGRESS, records.GOOD, records.BAD = 0, 1, 2

--- The service actions of the commands that there are records of.
records.LID1, records.LID4, records.POPULATE, records.WRITE_USING =
  0x00, 0x01, 0x10, 0x11

local IN_PROGRESS <const>, BAD <const> = records.IN_PROGRESS, records.BAD
local RESET <const> = sense.new(0x0B, 0, 0)     -- ABORTED COMMAND
local ABORTED <const> = sense.new(0x0A, 0x2F, 0x02)     -- COMMANDS CLEARED ...
local KEPT_SECONDS <const> = 30
local CHECK_CONDITION <const>, TASK_ABORTED <const> = 0x02, 0x40
-- COPY OPERATION STATUS of one that has written less than it was asked for, of
-- one that runs, while its command does or after that, and of one that
-- something else than an error has ended (SPC-4 table 242).
local PARTIAL <const>, IN_FOREGROUND <const>, IN_BACKGROUND <const>,
      TERMINATED <const> = 0x03, 0x11, 0x12, 0x60
-- ESTIMATED STATUS UPDATE DELAY: it has ended, or nobody knows.
local ENDED <const>, UNKNOWN <const> = 0xFFFFFFFE, 0xFFFFFFFF
local BYTES <const>, BLOCKS <const> = 0x00, 0xF1        -- TRANSFER COUNT UNITS
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

--- Forgets the record with an identifier if its copy has ended: for a command
-- that uses the identifier again, before it can be refused.
function records.forget(dev, id)
  local record, i = records.find(dev, id)
  if record and record.ended then table.remove(dev.copies, i) end
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

--- A new record { dev, action, id, status, bytes = moved so far, segments =
-- begun so far, partial, background = its command is answered before }, kept
-- only if `keep`.  Raises if a copy with that identifier runs, or too many do.
function records.enter(dev, action, id, keep)
  local record = { dev = dev, action = action, id = id, status = IN_PROGRESS,
                   bytes = 0, segments = 0, resets = dev.handle():resets(),
                   waiting = {} }
  if not keep then return record end
  dev.copies = dev.copies or {}
  records.forget(dev, id)
  if records.find(dev, id) then error(IN_USE) end
  make_room(dev.copies)
  table.insert(dev.copies, record)
  return record
end

local ending <const> = { __close = function(record, why)
  if record.status == IN_PROGRESS then
    record.status = why == nil and record.done and records.GOOD or BAD
  end
  if sense.is(why) then record.failure = why end
  record.terminated = why == nil and not record.done or why == RESET
                      or why == ABORTED
  record.ended = os.time()
  for _, wake in ipairs(record.waiting) do wake() end
end }

--- Calls fn(record, ...).  However it ends, and if it is cancelled, the record
-- says so.  Waits; raises what fn raises, as a sense value: in the background
-- only the record and the log tell of it.
function records.perform(record, fn, ...)
  local _ <close> = setmetatable(record, ending)
  local good, why = xpcall(fn, function(err)
    return failure.value(record.dev, err, debug.traceback)
  end, record, ...)
  if not good then error(why, 0) end
  record.done = true
end

--- Raises if the device has been reset meanwhile, which ends copies in the
-- background too (SPC-4 5.17.4), the others are aborted with their commands; or
-- if COPY OPERATION ABORT wants it.
function records.go_on(record, dev)
  if dev.handle():resets() ~= record.resets then error(RESET, 0) end
  if record.abort then error(ABORTED, 0) end
end

--- Ends a copy before its time.  Waits until it moves nothing any more.
function records.abort(record)
  record.abort = true
  core.await(function(wake) table.insert(record.waiting, wake) end)
end

-- COPY OPERATION STATUS.
local function state_of(record)
  if not record.ended then
    return record.background and IN_BACKGROUND or IN_FOREGROUND
  end
  if record.terminated then return TERMINATED end
  return record.partial and PARTIAL or record.status
end

--- The status that a command ended with, and its sense data in one of both
-- formats or "".
function records.verdict(record, descriptor_format)
  local why <const> = record.failure
  if record.status ~= BAD then return 0, "" end
  if not why then return CHECK_CONDITION, "" end
  if why.status ~= CHECK_CONDITION then return why.status, "" end
  return CHECK_CONDITION, sense.encode(why, descriptor_format)
end

--- The first 28 bytes of the answers that tell of a copy by a list identifier
-- of four bytes, without the length, and its sense data (SPC-4 tables 240 and
-- 246).  The transfer count of the commands with tokens is in blocks, and they
-- have no segments.
function records.describe(record, dev)
  local state <const> = state_of(record)
  local status, text = records.verdict(record, true)
  if state == TERMINATED then status, text = TASK_ABORTED, "" end
  local unit, code = 1, BYTES
  if record.action >= records.POPULATE then
    unit, code = dev.block_size, BLOCKS
  end
  return string.pack(">BBI2I4BBBBI8I2c6", record.action, state,
    0,                              -- counter of commands
    record.ended and ENDED or UNKNOWN,
    status, #text, #text, code, record.bytes // unit, record.segments,
    ("\0"):rep(6)) .. text
end

return records
