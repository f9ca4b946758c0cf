--- Where a zoned disk's write pointers and zone conditions outlive a restart.
--
-- A store with a head of one page, which says how the zones were laid out,
-- and a record of 16 bytes per zone: blocks written (8 bytes), condition (1),
-- a mark that the record was ever written (1), and how many blocks the latest
-- write had (4).  A store of zeroes is one of empty zones.

local core = require "tcmu.core"

local zone_state = {}

local HEAD <const> = 4096
local HEAD_FORMAT <const> = ">c16I8I8I8I8"
local MAGIC <const> = "tcmu-lua zones 1"
local RECORD <const> = ">I8BBxxI4"
local RECORD_SIZE <const> = 16
local CHUNK <const> = 4096          -- records read or written at once
local MARK <const> = 0x5A

-- A lock far behind the end of any medium: one command at a time writes.
local LOCK <const> = math.maxinteger - 1

local State = {}
State.__index = State

--- How many bytes a store for so many zones needs.
function zone_state.size(count) return HEAD + count * RECORD_SIZE end

local function refuse(text) error("the zone state " .. text, 0) end

-- The head of a store, against the layout that is wanted; a new store gets
-- one.
local function check_head(store, layout, block_size)
  local buffer = core.buffer(HEAD)
  store:read(buffer, 0)
  local magic, length, count, conventional, size =
    HEAD_FORMAT:unpack(buffer:get(0, HEAD_FORMAT:packsize()))
  if magic == ("\0"):rep(#MAGIC) then
    buffer:put(0, HEAD_FORMAT:pack(MAGIC, layout.length, layout.count,
                                   layout.conventional, block_size))
    store:write(buffer, 0, true)
    return
  end
  if magic ~= MAGIC then
    refuse "is something else: move that file away and all zones are empty"
  end
  if length ~= layout.length or count ~= layout.count
     or conventional ~= layout.conventional or size ~= block_size then
    refuse(("is of %d zones of %d bytes, %d of them conventional, in blocks of "
            .. "%d bytes: use the device's former options, or move the file "
            .. "away and all zones are empty"):format(count, length * size,
                                                      conventional, size))
  end
end

local function load_records(store, layout)
  for first = 0, layout.count - 1, CHUNK do
    local n = math.min(CHUNK, layout.count - first)
    local buffer = core.buffer(n * RECORD_SIZE)
    store:read(buffer, HEAD + first * RECORD_SIZE)
    local bytes = buffer:get()
    for i = 0, n - 1 do
      local written, condition, mark, last =
        RECORD:unpack(bytes, i * RECORD_SIZE + 1)
      local known <const> = mark == MARK
        and layout:restore(first + i, condition, written, last)
      if mark ~= 0 and not known then
        refuse(("is damaged at zone %d: bring the file back from a backup, or "
                .. "move it away and all zones are empty"):format(first + i))
      end
    end
  end
end

--- Takes the state of `layout` (of tcmu.zones) from a store and keeps it there
-- from now on.  Waits; raises one sentence if the store is for other zones.
function zone_state.open(store, layout, block_size)
  check_head(store, layout, block_size)
  load_records(store, layout)
  return setmetatable({ store = store, layout = layout }, State)
end

-- Numbers of changed zones in runs that follow each other: { first, last }.
local function runs_of(changed)
  local list, runs = {}, {}
  for n in pairs(changed) do list[#list + 1] = n end
  table.sort(list)
  for _, n in ipairs(list) do
    local run = runs[#runs]
    if run and n == run[2] + 1 and n - run[1] < CHUNK then
      run[2] = n
    else
      runs[#runs + 1] = { n, n }
    end
  end
  return runs
end

local function write_run(state, first, last)
  local layout <const> = state.layout
  local buffer, over = core.buffer((last - first + 1) * RECORD_SIZE), false
  -- Whatever ends this before its end: the zones are still to be written.
  local _ <close> = setmetatable({}, { __close = function()
    for n = first, over and first - 1 or last do layout.changed[n] = true end
  end })
  for n = first, last do
    buffer:put((n - first) * RECORD_SIZE,
               RECORD:pack(layout:written(n), layout.condition[n], MARK,
                           layout.last[n] or 0))
    layout.changed[n] = nil
  end
  state.store:write(buffer, HEAD + first * RECORD_SIZE)
  over = true
end

--- Writes down what has changed; `stable`: on stable storage when it returns.
-- Waits; raises.
function State:save(stable)
  local _ <close> = core.lock(nil, LOCK, 1)
  for _, run in ipairs(runs_of(self.layout.changed)) do
    write_run(self, run[1], run[2])
  end
  if stable then self.store:flush() end
end

--- What was saved is on stable storage.  Waits; raises.
function State:flush() self.store:flush() end

return zone_state
