--- A disk of handlers/zoned.lua, small, and what an initiator asks of it.
local assert = require "luassert"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local ZONE <const> = 128                -- blocks
local ZONES <const>, CONVENTIONAL <const>, MOST <const> = 8, 2, 3

local disk = {
  BLOCK = BLOCK, ZONE = ZONE, ZONES = ZONES, CONVENTIONAL = CONVENTIONAL,
  MOST = MOST,                          -- open zones
  SIZE = ZONES * ZONE * BLOCK,
  FIRST = CONVENTIONAL * ZONE,          -- the first block with a write pointer
}

local dev, path

--- Opens the disk, with other options of sim.device() if told; or nil and why.
function disk.open(more)
  local options = ("path=%s;create=yes;zone_size=%d;conventional=%d;"
                   .. "max_open=%d"):format(path, ZONE * BLOCK, CONVENTIONAL,
                                            MOST)
  local of = { size = disk.SIZE, options = options, max_sectors = 2 * ZONE }
  for key, value in pairs(more or {}) do of[key] = value end
  local opened, why = sim.device("handlers/zoned.lua", of)
  if opened then dev = opened end
  return opened, why
end

--- Makes one; clean() closes and removes it.
-- @return the device, and the path of its file
function disk.make()
  path = os.tmpname()
  os.remove(path)
  return assert(disk.open()), path
end

function disk.clean()
  dev:close()
  os.remove(path)
  os.remove(path .. ".zones")
end

--- So many blocks of one byte.
function disk.data(byte, n) return byte:rep(BLOCK * (n or 1)) end

--- The first block of a zone.
function disk.start_of(zone) return zone * ZONE end

function disk.write(lba, n, byte)
  return dev:cmd(make.write_16 { lba = lba, blocks = n },
                 disk.data(byte or "w", n))
end

function disk.read(lba, n)
  local r = dev:cmd(make.read_16 { lba = lba, blocks = n })
  assert.is.good(r)
  return r.data
end

local function parse(bytes)
  local report = {}
  report.length, report.same, report.last = string.unpack(">I4Bxxxi8", bytes)
  for at = 65, #bytes - 63, 64 do
    local zone = {}
    zone.kind, zone.flags, zone.length, zone.start, zone.pointer =
      string.unpack(">BBxxxxxxi8i8i8", bytes, at)
    zone.condition = zone.flags >> 4
    report[#report + 1] = zone
  end
  return report
end

--- REPORT ZONES: { length, same, last, { kind, flags, condition, length, start,
-- pointer } ... }.
function disk.report(fields)
  fields = fields or {}
  fields.allocation_length = fields.allocation_length or 4096
  local r = dev:cmd(make.report_zones(fields))
  assert.is.good(r)
  return parse(r.data)
end

function disk.zone(n) return disk.report()[n + 1] end

function disk.condition(n) return disk.zone(n).condition end

--- A command of ZONE MANAGEMENT OUT for a zone, or for "all".
function disk.manage(verb, n)
  return dev:cmd(make[verb](n == "all" and { all = 1 }
                            or { zone_id = disk.start_of(n) }))
end

return disk
