--- Commands of a tape (SSC-3 clauses 5 to 7) on a tcmu.reel.
--
-- Commands take effect one after the other, in the order in which they come.
-- A READ that meets a filemark, the end of the data or a block of another
-- length tells so by CHECK CONDITION and gives what it has read all the same:
-- INFORMATION is what is missing of what was asked for.  A function gets the
-- handler's `self`, the command and its layout; the CDB has passed tcmu.guard.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local medium = require "tcmu.medium"
local reel = require "tcmu.reel"
local sense = require "tcmu.sense"

local ssc = {}

local BLANK_CHECK <const>, VOLUME_OVERFLOW <const> = 0x8, 0xD
local FILEMARK <const> =
  sense.constant.FILEMARK_DETECTED:stream { filemark = true }
local END_OF_DATA <const> = sense.new(BLANK_CHECK, 0x00, 0x05)
local START_OF_TAPE <const> =
  sense.constant.BEGINNING_OF_PARTITION_MEDIUM_DETECTED:stream { eom = true }
local NEAR_END <const> =
  sense.constant.END_OF_PARTITION_MEDIUM_DETECTED:stream { eom = true }
local FULL <const> = sense.new(VOLUME_OVERFLOW, 0x00, 0x02)
  :stream { eom = true }
local OTHER_LENGTH <const> =
  sense.constant.NO_ADDITIONAL_SENSE_INFORMATION:stream { ili = true }
local UNKNOWN_FORMAT <const> =
  sense.constant.CANNOT_READ_MEDIUM_UNKNOWN_FORMAT
local CHANGED <const> =
  sense.constant.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED
local RESET <const> =
  sense.constant.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
local FORWARD <const>, BACKWARD <const> = 1, -1

-- Bytes and number of small blocks that are moved, and of those that are wound
-- over, before others have their turn: the file may be one that never waits.
local BYTES_AT_ONCE <const>, BLOCKS_AT_ONCE <const> = 1 << 20, 2048
local STEPS_AT_ONCE <const> = 256

-- A byte of the device that nothing else locks: what holds it has the tape.
local TAPE <const> = 1 << 62

--- Makes of an answer one that has the tape for itself.  It was meant for the
-- tape that was there when it came, and while it waits that may be changed: the
-- unit attention goes to one command alone.
function ssc.in_turn(answer)
  return function(self, cmd, layout)
    local dev <const> = cmd.dev
    local meant <const> = dev.tape
    local _ <close> = require("tcmu").lock(self, TAPE, 1)
    if dev.not_ready then dev.not_ready(cmd) end
    if dev.tape ~= meant then error(CHANGED) end
    return answer(self, cmd, layout)
  end
end

-- INFORMATION of a residue, which may be negative, in fixed format.
local function missing(value, n) return value:info(n & 0xFFFFFFFF) end

-- How many blocks of how many bytes, for READ and WRITE.
local function amount(cmd, layout, tape)
  local n <const> = guard.field(cmd, layout, "transfer_length")
  if guard.field(cmd, layout, "fixed") == 0 then
    if n > reel.most then guard.refuse(layout, "transfer_length") end
    return n > 0 and 1 or 0, n, false
  end
  if tape.block_size == 0 then guard.refuse(layout, "fixed") end
  return n, tape.block_size, true
end

-- How many of `n` blocks that are left to move now, after the first `done`.
local function part(n, size, done)
  if done > 0 then core.sleep(0) end
  return math.min(n, BLOCKS_AT_ONCE, math.max(1, BYTES_AT_ONCE // size))
end

-- READ ----------------------------------------------------------------------

-- What lies ahead instead of a block, when `n` more were wanted: raises.
local function stopped(tape, length, n)
  if length == reel.END then error(missing(END_OF_DATA, n)) end
  if length == reel.MARK then
    tape:forward(length)
    error(missing(FILEMARK, n))
  end
end

local function read_fixed(cmd, layout, tape, n, size)
  local data <const> = cmd.data
  if #data < n * size then guard.refuse(layout, "transfer_length") end
  local done = 0
  while done < n do
    local want = part(n - done, size, done)
    local got = tape:read_like(data, done * size, size, want)
    done = done + got
    if got < want then
      cmd:moved(done * size)
      local length = tape:ahead()
      stopped(tape, length, n - done)
      tape:forward(length)
      error(missing(OTHER_LENGTH, n - done))
    end
  end
  if #data > n * size then return data:get(0, n * size) end
  return nil
end

-- SILI: a block that is shorter is no matter, nor is a longer one as long as no
-- block length is set (SSC-3 5.15).
local function read_variable(cmd, layout, tape, n)
  local data <const> = cmd.data
  local length <const> = tape:ahead()
  stopped(tape, length, n)
  local buffer = data
  local take <const> = math.min(length, n, #data)
  if take < #data then buffer = require("tcmu").buffer(take) end
  tape:read(buffer)
  tape:forward(length)
  local silent <const> = guard.field(cmd, layout, "sili") == 1
                         and (length < n or tape.block_size == 0)
  if length ~= n and not silent then
    if buffer ~= data then data:copy(0, buffer) end
    cmd:moved(take)
    error(missing(OTHER_LENGTH, n - length))
  end
  if buffer ~= data then return buffer end
  return nil
end

--- READ (6).
function ssc.read(_, cmd, layout)
  local tape <const> = cmd.dev.tape
  local n, size, fixed = amount(cmd, layout, tape)
  if fixed and guard.field(cmd, layout, "sili") == 1 then
    guard.refuse(layout, "sili")
  end
  if n == 0 then return "" end
  if fixed then return read_fixed(cmd, layout, tape, n, size) end
  return read_variable(cmd, layout, tape, size)
end

-- WRITE ---------------------------------------------------------------------

-- That the tape is rewound is told once, perhaps to somebody else: each write
-- tells it again until the initiator has found its place.
local function check_writable(dev)
  extent.check_writable(dev)
  if dev.tape.lost then error(RESET) end
end

--- WRITE (6).  Near the end of the tape it still writes, but says so; blocks
-- that do not fit are told in INFORMATION.
function ssc.write(_, cmd, layout)
  local tape <const> = cmd.dev.tape
  check_writable(cmd.dev)
  local n, size, fixed = amount(cmd, layout, tape)
  if #cmd.data < n * size then guard.refuse(layout, "transfer_length") end
  if n == 0 then return end
  local fit <const> = math.min(n, tape:room(size))
  local done = 0
  while done < fit do
    local some = part(fit - done, size, done)
    tape:write(cmd.data, done * size, size, some)
    done = done + some
  end
  if fit < n then error(missing(FULL, fixed and n - fit or size)) end
  if tape:late() then error(missing(NEAR_END, 0)) end
end

--- WRITE FILEMARKS (6): unless IMMED, all is on stable storage.
function ssc.write_filemarks(_, cmd, layout)
  local tape <const> = cmd.dev.tape
  check_writable(cmd.dev)
  local n <const> = guard.field(cmd, layout, "filemark_count")
  local done <const> = tape:mark(n)
  if guard.field(cmd, layout, "immed") == 0 then tape:sync() end
  if done < n then error(missing(FULL, n - done)) end
  if n > 0 and tape:late() then error(missing(NEAR_END, 0)) end
end

--- ERASE (6): nothing comes after where the tape is; with LONG its space is
-- given back.
function ssc.erase(_, cmd, layout)
  local dev <const>, tape <const> = cmd.dev, cmd.dev.tape
  check_writable(dev)
  tape:erase()
  if guard.field(cmd, layout, "long") == 1 and dev.can.unmap then
    local from <const> = tape.at + 4096 - tape.at % 4096
    if from < dev.size then dev:unmap(from, dev.size - from) end
  end
  tape:sync()
end

-- Position ------------------------------------------------------------------

-- Moves over one object; returns what it was (nil: there is none).
local function step(tape, direction)
  if tape.number % STEPS_AT_ONCE == 0 then core.sleep(0) end
  local length
  if direction == FORWARD then
    length = tape:ahead()
    if length == reel.END then return nil end
    tape:forward(length)
  else
    length = tape:behind()
    if length then tape:back(length) end
  end
  return length
end

local function no_more(direction, n)
  local value <const> = direction == FORWARD and END_OF_DATA or START_OF_TAPE
  error(missing(value, n))
end

local space = {}

-- Blocks; a filemark ends the way, behind it in its direction.
space[0] = function(tape, direction, n)
  for left = n, 1, -1 do
    local length = step(tape, direction)
    if not length then no_more(direction, left) end
    if length == reel.MARK then error(missing(FILEMARK, left)) end
  end
end

space[1] = function(tape, direction, n)
  while n > 0 do
    local length = step(tape, direction)
    if not length then no_more(direction, n) end
    if length == reel.MARK then n = n - 1 end
  end
end

-- That many filemarks one after the other.
space[2] = function(tape, direction, n)
  local run = 0
  while run < n do
    local length = step(tape, direction)
    if not length then no_more(direction, n) end
    run = length == reel.MARK and run + 1 or 0
  end
end

space[3] = function(tape)
  while step(tape, FORWARD) do end
  tape.lost = false
end

--- SPACE (6).
function ssc.space(_, cmd, layout)
  local move <const> = space[guard.field(cmd, layout, "code")]
  if not move then guard.refuse(layout, "code") end
  local count = guard.field(cmd, layout, "count")
  if count & 0x800000 ~= 0 then count = count - (1 << 24) end
  move(cmd.dev.tape, count < 0 and BACKWARD or FORWARD, math.abs(count))
end

--- REWIND.  What was written is on stable storage first.
function ssc.rewind(_, cmd)
  cmd.dev.tape:sync()
  cmd.dev.tape:rewind()
end

--- LOCATE (10): from here or from the start, whichever is nearer.  BT makes no
-- difference: the numbers are those of READ POSITION either way.
function ssc.locate(_, cmd, layout)
  local tape <const> = cmd.dev.tape
  local goal <const> = guard.field(cmd, layout, "logical_object_identifier")
  if goal < tape.number // 2 then tape:rewind() end
  while tape.number > goal do step(tape, BACKWARD) end
  while tape.number < goal do
    if not step(tape, FORWARD) then error(END_OF_DATA) end
  end
  tape.lost = false
end

local function place(tape)
  return (tape:at_start() and 0x80 or 0) | (tape:late() and 0x40 or 0)
end

--- READ POSITION, short form: nothing is held in a buffer (SSC-3 table 74).
-- The vendor's numbers of blocks, for which Linux asks, are the same.
function ssc.position_short(_, cmd)
  local tape <const> = cmd.dev.tape
  local number <const> = tape.number & 0xFFFFFFFF
  return string.pack(">BBI2I4I4BI3I4", place(tape), 0, 0, number, number,
                     0, 0, 0)
end

--- READ POSITION, long form, which counts filemarks besides.
function ssc.position_long(_, cmd)
  local tape <const> = cmd.dev.tape
  return string.pack(">BI3I4I8I8I8", place(tape), 0, 0, tape.number, tape.file,
                     0)
end

-- The medium ----------------------------------------------------------------

--- LOAD UNLOAD: the tape is rewound, as by REWIND.  EOT and RETEN are only ways
--- to wind.
function ssc.load_unload(self, cmd, layout)
  local dev <const> = cmd.dev
  if guard.field(cmd, layout, "load") == 0 then
    medium.eject(self, dev)
  else
    if medium.present(dev) then dev.tape:sync() end
    medium.load(self, dev)
    dev.tape:rewind()
  end
end

--- kind.ejected: the tape leaves the drive rewound.
function ssc.ejected(self, dev)
  -- Also if the command is aborted while the label is written.
  local _ <close> = setmetatable({}, { __close = function()
    medium.release(self, dev)
  end })
  dev.tape:rewind()
end

--- kind.loading: the tape is what the handler's `reload` gives.
function ssc.loading(self, dev)
  local block_size <const> = dev.tape.block_size
  medium.reload(self, dev)
  local good, tape = pcall(reel.open, dev)
  if not good then
    medium.release(self, dev)
    require("tcmu").log(tostring(tape), "error")
    error(UNKNOWN_FORMAT)
  end
  dev.tape, tape.block_size = tape, block_size
end

--- READ BLOCK LIMITS: from one byte on, in steps of one.
function ssc.read_block_limits()
  return string.pack(">BI3I2", 0, reel.most, 1)
end

return ssc
