--- LOG SENSE (SPC-4 6.12, 7.3; SBC-3 6.3).
--
-- A page is a row of the table: its code, whether a device has it, and its
-- parameters now.  Nothing is accumulated, so there is nothing to select, to
-- save or to compare with a threshold: all parameters are binary lists, for
-- which PC is ignored (SPC-4 6.8).

local guard = require "tcmu.guard"
local limits = require "tcmu.limits"

local log_pages = {}

local ALL_SUBPAGES <const> = 0xFF
local SUPPORTED <const> = 0x00
local BINARY_LIST <const> = 0x03    -- FORMAT AND LINKING 11b

local function always() return true end

-- 0Ch: space in use, in threshold sets; how much is left nobody can say.  What
-- a store has behind the last block is not the device's.
local PROVISIONING <const> = {
  code = 0x0C,
  present = limits.threshold_exponent,
  parameters = function(dev)
    local unit <const> = dev.block_size << limits.threshold_exponent(dev)
    local used <const> = math.min(dev.store:info().used, dev.size)
    -- SCOPE 01b: the resources are those of this logical unit alone.
    return { { 0x0002, string.pack(">I4Bxxx", (used + unit - 1) // unit, 1) } }
  end,
}

-- 2Fh: no exception, and no thermometer (FFh).
local EXCEPTIONS <const> = {
  code = 0x2F,
  present = always,
  parameters = function() return { { 0x0000, "\0\0\xFF\0" } } end,
}

--- The pages of a disk besides the lists of pages, in ascending order.
log_pages.disk = { PROVISIONING, EXCEPTIONS }

local function pages_of(dev)
  local list = {}
  for _, page in ipairs(dev.kind.log or {}) do
    if page.present(dev) then list[#list + 1] = page end
  end
  return list
end

-- 00h and 00h/FFh: the codes of all pages, and of all subpages.
local function supported(dev, subpage)
  local codes = { string.char(SUPPORTED) }
  for _, page in ipairs(pages_of(dev)) do
    codes[#codes + 1] = string.char(page.code)
  end
  if subpage == 0 then
    return string.pack(">BBs2", SUPPORTED, 0, table.concat(codes))
  end
  for i, code in ipairs(codes) do codes[i] = code .. "\0" end
  table.insert(codes, 2, string.char(SUPPORTED, ALL_SUBPAGES))
  return string.pack(">BBs2", 0x40 | SUPPORTED, ALL_SUBPAGES,
                     table.concat(codes))
end

--- LOG SENSE: one page, from the parameter with the code PARAMETER POINTER on.
function log_pages.sense(_, cmd, layout)
  local dev <const> = cmd.dev
  local code <const> = guard.field(cmd, layout, "page_code")
  local subpage <const> = guard.field(cmd, layout, "subpage_code")
  local pointer <const> = guard.field(cmd, layout, "parameter_pointer")
  if code == SUPPORTED then
    if subpage ~= 0 and subpage ~= ALL_SUBPAGES then
      guard.refuse(layout, "subpage_code")
    end
    if pointer ~= 0 then guard.refuse(layout, "parameter_pointer") end
    return supported(dev, subpage)
  end

  local page
  for _, candidate in ipairs(pages_of(dev)) do
    if candidate.code == code then page = candidate end
  end
  if not page then guard.refuse(layout, "page_code") end
  if subpage ~= 0 then guard.refuse(layout, "subpage_code") end
  local out = {}
  for _, parameter in ipairs(page.parameters(dev)) do
    if parameter[1] >= pointer then
      out[#out + 1] = string.pack(">I2Bs1", parameter[1], BINARY_LIST,
                                  parameter[2])
    end
  end
  if #out == 0 then guard.refuse(layout, "parameter_pointer") end
  return string.pack(">BBs2", code, 0, table.concat(out))
end

return log_pages
