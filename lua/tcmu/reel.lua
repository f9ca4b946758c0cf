--- A tape in one file: where records, filemarks and the end of data are.
--
-- The file begins with a label of 512 bytes: "tcmu-lua tape 1\n", a byte that is
-- 1 while the tape has left its start since it was rewound, and zeroes.  Objects
-- follow each other without a gap, numbers being big-endian:
--   record        4 bytes length (1 to FFFFFFh), the data, the length again
--   filemark      4 bytes of 0
--   end of data   4 bytes FFFFFFFFh; what comes after it means nothing
-- so that a tape can be walked both ways.  Whatever is written ends with a new
-- end of data, in the same write.  All methods that touch the file wait, and
-- their caller sees to it that one runs at a time.

local core = require "tcmu.core"
local sense = require "tcmu.sense"

local reel = {}
local Reel = {}
Reel.__index = Reel

local LABEL <const> = "tcmu-lua tape 1\n"
local LEFT_AT <const> = #LABEL     -- where the label has that byte
local START <const> = 512
local WORD <const> = 4
local END <const> = 0xFFFFFFFF
local FORMAT_CORRUPTED <const> = sense.constant.MEDIUM_FORMAT_CORRUPTED
local EARLY <const> = 1 << 20       -- bytes before the end that are a warning
local FOR_MARKS <const> = 4096      -- bytes that only filemarks may use

-- Bytes that are zero in a new file.  A file system may leave as many as 64 KiB
-- before its first block.
local BLANK <const> = 1 << 20

local MARKS_AT_ONCE <const> = 1 << 16

--- The most bytes that a record may have.
reel.most = 8 << 20

--- What a filemark and the end of data have as their length.
reel.MARK = 0
reel.END = END

local function word(n) return string.pack(">I4", n) end

local function writable(dev) return dev.can.write and not dev.read_only end

-- Where a rewind ends.
local function to_start(self) self.at, self.number, self.file = START, 0, 0 end

--- The reel of a device, rewound; a file of zeroes becomes an empty tape.
-- Raises a sentence if the file is something else.  Waits.
--
-- `lost` is true if the tape was elsewhere before, which whoever had it there
-- may not know: until he finds a place nothing is to be written.
function reel.open(dev)
  local r = setmetatable({
    dev = dev, word = core.buffer(WORD),
    late_at = dev.size - math.min(EARLY, dev.size // 8),
    full_at = dev.size - FOR_MARKS - WORD,
  }, Reel)
  to_start(r)
  if dev.size < 16 * FOR_MARKS then
    error(("a tape of %d bytes is too small: it needs %d at least"):format(
          dev.size, 16 * FOR_MARKS), 0)
  end
  local label <const> = core.buffer(START)
  dev:read(label, 0)
  local text <const> = label:get()
  if text:sub(1, #LABEL) == LABEL then
    r.dirty = writable(dev)         -- a host that was killed did not flush
    r.left = text:byte(LEFT_AT + 1) == 1
    r.lost = r.left and writable(dev) and r:word_at(START) ~= END
    return r
  end
  local first <const> = core.buffer(math.min(BLANK, dev.size))
  dev:read(first, 0)
  if not first:compare(0, core.buffer(#first), 0, #first) then
    error("the file is no tape of this handler: give the name of a new file, "
          .. "or empty this one", 0)
  end
  if not writable(dev) then
    error("an empty file cannot be a tape that is read only: serve it with "
          .. "mode=rw once", 0)
  end
  local new <const> = core.buffer(START + WORD)
  new:put(0, LABEL)
  new:put(START, word(END))
  dev:write(new, 0, true)
  return r
end

-- Notes in the label whether the tape has left its start.
local function note(self, left)
  local dev <const> = self.dev
  if self.left == left or not writable(dev) then return end
  local mark = core.buffer(1)
  mark:set8(0, left and 1 or 0)
  self.left = nil                   -- unknown if that fails
  dev:write(mark, LEFT_AT, false)
  self.left = left
end

--- Goes to the start, from where it goes on: bytes from the start of the file
-- (at), objects and filemarks from the start of the tape (number, file).  The
-- place is known from now on.  Waits.
function Reel:rewind()
  to_start(self)
  self.lost = false
  pcall(note, self, false)          -- or it counts as lost after a restart
end

function Reel:at_start() return self.at == START end

--- True where an initiator should come to an end.
function Reel:late() return self.at >= self.late_at end

function Reel:word_at(at)
  self.dev:read(self.word, at)
  return self.word:u32(0)
end

-- A length as it must be for a record to lie between the ends of the tape.
local function check(length, room)
  if length > reel.most or length + 2 * WORD > room then
    error(FORMAT_CORRUPTED)
  end
  return length
end

--- What comes next: the length of a record, reel.MARK or reel.END.
function Reel:ahead()
  if self.at + WORD > self.dev.size then return END end
  local length = self:word_at(self.at)
  if length == END then return END end
  return check(length, self.dev.size - self.at)
end

--- What lies before: the length of a record, reel.MARK, or nil at the start.
function Reel:behind()
  if self:at_start() then return nil end
  local length = self:word_at(self.at - WORD)
  return check(length, self.at - START + 2 * WORD)
end

local function span(length)
  return length == reel.MARK and WORD or length + 2 * WORD
end

--- Moves over the object of this length that is ahead.  May wait.
function Reel:forward(length)
  pcall(note, self, true)           -- a tape can be read whatever becomes of it
  self.at = self.at + span(length)
  self.number = self.number + 1
  if length == reel.MARK then self.file = self.file + 1 end
end

--- Moves back over the object of this length.  Does not wait.
function Reel:back(length)
  self.at = self.at - span(length)
  self.number = self.number - 1
  if length == reel.MARK then self.file = self.file - 1 end
end

--- The data of the record ahead from its start on, as much as `buffer` has
-- room for.
function Reel:read(buffer) self.dev:read(buffer, self.at + WORD) end

--- Reads up to `n` records of exactly `length` bytes into `data` from byte `to`
-- on and moves over them.  Returns how many came before anything else.
function Reel:read_like(data, to, length, n)
  local step <const> = length + 2 * WORD
  n = math.min(n, (self.dev.size - self.at) // step)
  if n == 0 then return 0 end
  local image, mark = core.buffer(n * step), word(length)
  self.dev:read(image, self.at)
  for i = 0, n - 1 do
    if image:get(i * step, WORD) ~= mark then return i end
    data:copy(to + i * length, image, i * step + WORD, length)
    self:forward(length)
  end
  return n
end

-- `image` is what is to be here, and ends with the end of data.  Who moves on
-- behind it has noted that first.
local function put(self, image)
  self.dev:write(image, self.at, false)
  self.dirty = true
end

--- How many records of `length` bytes there is room for.
function Reel:room(length)
  return math.max(0, self.full_at - self.at) // (length + 2 * WORD)
end

--- Writes `n` records of `length` bytes, which follow each other in `data` from
-- byte `from` on.
function Reel:write(data, from, length, n)
  local image = core.buffer(n * (length + 2 * WORD) + WORD)
  local at, mark = 0, word(length)
  for i = 0, n - 1 do
    image:put(at, mark)
    image:copy(at + WORD, data, from + i * length, length)
    image:put(at + WORD + length, mark)
    at = at + length + 2 * WORD
  end
  image:put(at, word(END))
  note(self, true)
  put(self, image)
  for _ = 1, n do self:forward(length) end
end

--- Writes up to `n` filemarks and returns how many there was room for.
function Reel:mark(n)
  n = math.min(n, math.max(0, self.dev.size - WORD - self.at) // WORD)
  local left = n
  while left > 0 do
    local some = math.min(left, MARKS_AT_ONCE)
    local image = core.buffer((some + 1) * WORD)
    image:put(some * WORD, word(END))
    note(self, true)
    put(self, image)
    self.at = self.at + some * WORD
    self.number, self.file = self.number + some, self.file + some
    left = left - some
    if left > 0 then core.sleep(0) end    -- a store may never wait
  end
  return n
end

--- Ends the data here.
function Reel:erase()
  local image = core.buffer(WORD)
  image:put(0, word(END))
  put(self, image)
end

--- What was written is on stable storage.
function Reel:sync()
  if not self.dirty then return end
  if self.dev.can.flush then self.dev:flush(0, self.dev.size) end
  self.dirty = false
end

return reel
