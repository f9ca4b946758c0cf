--- The simulated devices of one `tcmu-lua try`, and how commands go to them.
--
-- One device per shard, all of the same handler with the same options.  What
-- is sent is explained first; what comes back is shown.

local blame = require "tcmu.cli.blame"
local cdb = require "tcmu.cdb"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local show = require "tcmu.cli.show"
local sim = require "tcmu.sim"

local session = {}

local ROOM <const> = 4096           -- for answers of unknown length

local Session = {}
Session.__index = Session

--- Opens devices.  `options`: shards, size, block_size, options (the
-- handler's, as text).
-- @return a session with the fields devices, current (a number), blocks,
-- block_size; or nil and why not, see tcmu.cli.blame
function session.open(path, options)
  local shards <const> = options.shards or 1
  local host = sim.host { shards = shards,
                          memory_limit = core.memory() // 4 }
  core.log_level "debug"            -- has the traceback of an open that failed
  local s = setmetatable({
    host = host, devices = {}, current = 1, block_size = options.block_size,
    blocks = options.size // options.block_size,
  }, Session)
  for i = 1, shards do
    io.stdout:flush()
    local dev, why = host:device(path, {
      options = options.options, size = options.size,
      block_size = options.block_size, name = "disk" .. i,
      serial = ("TRY%05d"):format(i),
    })
    if not dev then
      host:close()
      core.log_level "info"
      return nil, blame.text(path, why)
    end
    s.devices[i] = dev
  end
  core.log_level "info"
  return s
end

--- The CDB that reads or writes: 10 bytes where they suffice, else 16.
function session.transfer(verb, lba, blocks)
  local long = lba > 0xFFFFFFFF or blocks > 0xFFFF
  return scsi.cdb[verb .. (long and "_16" or "_10")] {
    lba = lba, length = blocks,
  }
end

--- The device that commands go to.
function Session:device() return self.devices[self.current] end

-- What goes with a CDB: Data-Out as long as the CDB says, with zeroes; or room
-- for the answer of a command that only the handler knows.
function Session:transfer_of(bytes, data)
  local layout = cdb.find(bytes)
  if not layout then return data or { data_in = ROOM } end
  if layout.direction ~= "out" then return data end
  local want = 0
  if layout.parameter then want = cdb.get(bytes, layout.parameter)
  elseif layout.id:find("^write_same") then want = self.block_size
  elseif layout.blocks then
    -- COMPARE AND WRITE: what there should be, then what there shall be.
    local times = layout.id == "compare_and_write" and 2 or 1
    want = cdb.get(bytes, layout.blocks) * self.block_size * times
  end
  data = data or ""
  return data .. ("\0"):rep(want - #data)
end

-- Who returns nothing leaves the room for an answer as it was.
local function is_nothing(bytes, result)
  return #result.data == ROOM and not cdb.find(bytes)
         and not result.data:find("[^\0]")
end

--- Explains a CDB, sends it with Data-Out if there is some, and shows the
-- result, which it returns; nil if the command is never answered.
function Session:send(bytes, data)
  local dev = self:device()
  show.cdb(bytes)
  io.stdout:flush()                 -- the log goes to standard error
  local before = dev:now()
  local ok, result = pcall(dev.cmd, dev, bytes, self:transfer_of(bytes, data))
  if not ok then
    print((result:gsub("^%S+:%d+: ", "")))
    return nil
  end
  if is_nothing(bytes, result) then result.data = "" end
  show.result(bytes, result, dev:now() - before)
  return result
end

--- Loads the handler's file again and says how that went.
function Session:reload()
  io.stdout:flush()
  local ok, why = self.host:reload()
  print(ok and "Reloaded."
        or "Not reloaded, the handler in service stays: " .. why)
end

--- Closes the devices.
function Session:close()
  io.stdout:flush()
  self.host:close()
end

Session.__close = Session.close

return session
