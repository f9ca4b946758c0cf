--- MODE SENSE and MODE SELECT (SPC-4 clauses 6 and 7.5, SBC-3 6.4).
--
-- A mode page is a row of the table below: its body now, its body by default,
-- which bits may be changed, and what a change does.  MODE SELECT checks the
-- whole parameter list before it changes anything.  Saved values do not exist.

local alua = require "tcmu.alua"
local cache = require "tcmu.cache"
local guard = require "tcmu.guard"
local limits = require "tcmu.limits"
local offer = require "tcmu.offer"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

local mode = {}

local CURRENT <const>, CHANGEABLE <const>, DEFAULT <const> = 0, 1, 2
local ALL_PAGES <const>, ALL_SUBPAGES <const> = 0x3F, 0xFF
local WP <const>, DPOFUA <const> = 0x80, 0x10
local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local NO_SAVING <const> = sense.constant.SAVING_PARAMETERS_NOT_SUPPORTED

-- What a device had before the first MODE SELECT: the default values.
local opened = setmetatable({}, { __mode = "k" })

local function settings_of(dev)
  return { write_cache = dev.can.flush and dev.write_cache or false,
           descriptor_sense = dev.descriptor_sense or false,
           software_protected = dev.software_protected or false }
end

local function bit(condition, value) return condition and value or 0 end

-- Pages ---------------------------------------------------------------------

-- 01h: no retries and no reallocation that an initiator could see.
local RECOVERY <const> = {
  code = 0x01,
  body = function() return ("\0"):rep(10) end,
  changeable = function() return ("\0"):rep(10) end,
}

-- 08h: WCE, in byte 2 of the page.
local CACHING <const> = {
  code = 0x08,
  body = function(settings)
    return string.char(bit(settings.write_cache, 0x04)) .. ("\0"):rep(17)
  end,
  changeable = function(dev)
    return string.char(bit(dev.can.flush, 0x04)) .. ("\0"):rep(17)
  end,
  change = function(settings, body)
    settings.write_cache = body:byte(1) & 0x04 ~= 0
  end,
}

-- 0Ah: D_SENSE and GLTSD, unrestricted reordering (the kernel passes no task
-- attribute), SWP, TAS (the kernel answers aborted commands), no known limit
-- for how long BUSY lasts.
local CONTROL <const> = {
  code = 0x0A,
  body = function(settings)
    return string.pack(">BBBBI2I2I2",
                       0x02 | bit(settings.descriptor_sense, 0x04), 0x10,
                       bit(settings.software_protected, 0x08), 0x40,
                       0, 0xFFFF, 0)
  end,
  changeable = function() return "\x04\0\x08" .. ("\0"):rep(7) end,
  change = function(settings, body)
    settings.descriptor_sense = body:byte(1) & 0x04 ~= 0
    settings.software_protected = body:byte(3) & 0x08 ~= 0
  end,
}

-- 0Ah/01h: TCMOS, since the clock is the host's; SCSIP, without which there may
-- be no SET TIMESTAMP; IALUAE where the kernel moves ports by itself; MAXIMUM
-- SENSE DATA LENGTH is what fits into a ring entry.
local CONTROL_EXTENSION <const> = {
  code = 0x0A, subcode = 0x01,
  body = function(_, dev)
    local clock <const> = offer.has(dev, scsi.MAINTENANCE_OUT,
                                    scsi.action.SET_TIMESTAMP)
    return string.pack(">BBBc25", 0x04 | bit(clock, 0x02)
                       | alua.support(dev) & 0x01, 0, 96, ("\0"):rep(25))
  end,
  changeable = function() return ("\0"):rep(28) end,
}

-- 1Ch: DEXCPT, since there is nothing whose failure could be predicted.
local EXCEPTIONS <const> = {
  code = 0x1C,
  body = function() return "\x08" .. ("\0"):rep(9) end,
  changeable = function() return ("\0"):rep(10) end,
}

-- 1Ch/02h: no threshold can be armed, so there is no descriptor.
local PROVISIONING <const> = {
  code = 0x1C, subcode = 0x02,
  present = limits.threshold_exponent,
  body = function() return ("\0"):rep(12) end,
  changeable = function() return ("\0"):rep(12) end,
}

--- A page of which nothing can be changed, for kinds that have such.
function mode.fixed(code, body)
  return {
    code = code,
    body = function() return body end,
    changeable = function() return ("\0"):rep(#body) end,
  }
end

--- The pages of a disk, in ascending order.
mode.disk = { RECOVERY, CACHING, CONTROL, CONTROL_EXTENSION, EXCEPTIONS,
              PROVISIONING }

local function pages_of(dev)
  local list = {}
  for _, page in ipairs(dev.kind.mode) do
    if not page.present or page.present(dev) then list[#list + 1] = page end
  end
  return list
end

local function body_of(dev, page, control)
  if control == CHANGEABLE then return page.changeable(dev) end
  return page.body(control == DEFAULT and opened[dev] or settings_of(dev), dev)
end

-- Header and block descriptor ------------------------------------------------

local function wrong_at(at, bits)
  local left = bits and 7
  while left and bits & 1 << left == 0 do left = left - 1 end
  error(BAD_FIELD:at_param(at, left))
end

-- SBC-3 6.4.2: the short descriptor says FFFFFFFFh where the number does not
-- fit.
local function block_descriptor(dev, long)
  local blocks <const> = dev.size // dev.block_size
  if long then return string.pack(">I8I4I4", blocks, 0, dev.block_size) end
  return string.pack(">I4I4", math.min(blocks, 0xFFFFFFFF), dev.block_size)
end

-- A descriptor may repeat what is; formatting is not done here.
local function check_descriptor(dev, list, at, length, long)
  local size <const> = long and 16 or 8
  if length == 0 then return end
  if length ~= size then wrong_at(at - (long and 2 or 1)) end
  if at + size > #list then error(BAD_LENGTH) end
  local given = list:sub(at + 1, at + size)
  local blocks, block_size
  if long then
    blocks, block_size = string.unpack(">I8xxxxI4", given)
  else
    blocks, block_size = string.unpack(">I4xI3", given)
  end
  local full = dev.size // dev.block_size
  if not long then full = math.min(full, 0xFFFFFFFF) end
  if blocks ~= 0 and blocks ~= full then wrong_at(at) end
  if block_size ~= dev.block_size then wrong_at(at + size - 3) end
end

--- True if nothing keeps initiators from writing.
function mode.writable(dev)
  return dev.can.write and not dev.read_only and not dev.software_protected
end

-- What another kind has as its `mode_header`: DEVICE-SPECIFIC PARAMETER, the
-- block descriptor, and check(dev, list, at, length, long) for those of a
-- MODE SELECT, whose descriptor of `length` bytes is at `at`.  It raises, or
-- returns a function that does what they ask for, or nothing.  `alone`: page 0
-- stands for header and descriptor without a page.
local DISK_HEADER <const> = {
  specific = function(dev) return bit(not mode.writable(dev), WP) | DPOFUA end,
  descriptor = block_descriptor,
  check = check_descriptor,
}

-- MODE SENSE ----------------------------------------------------------------

-- A page with its header, in the short or the subpage format (SPC-4 7.5.7).
local function whole(page, body)
  if page.subcode then
    return string.pack(">BBs2", 0x40 | page.code, page.subcode, body)
  end
  return string.pack(">Bs1", page.code, body)
end

-- All pages in one string; refuses a page or a subpage that does not exist.
local function pages_for(dev, layout, wanted, subpage, control)
  if wanted == 0 and subpage == 0 and dev.kind.mode_header
     and dev.kind.mode_header.alone then
    return ""
  end
  local out, known = {}, wanted == ALL_PAGES
  for _, page in ipairs(pages_of(dev)) do
    local subcode = page.subcode or 0
    if wanted == page.code or wanted == ALL_PAGES then
      known = true
      if subcode == subpage or subpage == ALL_SUBPAGES then
        out[#out + 1] = whole(page, body_of(dev, page, control))
      end
    end
  end
  if not known then guard.refuse(layout, "page_code") end
  if #out == 0 or wanted == ALL_PAGES and subpage ~= 0
                  and subpage ~= ALL_SUBPAGES then
    guard.refuse(layout, "subpage_code")
  end
  return table.concat(out)
end

--- MODE SENSE (6) and (10).
function mode.sense(_, cmd, layout)
  local dev <const> = cmd.dev
  local control <const> = guard.field(cmd, layout, "pc")
  if control > DEFAULT then error(NO_SAVING) end
  local pages = pages_for(dev, layout, guard.field(cmd, layout, "page_code"),
                          guard.field(cmd, layout, "subpage_code"), control)

  local header <const> = dev.kind.mode_header or DISK_HEADER
  local long <const> = guard.field(cmd, layout, "llbaa") == 1
  local descriptor = ""
  if guard.field(cmd, layout, "dbd") == 0 then
    descriptor = header.descriptor(dev, long)
  end
  local specific <const> = header.specific(dev)
  if layout.length == 6 then
    return string.pack(">BBBs1", 3 + #descriptor + #pages, 0, specific,
                       descriptor) .. pages
  end
  return string.pack(">I2BBBBs2", 6 + #descriptor + #pages, 0, specific,
                     bit(long and descriptor ~= "", 0x01), 0,
                     descriptor) .. pages
end

-- MODE SELECT ---------------------------------------------------------------

local function page_called(dev, code, subcode)
  for _, page in ipairs(pages_of(dev)) do
    if page.code == code and page.subcode == subcode then return page end
  end
  return nil
end

-- The page whose header is at `at`, the length that the header tells, and how
-- long the header is.  SPF says which of two formats it has, PS must be 0.
local function page_header(dev, list, at)
  local code, second = list:byte(at + 1, at + 2)
  if not second then error(BAD_LENGTH) end
  local long <const> = code & 0x40 ~= 0
  if long and at + 4 > #list then error(BAD_LENGTH) end
  local page = code & 0x80 == 0
               and page_called(dev, code & 0x3F, long and second or nil)
  if not page then wrong_at(at) end
  if long then return page, string.unpack(">I2", list, at + 3), 4 end
  return page, second, 2
end

-- Checks the page at `at` and returns it, its body and where the next starts.
local function check_page(dev, list, at)
  local page, length, header = page_header(dev, list, at)
  local now, changeable = body_of(dev, page, CURRENT), page.changeable(dev)
  if length ~= #now then wrong_at(at + header - header // 2) end
  at = at + header
  if at + length > #list then error(BAD_LENGTH) end
  local body = list:sub(at + 1, at + length)
  for i = 1, length do
    local wrong = (body:byte(i) ~ now:byte(i)) & ~changeable:byte(i)
    if wrong ~= 0 then wrong_at(at + i - 1, wrong) end
  end
  return page, body, at + length
end

local function apply(dev, settings)
  local before = settings_of(dev)
  opened[dev] = opened[dev] or before
  if before.write_cache and not settings.write_cache then cache.off(dev) end
  local changes = {}
  for name, value in pairs(settings) do
    if value ~= before[name] then changes[name] = value end
  end
  dev:set(changes)
  -- What is protected from now on is on the medium.
  if changes.software_protected and dev.can.flush then cache.flush(dev) end
end

--- MODE SELECT (6) and (10).
function mode.select(_, cmd, layout)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  if guard.field(cmd, layout, "pf") == 0 then guard.refuse(layout, "pf") end

  local short <const> = layout.length == 6
  local at = short and 4 or 8
  if #list < at then error(BAD_LENGTH) end
  local long <const> = not short and list:byte(5) & 0x01 ~= 0
  local descriptor = short and list:byte(4) or string.unpack(">I2", list, 7)
  local header <const> = dev.kind.mode_header or DISK_HEADER
  local take = header.check(dev, list, at, descriptor, long)
  at = at + descriptor

  local settings = settings_of(dev)
  while at < #list do
    local page, body
    page, body, at = check_page(dev, list, at)
    if page.change then page.change(settings, body) end
  end
  apply(dev, settings)
  if take then take() end
end

return mode
