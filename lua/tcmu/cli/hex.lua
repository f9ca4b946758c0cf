--- Bytes as people type and read them.

local paint = require "tcmu.cli.paint"

local hex = {}

local WIDTH <const> = 16

--- Bytes from hex in any spacing: "12 00 24", "120024", "0x12,0x0,0x24".
-- @return the bytes; or nil and one sentence
function hex.parse(text)
  local bytes = {}
  for word in text:gmatch("[^%s,:;]+") do
    local digits = word:lower():gsub("^0x", ""):gsub("h$", "")
    if not digits:find("^%x+$") then
      return nil, ("'%s' is not hex: a CDB is given as bytes like "
                   .. "12 00 00 00 24 00"):format(word)
    elseif #digits > 1 and #digits % 2 == 1 then
      return nil, ("'%s' has an odd number of hex digits: each byte has two")
                  :format(word)
    end
    for byte in digits:gmatch("%x%x?") do
      bytes[#bytes + 1] = string.char(tonumber(byte, 16))
    end
  end
  if #bytes == 0 then return nil, "a CDB has at least one byte" end
  return table.concat(bytes)
end

--- "12 00 24"
function hex.bytes(bytes)
  return (bytes:gsub(".", function(c) return ("%02x "):format(c:byte()) end)
          :sub(1, -2))
end

local function line(at, bytes)
  return paint.dim(("%06x"):format(at))
    .. ("  %-48s |%s|"):format(hex.bytes(bytes),
                               (bytes:gsub("[^\x20-\x7E]", ".")))
end

--- Lines of a dump, 16 bytes each.  Lines that repeat the one before are told
-- by one "*"; after `most` lines the rest is counted only.
function hex.dump(bytes, most)
  local lines, before, starred = {}, nil, false
  for at = 0, #bytes - 1, WIDTH do
    local part = bytes:sub(at + 1, at + WIDTH)
    if part == before and at + WIDTH < #bytes then
      if not starred then lines[#lines + 1] = "*" end
      starred = true
    elseif most and #lines >= most then
      lines[#lines + 1] = ("... and %d bytes more"):format(#bytes - at)
      break
    else
      lines[#lines + 1] = line(at, part)
      before, starred = part, false
    end
  end
  return lines
end

return hex
