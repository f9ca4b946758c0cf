--- Who a device says it is: INQUIRY strings, serial and designators.
--
-- The operator's settings (the device's wwn directory in configfs) beat the
-- handler's `inquiry`, which beats the defaults.  Defaults and the NAA
-- designator are those of tcmu-runner, so that a disk moved from it keeps its
-- WWID, its names in /dev/disk/by-id and its section in multipath.conf.

local identity = {}

local DEFAULTS <const> = {
  vendor = "LIO-ORG", product = "TCMU device", revision = "0002",
}

-- What the kernel puts into wwn/vendor_id before anybody writes it.
local UNTOUCHED <const> = { vendor = "LIO-ORG" }

-- The company of the NAA designator unless wwn/company_id says otherwise: the
-- one that the kernel's own backstores and tcmu-runner use.
local COMPANY <const> = 0x001405

--- The text of `what`: "vendor", "product" or "revision".
function identity.text(dev, what)
  local set = dev.wwn[what]
  if set and set ~= "" and set ~= UNTOUCHED[what] then return set end
  local inquiry = dev.handler.inquiry
  return inquiry and inquiry[what] or DEFAULTS[what]
end

--- The text as INQUIRY has it: exactly `width` characters, printable ASCII,
-- padded with spaces (SPC-4 4.3.1).
function identity.padded(dev, what, width)
  local text = identity.text(dev, what):gsub("[^\x20-\x7E]", " ")
  return (text .. (" "):rep(width)):sub(1, width)
end

--- The unit serial number, or nil while there is none.
function identity.serial(dev)
  local serial = dev.wwn.serial
  return serial and serial ~= "" and serial or nil
end

--- The 16 bytes of the NAA designator, or nil where they would identify
-- nothing.  NAA 6h (SPC-4 7.8.6.6.5): 24 bits of company and 100 bits that
-- the company gives out.  These are the first 25 hexadecimal digits of the
-- serial, other characters skipped, filled up with zeroes: a serial that is a
-- UUID gives all of them.
function identity.naa(dev)
  local serial = identity.serial(dev)
  local digits = serial and serial:gsub("%X", ""):sub(1, 25)
  if not digits or not digits:find("[^0]") then return nil end
  local company = tonumber(dev.wwn.company_id or "", 16) or COMPANY
  local hex = ("6%06x%s%s"):format(company & 0xFFFFFF, digits,
                                   ("0"):rep(25 - #digits))
  return (hex:gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

return identity
