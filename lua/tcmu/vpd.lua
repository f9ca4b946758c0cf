--- The vital product data pages of a disk (SPC-4 7.8, SBC-3 6.5).
--
-- A page is a function of the device that gives its body, or nil where there is
-- nothing true to tell; the header and page 00h follow from the table.

local alua = require "tcmu.alua"
local copy_list = require "tcmu.copy_list"
local records = require "tcmu.copy_records"
local identity = require "tcmu.identity"
local limits = require "tcmu.limits"
local offer = require "tcmu.offer"
local rod_token = require "tcmu.rod_token"

local vpd = {}

local ASCII <const>, BINARY <const> = 2, 1
local T10_VENDOR <const>, NAA <const> = 1, 3
local WRITE_SAME_10 <const>, WRITE_SAME_16 <const> = 0x41, 0x93
local UNMAP <const> = 0x42
local COMPARE_AND_WRITE <const>, WRITE_ATOMIC <const> = 0x89, 0x9C
local COPY_OUT <const>, COPY_IN <const> = 0x83, 0x84
local LID1 <const>, POPULATE_TOKEN <const> = 0x00, 0x10
local SANITIZE <const>, BLOCK_ERASE <const> = 0x48, 0x02

-- 80h: four spaces where there is no serial (SPC-4 7.8.15).
local function unit_serial_number(dev)
  return identity.serial(dev) or "    "
end

local function designator(code_set, kind, body)
  return string.pack(">BBBs1", code_set, kind, 0, body)
end

-- 83h: T10 vendor ID and NAA.  Without a serial there is nothing that tells
-- this disk from one on another host, so the list stays empty: a made-up
-- identity could make a multipath driver take two disks for one.
local function device_identification(dev)
  local list = {}
  local serial = identity.serial(dev)
  if serial and #serial <= 0xFF - 8 then
    list[#list + 1] = designator(ASCII, T10_VENDOR,
                                 identity.padded(dev, "vendor", 8) .. serial)
  end
  local naa = identity.naa(dev)
  if naa then list[#list + 1] = designator(BINARY, NAA, naa) end
  return table.concat(list)
end

-- 83h of a disk: the above, and where it is known the port through which the
-- question came and its group.
local function disk_identification(dev)
  return device_identification(dev) .. alua.designators(dev)
end

-- 86h: simple tasks only, since the kernel passes no task attribute; a volatile
-- cache where there is something to flush; sense data that fit into a ring
-- entry.
local function extended_inquiry(dev)
  return string.pack(">BBBBI4BBc50", 0x00, 0x01, dev.can.flush and 0x01 or 0,
                     0x00, 0, 0, 96, ("\0"):rep(50))
end

-- 87h: all mode pages are shared by all initiators.
local function mode_page_policy()
  return string.char(0x3F, 0xFF, 0x00, 0x00)
end

-- 8Fh: a descriptor, filled up to a multiple of four bytes.
local function third_party(kind, body)
  body = body .. ("\0"):rep(-#body % 4)
  return string.pack(">I2s2", kind, body)
end

-- 8Fh: block device ROD token limits (SBC-3 table 214), in blocks.
local function token_limits(dev)
  local most <const> = rod_token.limits
  return third_party(0x0000, string.pack(">c6I2I4I4I8I8", ("\0"):rep(6),
    most.ranges, most.most_seconds, most.seconds,
    most.bytes // dev.block_size, most.optimal // dev.block_size))
end

-- 8Fh: ROD token features (SPC-4 table 570): none from or to other targets; and
-- the types that there are (table 576).
local function token_types()
  local most <const>, list = rod_token.limits, {}
  for _, entry in ipairs(rod_token.types) do
    local kind, made, written = table.unpack(entry)
    list[#list + 1] = string.pack(">I4BxI2c56", kind,
      (written and 0x02 or 0) | (made and 0x01 or 0), 0, ("\0"):rep(56))
  end
  return third_party(0x0106, string.pack(">c20I4c20", ("\0"):rep(20),
                   most.most_seconds, ("\0"):rep(20)))
    .. third_party(0x0108, string.pack(">xxs2", table.concat(list)))
end

-- 8Fh (SPC-4 7.8.19): the commands, what a list may hold, the descriptors, and
-- how many copies there may be at a time.
local function third_party_copy(dev)
  local lists <const> = offer.has(dev, COPY_OUT, LID1)
  local tokens <const> = offer.has(dev, COPY_OUT, POPULATE_TOKEN)
  if not lists and not tokens then return nil end
  local commands = ""
  for _, opcode in ipairs { COPY_OUT, COPY_IN } do
    local actions = ""
    for action = 0, 0x1F do
      if offer.has(dev, opcode, action) then
        actions = actions .. string.char(action)
      end
    end
    commands = commands .. string.pack(">Bs1", opcode, actions)
  end
  local most <const> = copy_list.limits
  commands = third_party(0x0001, string.pack(">s1", commands))
  if tokens then commands = token_limits(dev) .. commands end
  local types <const> = tokens and token_types() or ""
  if not lists then return commands .. types end
  return commands
    .. third_party(0x0004, string.pack(">xxxxI2I2I4I4c12", most.targets,
                   most.segments, most.descriptors, 0, ("\0"):rep(12)))
    .. third_party(0x0008, string.pack(">s1",
                   string.char(table.unpack(copy_list.types))))
    .. third_party(0x000C, string.pack(">s2", ""))      -- no special CSCD IDs
    .. types
    .. third_party(0x8001, string.pack(">I4I4I4BBc18", records.most,
                   records.most,
                   most.segment_blocks * dev.block_size,
                   math.tointeger(math.log(dev.block_size, 2)), 0,
                   ("\0"):rep(18)))
end

-- B0h, in the length of SBC-3 (3Ch).  WSNZ is 1: WRITE SAME of 0 blocks is
-- refused rather than taken for "to the end", which no lock is taken for.
local function block_limits(dev)
  local most <const> = limits.of(dev)
  local valid <const> = most.unmap_granularity > 0 and 1 << 31 or 0
  local compare <const> = offer.has(dev, COMPARE_AND_WRITE) and most.compare
  local atomic <const> = offer.has(dev, WRITE_ATOMIC) and most.atomic
  return string.pack(">BBI2I4I4I4I4I4I4I4I8I4I4I4I4I4",
    1,                              -- WSNZ
    compare or 0,                   -- MAXIMUM COMPARE AND WRITE LENGTH
    0,                              -- OPTIMAL TRANSFER LENGTH GRANULARITY
    most.transfer,
    0,                              -- OPTIMAL TRANSFER LENGTH
    0,                              -- MAXIMUM PREFETCH LENGTH
    most.unmap_blocks,
    most.unmap_descriptors,
    most.unmap_granularity,
    valid,                          -- UGAVALID, alignment 0
    most.write_same,
    atomic or 0, 0, 0,              -- no ATOMIC ALIGNMENT, no granularity
    0, 0)                           -- no atomic boundaries
end

-- B1h: no medium that turns; after a block erase reads succeed (WABEREQ 01b);
-- VERIFY compares with what is not mapped, which are zeroes (VBULS).
local function block_device_characteristics(dev)
  local erases <const> = offer.has(dev, SANITIZE, BLOCK_ERASE)
  return string.pack(">I2BBBc55", 0x0001, 0, erases and 0x40 or 0, 0x01,
                     ("\0"):rep(55))
end

-- B2h.  LBPRZ: what is unmapped reads as zeroes, which stores and handlers
-- must see to.
local function logical_block_provisioning(dev)
  local thin <const> = dev.can.unmap
  local flags = 0
  if offer.has(dev, UNMAP) then flags = flags | 0x80 end
  if thin and offer.has(dev, WRITE_SAME_16) then flags = flags | 0x40 end
  if thin and offer.has(dev, WRITE_SAME_10) then flags = flags | 0x20 end
  if thin then flags = flags | 0x04 end
  return string.pack(">BBBB", limits.threshold_exponent(dev) or 0, flags,
                     thin and 0x02 or 0x00, 0)
end

--- Pages that every device has.
vpd.common = {
  [0x80] = unit_serial_number,
  [0x83] = device_identification,
}

--- The pages of a disk.
vpd.disk = {
  [0x80] = unit_serial_number,
  [0x83] = disk_identification,
  [0x86] = extended_inquiry,
  [0x87] = mode_page_policy,
  [0x88] = alua.scsi_ports,
  [0x8F] = third_party_copy,
  [0xB0] = block_limits,
  [0xB1] = block_device_characteristics,
  [0xB2] = logical_block_provisioning,
}

--- The body of a page as this device has it, or nil for one that it lacks.
function vpd.body(dev, page)
  local pages <const> = dev.kind.vpd
  if page ~= 0 then return pages[page] and pages[page](dev) end
  local list = { 0 }
  for code, body in pairs(pages) do
    if body(dev) then list[#list + 1] = code end
  end
  table.sort(list)
  return string.char(table.unpack(list))
end

return vpd
