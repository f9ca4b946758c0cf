--- Commands that every SCSI device has (SPC-4 clause 6).
--
-- Each function answers one command: it gets the handler's `self`, the command
-- and its layout, returns Data-In or nothing, and raises a sense value to
-- fail.  The CDB has passed tcmu.guard already.

local alua = require "tcmu.alua"
local guard = require "tcmu.guard"
local identity = require "tcmu.identity"
local offer = require "tcmu.offer"
local operation = require "tcmu.operation"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local vpd = require "tcmu.vpd"

local spc = {}

local EXTENDED_COPY <const> = 0x83

--- TEST UNIT READY: a device that is served is ready.
function spc.test_unit_ready() end

-- A sense value; a status such as BUSY is none, and nothing is told of it.
local function is_told(value) return sense.is(value) and value.key ~= nil end

-- Why TEST UNIT READY would fail, or nil.
local function obstacle(dev)
  if not dev.not_ready then return nil end
  local ready, why = pcall(dev.not_ready,
                           { dev = dev, opcode = scsi.TEST_UNIT_READY })
  return not ready and is_told(why) and why or nil
end

-- The unit attention that waits for somebody to be told of, or nil; now it is.
local function attention(dev)
  local raised <const> = dev.attention
  if not is_told(raised) then return nil end
  dev:set { attention = false }
  return raised
end

--- REQUEST SENSE: sense data go out with the status, so none are waiting but
-- why the device is not ready, a unit attention, and the progress of an
-- operation (SPC-4 6.39, in this order).  DESC chooses the format here,
-- whatever D_SENSE says.
function spc.request_sense(_, cmd, layout)
  local dev <const> = cmd.dev
  local value = not dev.operation and obstacle(dev) or attention(dev)
                or operation.sense(dev)
                or sense.constant.NO_ADDITIONAL_SENSE_INFORMATION
  return sense.encode(value, guard.field(cmd, layout, "desc") == 1)
end

--- Standard INQUIRY data (SPC-4 6.6.2), 96 bytes with version descriptors.
function spc.standard(dev)
  local kind <const> = dev.kind
  local versions = ""
  for _, version in ipairs(kind.versions) do
    versions = versions .. string.pack(">I2", version)
  end
  return string.pack(">BBBBBBBBc8c16c4c20BBc16c22",
    kind.peripheral_type,
    dev.removable and 0x80 or 0x00, -- RMB
    0x06,                           -- VERSION: SPC-4
    0x02,                           -- RESPONSE DATA FORMAT
    96 - 5,                         -- ADDITIONAL LENGTH
    (offer.has(dev, EXTENDED_COPY, 0) and 0x08 or 0) -- 3PC
    | alua.support(dev) << 4,       -- TPGS
    0x00,
    0x02,                           -- CMDQUE
    identity.padded(dev, "vendor", 8),
    identity.padded(dev, "product", 16),
    identity.padded(dev, "revision", 4),
    ("\0"):rep(20), 0, 0,
    versions .. ("\0"):rep(16 - #versions),
    ("\0"):rep(22))
end

--- INQUIRY: standard data, or the page that EVPD asks for.
function spc.inquiry(_, cmd, layout)
  local dev <const> = cmd.dev
  local page <const> = guard.field(cmd, layout, "page_code")
  if guard.field(cmd, layout, "evpd") == 0 then
    if page ~= 0 then guard.refuse(layout, "page_code") end
    return spc.standard(dev)
  end
  local body = vpd.body(dev, page)
  if not body then guard.refuse(layout, "page_code") end
  return string.pack(">BBs2", dev.kind.peripheral_type, page, body)
end

return spc
