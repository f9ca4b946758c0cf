--- A tape of handlers/tape.lua, and what an initiator asks of it.
local assert = require "luassert"
local encode = require "tcmu.encode"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = encode.all "tape"

local drive = {
  make = make,                          -- CDBs
  SIZE = 1 << 20,
  BLANK = 0x8, OVERFLOW = 0xD,          -- sense keys
}

local dev, path

--- Turns the drive on; `mode` is added to the handler's options.
-- @return the device, or nil and why the handler refuses
function drive.on(mode)
  local opened, why = sim.device("handlers/tape.lua", {
    size = drive.SIZE, options = "path=" .. path .. (mode or "") })
  if opened then dev = opened end
  return opened, why
end

--- The same, and it has told of its power on.
function drive.open(mode)
  assert(drive.on(mode))
  assert.has.sense(dev:cmd(make.test_unit_ready()),
                   scsi.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
  return dev
end

--- Makes a tape and opens the drive; clean() closes and removes them.
-- @return the device, and the path of its file
function drive.start()
  path = os.tmpname()
  os.remove(path)
  return drive.open(), path
end

function drive.clean()
  dev:close()
  os.remove(path)
end

--- Sends what has to end with GOOD; its data.
function drive.good(cdb, data)
  local r = dev:cmd(cdb, data or { data_in = 0 })
  assert.is.good(r)
  return r.data
end

--- Writes a block of variable length.
function drive.write(text)
  drive.good(make.write_6 { blocks = #text }, text)
end

function drive.marks(n)
  drive.good(make.write_filemarks_6 { filemark_count = n })
end

function drive.rewind() drive.good(make.rewind()) end

function drive.space(code, count)
  return dev:cmd(make.space_6 { code = code, count = count & 0xFFFFFF },
                 { data_in = 0 })
end

--- Reads a block of variable length, up to n bytes.
function drive.read(n, fields)
  local cdb = { blocks = n }
  for k, v in pairs(fields or {}) do cdb[k] = v end
  return dev:cmd(make.read_6(cdb), { data_in = n })
end

--- Sets the length of fixed blocks.
function drive.blocks_of(size)
  local list = string.pack(">BBBBBI3BI3", 0, 0, 0x10, 8, 0, 0, 0, size)
  drive.good(make.mode_select_6 { pf = 1, length = #list }, list)
end

function drive.read_blocks(n, size)
  return dev:cmd(make.read_6 { fixed = 1, blocks = n }, { data_in = n * size })
end

--- The numbers of the next object and of the file that it is in, and whether
-- that is the start.
function drive.position()
  local data = drive.good(make.read_position_long(), { data_in = 32 })
  local number, file = string.unpack(">I8I8", data, 9)
  return number, file, data:byte(1) & 0x80 ~= 0
end

--- A result has to be NO SENSE with a flag, or another key, and say what was
-- missing.
function drive.stopped(r, key, ascq, flag, missing)
  assert.has.status(r, 0x02)
  assert.same({ key, 0x00, ascq, missing },
              { r.sense.key, r.sense.asc, r.sense.ascq, r.sense.information })
  for _, name in ipairs { "filemark", "eom", "ili" } do
    assert.equal(name == flag, r.sense[name] == true, name)
  end
end

return drive
