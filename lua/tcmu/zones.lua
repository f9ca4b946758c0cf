--- The zones of a zoned disk: write pointers, conditions and who may be open.
--
-- The state machine of ZBC clause 4.4.3 for conventional and sequential write
-- required zones.  Nothing here waits; what has changed is noted in `changed`
-- for tcmu.zone_state.
--
--            write                CLOSE, or a place is needed
--   EMPTY ----------> IMPLICITLY -----------------------------> CLOSED
--     | OPEN            OPEN  | OPEN        (EMPTY, with nothing written)
--     `--------------> EXPLICITLY OPEN -- CLOSE --> CLOSED
--   written to the end, FINISH: any -> FULL      RESET: any -> EMPTY

local sense = require "tcmu.sense"

local zones = {}

--- Zone conditions (ZBC, REPORT ZONES).
zones.condition = {
  NOT_WRITE_POINTER = 0x0, EMPTY = 0x1, IMPLICITLY_OPEN = 0x2,
  EXPLICITLY_OPEN = 0x3, CLOSED = 0x4, FULL = 0xE,
}

local NOT_WRITE_POINTER <const> = zones.condition.NOT_WRITE_POINTER
local EMPTY <const> = zones.condition.EMPTY
local IMPLICIT <const> = zones.condition.IMPLICITLY_OPEN
local EXPLICIT <const> = zones.condition.EXPLICITLY_OPEN
local CLOSED <const> = zones.condition.CLOSED
local FULL <const> = zones.condition.FULL

local UNALIGNED <const> = sense.constant.UNALIGNED_WRITE_COMMAND
local BOUNDARY <const> = sense.constant.WRITE_BOUNDARY_VIOLATION
local INVALID_FIELD <const> = sense.constant.INVALID_FIELD_IN_CDB
local NO_PLACE <const> = sense.constant.INSUFFICIENT_ZONE_RESOURCES

local Set = {}
Set.__index = Set

--- Zones of `length` blocks each, `count` of them, the first `conventional`
-- without a write pointer, the others empty; at most `max_open` of them open at
-- a time, any number if it is 0.  Zones are numbered from 0.
function zones.new(length, count, conventional, max_open)
  local set = setmetatable({
    length = length, count = count, conventional = conventional,
    max_open = max_open, open = 0, turn = 0,
    changed = {},                   -- numbers of zones to be written down
    since = {},                     -- implicitly open zone -> its turn
    last = {},                      -- blocks of the zone's latest write
    again = {},                     -- the same, of before a restart
    condition = {}, pointer = {},   -- by number; pointers are LBAs
  }, Set)
  for n = 0, count - 1 do
    set.condition[n] = n < conventional and NOT_WRITE_POINTER or EMPTY
    set.pointer[n] = n * length
  end
  return set
end

local function is_open(condition)
  return condition == IMPLICIT or condition == EXPLICIT
end

local function put(set, n, condition)
  local before <const> = set.condition[n]
  if is_open(before) then set.open = set.open - 1 end
  if is_open(condition) then set.open = set.open + 1 end
  if condition ~= IMPLICIT then
    set.since[n] = nil
  elseif before ~= IMPLICIT then
    set.turn = set.turn + 1
    set.since[n] = set.turn
  end
  set.condition[n] = condition
  set.changed[n] = true
end

--- Takes over what a restart has left of a zone; false if that cannot be.
-- `last` is the length of the latest write, 0 if there was none.
function Set:restore(n, condition, written, last)
  local fits
  if n < self.conventional then
    fits = condition == NOT_WRITE_POINTER and written == 0
  elseif condition == EMPTY then
    fits = written == 0
  elseif condition == FULL then
    fits = written == self.length
  elseif is_open(condition) then
    fits = written >= 0 and written < self.length
  else
    fits = condition == CLOSED and written > 0 and written < self.length
  end
  if not fits or last > written then return false end
  put(self, n, condition)
  self.last[n] = last > 0 and last or nil
  self.again[n] = self.last[n]
  self.pointer[n] = n * self.length + written
  self.changed[n] = nil
  return true
end

--- The number of the zone that has a block.
function Set:at(lba) return lba // self.length end

--- The blocks of a zone that have been written since its last reset.
function Set:written(n) return self.pointer[n] - n * self.length end

--- True if the zone has no write pointer.
function Set:is_conventional(n) return n < self.conventional end

-- Places for open zones -----------------------------------------------------

local function close(set, n)
  put(set, n, set:written(n) == 0 and EMPTY or CLOSED)
end

-- Sees to it that one more zone can be open: the one that has been open
-- implicitly for the longest time is closed (ZBC 4.4.3.4).
local function make_place(set)
  while set.max_open > 0 and set.open >= set.max_open do
    local oldest
    for n, turn in pairs(set.since) do
      if not oldest or turn < set.since[oldest] then oldest = n end
    end
    if not oldest then error(NO_PLACE) end
    close(set, oldest)
  end
end

-- Writing -------------------------------------------------------------------

-- Conventional zones take writes anywhere, up to the first that is not one.
local function admit_anywhere(set, lba, blocks)
  if lba + blocks > set.conventional * set.length then error(BOUNDARY) end
end

-- A host that was killed may have moved the pointer and not answered yet; then
-- the kernel's ring has the command still, and it comes once more, the first in
-- its zone.
local function comes_again(set, n, lba, blocks)
  local again <const> = set.again[n]
  set.again[n] = nil
  return again == blocks and lba + blocks == set.pointer[n]
end

--- Raises unless a write of `blocks` (not 0) at `lba`, which are on the medium,
-- is allowed now; opens its zone.
-- @return true if the write pointer has to move
function Set:admit(lba, blocks)
  local n <const> = self:at(lba)
  if n < self.conventional then
    admit_anywhere(self, lba, blocks)
    return false
  end
  if lba + blocks > (n + 1) * self.length then error(BOUNDARY) end
  if comes_again(self, n, lba, blocks) then return false end
  if self.condition[n] == FULL then error(INVALID_FIELD:at(2)) end
  if lba ~= self.pointer[n] then error(UNALIGNED) end
  if not is_open(self.condition[n]) then
    make_place(self)
    put(self, n, IMPLICIT)
  end
  return true
end

--- Moves the write pointer behind what has been written.
function Set:advance(n, blocks)
  self.pointer[n] = self.pointer[n] + blocks
  self.last[n] = blocks
  local condition = self.condition[n]
  if self:written(n) == self.length then
    condition = FULL
  elseif condition == EMPTY then    -- closed while the write was under way
    condition = CLOSED
  end
  put(self, n, condition)
end

-- Zone management -----------------------------------------------------------

local function jump(set, n, condition, lba)
  put(set, n, condition)
  set.pointer[n] = lba
  set.last[n], set.again[n] = nil, nil
end

--- OPEN ZONE: a zone that is full stays full.
function Set:open_zone(n)
  local condition <const> = self.condition[n]
  if condition == FULL or condition == EXPLICIT then return end
  if condition ~= IMPLICIT then make_place(self) end
  put(self, n, EXPLICIT)
end

--- CLOSE ZONE: does nothing to a zone that is not open.
function Set:close_zone(n)
  if is_open(self.condition[n]) then close(self, n) end
end

--- FINISH ZONE: the write pointer goes to the end.
function Set:finish_zone(n)
  if self.condition[n] == FULL then return end
  jump(self, n, FULL, (n + 1) * self.length)
end

--- RESET WRITE POINTER.
function Set:reset_zone(n)
  if self.condition[n] == EMPTY then return end
  jump(self, n, EMPTY, n * self.length)
end

-- Which zones a command with ALL is about (ZBC clause 5).
local ABOUT <const> = {
  open_zone = { [CLOSED] = true },
  close_zone = { [IMPLICIT] = true, [EXPLICIT] = true },
  finish_zone = { [IMPLICIT] = true, [EXPLICIT] = true, [CLOSED] = true },
  reset_zone = { [IMPLICIT] = true, [EXPLICIT] = true, [CLOSED] = true,
                 [FULL] = true },
}

--- The zones that `verb` ("open_zone" ...) means when ALL is set.  Raises if
-- they cannot all be open together.
function Set:all(verb)
  local about <const>, list = ABOUT[verb], {}
  for n = self.conventional, self.count - 1 do
    if about[self.condition[n]] then list[#list + 1] = n end
  end
  if verb == "open_zone" and self.max_open > 0 then
    local explicit = self.open
    for _ in pairs(self.since) do explicit = explicit - 1 end
    if explicit + #list > self.max_open then error(NO_PLACE) end
  end
  return list
end

-- Reading -------------------------------------------------------------------

--- for lba, blocks in set:data(lba, blocks): those parts of a range that hold
-- data: not what lies behind a write pointer.
function Set:data(lba, blocks)
  local finish <const> = lba + blocks
  return function()
    while lba < finish do
      local first <const>, n = lba, self:at(lba)
      lba = math.min(finish, (n + 1) * self.length)
      local last = n < self.conventional and lba
                   or math.min(lba, self.pointer[n])
      if last > first then return first, last - first end
    end
  end
end

return zones
