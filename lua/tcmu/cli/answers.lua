--- What Data-In means, for the answers that people look at most.
--
-- Lines of text under the hexdump.  A handler may have cut or changed an answer
-- as it likes, so whatever is not there is left out.

local cdb = require "tcmu.cdb"
local decode = require "tcmu.decode"
local hex = require "tcmu.cli.hex"
local names = require "tcmu.cdb_names"
local values = require "tcmu.cli.values"

local answers = {}

-- Peripheral device types (SPC-4 table 144).
local TYPES <const> = {
  [0x00] = "direct access block device", [0x01] = "sequential access device",
  [0x03] = "processor device", [0x05] = "CD/DVD device",
  [0x08] = "medium changer",
  [0x0D] = "enclosure services device", [0x14] = "host managed zoned device",
  [0x1F] = "no device",
}

local VERSIONS <const> = { [0x05] = "SPC-3", [0x06] = "SPC-4",
                           [0x07] = "SPC-5" }

-- Designators of page 83h (SPC-4 7.8.5).
local DESIGNATORS <const> = {
  [0] = "vendor specific", [1] = "T10 vendor ID", [2] = "EUI-64", [3] = "NAA",
  [4] = "relative target port", [5] = "target port group",
  [6] = "logical unit group", [8] = "SCSI name",
}
local BINARY <const> = 1

-- Numbers of the block pages: name, byte, length (SBC-3 6.5.3 to 6.5.4).
local BLOCK_LIMITS <const> = {
  { "MAXIMUM COMPARE AND WRITE LENGTH", 5, 1 },
  { "OPTIMAL TRANSFER LENGTH GRANULARITY", 6, 2 },
  { "MAXIMUM TRANSFER LENGTH", 8, 4 },
  { "OPTIMAL TRANSFER LENGTH", 12, 4 },
  { "MAXIMUM UNMAP LBA COUNT", 20, 4 },
  { "MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT", 24, 4 },
  { "OPTIMAL UNMAP GRANULARITY", 28, 4 },
  { "MAXIMUM WRITE SAME LENGTH", 36, 8 },
}

local function number(data, at, length)
  if at + length > #data then return nil end
  return (string.unpack(">I" .. length, data, at + 1))
end

local function bit(data, at, n)
  local byte = data:byte(at + 1)
  return byte and byte >> n & 1
end

local function text(data, at, length)
  return (data:sub(at + 1, at + length):gsub("%s+$", "")
          :gsub("[^\x20-\x7E]", "?"))
end

local function named(code, table) return table[code] or "no name here" end

-- INQUIRY -------------------------------------------------------------------

local function standard(data)
  local kind = data:byte(1)
  if not kind or #data < 36 then return {} end
  return {
    ("a %s, which claims %s"):format(TYPES[kind & 0x1F]
      or ("device of type %02Xh"):format(kind & 0x1F),
      VERSIONS[data:byte(3)] or ("version %02Xh"):format(data:byte(3))),
    ("vendor '%s', product '%s', revision '%s'"):format(text(data, 8, 8),
      text(data, 16, 16), text(data, 32, 4)),
  }
end

local vpd = {}

vpd[0x00] = function(data)
  local lines = {}
  for at = 4, #data - 1 do
    local page = data:byte(at + 1)
    lines[#lines + 1] = ("page %02Xh: %s"):format(page,
                                                  named(page, names.vpd_page))
  end
  return lines
end

vpd[0x80] = function(data)
  return { ("serial number '%s'"):format(text(data, 4, #data)) }
end

vpd[0x83] = function(data)
  local lines, at = {}, 4
  while at + 4 <= #data do
    local set, kind, _, length = data:byte(at + 1, at + 4)
    local body = data:sub(at + 5, at + 4 + length)
    lines[#lines + 1] = ("%s: %s"):format(named(kind & 0x0F, DESIGNATORS),
      set & 0x0F == BINARY and hex.bytes(body):gsub(" ", "")
      or text(body, 0, #body))
    at = at + 4 + length
  end
  return lines
end

vpd[0xB0] = function(data)
  local lines = {}
  for _, field in ipairs(BLOCK_LIMITS) do
    local value = number(data, field[2], field[3])
    if value and value ~= 0 then
      lines[#lines + 1] = ("%s: %u"):format(field[1], value)
    end
  end
  return lines
end

vpd[0xB1] = function(data)
  local rate = number(data, 4, 2)
  if not rate then return {} end
  return { rate == 1 and "nothing rotates"
           or ("MEDIUM ROTATION RATE: %d"):format(rate) }
end

vpd[0xB2] = function(data)
  if #data < 7 then return {} end
  return { ("LBPU = %d (UNMAP), LBPWS = %d (WRITE SAME (16)), LBPWS10 = %d "
    .. "(WRITE SAME (10))"):format(bit(data, 5, 7), bit(data, 5, 6),
                                    bit(data, 5, 5)) }
end

local function inquiry(fields, data)
  if not fields.evpd then return standard(data) end
  local page = vpd[fields.page_code]
  return page and page(data) or {}
end

-- Others --------------------------------------------------------------------

local function capacity(last, size)
  if not last or not size then return {} end
  local blocks <const> = last + 1
  return { ("%u blocks of %d bytes: %s"):format(blocks, size,
                                             values.show_size(blocks * size)) }
end

local function mode_pages(data, at)
  local lines = {}
  while at + 2 <= #data do
    local code, length = data:byte(at + 1, at + 2)
    code = code & 0x3F
    local line = ("page %02Xh: %s"):format(code, named(code, names.mode_page))
    if code == 0x08 and bit(data, at + 2, 2) then
      line = ("%s, WCE = %d"):format(line, bit(data, at + 2, 2))
    elseif code == 0x0A and bit(data, at + 2, 2) then
      line = ("%s, D_SENSE = %d"):format(line, bit(data, at + 2, 2))
    end
    lines[#lines + 1] = line
    at = at + 2 + length
  end
  return lines
end

local function mode(data, specific, header, descriptor)
  if not descriptor then return {} end
  local lines = mode_pages(data, header + descriptor)
  table.insert(lines, 1, ("WP = %d, DPOFUA = %d"):format(
    bit(data, specific, 7), bit(data, specific, 4)))
  return lines
end

local function operation_codes(fields, data)
  if fields.reporting_options ~= 0 then return {} end
  local lines, at = {}, 4
  while at + 8 <= #data do
    local opcode, _, action, _, flags = string.unpack(">BBI2BB", data, at + 1)
    local has_action <const> = flags & 1 == 1
    local layout = cdb.layout(opcode, has_action and action or nil)
    lines[#lines + 1] = ("%02Xh%s %s"):format(opcode,
      has_action and ("/%02Xh"):format(action) or "    ",
      layout and layout.name or "vendor specific")
    at = at + 8 + (flags & 2 == 2 and 12 or 0)
  end
  return lines
end

local READERS <const> = {
  inquiry = inquiry,
  read_capacity_10 = function(_, data)
    return capacity(number(data, 0, 4), number(data, 4, 4))
  end,
  read_capacity_16 = function(_, data)
    return capacity(number(data, 0, 8), number(data, 8, 4))
  end,
  mode_sense_6 = function(_, data)
    return mode(data, 2, 4, number(data, 3, 1))
  end,
  mode_sense_10 = function(_, data)
    return mode(data, 3, 8, number(data, 6, 2))
  end,
  report_supported_operation_codes = operation_codes,
}

--- What the answer to a CDB says, as lines of text; none where nothing is
-- known about it.
function answers.lines(bytes, data)
  local layout = cdb.find(bytes)
  local reader = layout and READERS[layout.id]
  if not reader or #data == 0 then return {} end
  return reader(decode.fields(bytes), data)
end

return answers
