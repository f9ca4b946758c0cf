--- A command and its answer, as `try` and `explain` print them.

local answers = require "tcmu.cli.answers"
local decode = require "tcmu.decode"
local hex = require "tcmu.cli.hex"
local paint = require "tcmu.cli.paint"
local sense = require "tcmu.sense"

local show = {}

local MOST_LINES <const> = 32       -- of a dump

local function indented(lines)
  for _, text in ipairs(lines) do print("  " .. text) end
end

--- The bytes of a CDB and what they say.
function show.cdb(bytes)
  print(paint.cyan(hex.bytes(bytes)))
  print(decode.explain(bytes))
end

-- "3", "3-4" and "0" or "7-5": where a row's field is.
local function place(row)
  local last = row.byte + (7 - row.bit + row.width - 1) // 8
  if last > row.byte then return ("%d-%d"):format(row.byte, last), "" end
  local low = row.bit - row.width + 1
  if row.width == 8 then return tostring(row.byte), "" end
  if low == row.bit then return tostring(row.byte), tostring(low) end
  return tostring(row.byte), ("%d-%d"):format(row.bit, low)
end

--- The fields of a CDB, one a line.
function show.table(bytes)
  local rows = decode.table(bytes)
  if not rows then
    indented(hex.dump(bytes))
    return
  end
  local widest = 5
  for _, row in ipairs(rows) do widest = math.max(widest, #row.field) end
  local format <const> = "%-6s %-4s %-" .. widest .. "s  %-10s %s"
  local function put(...)
    return (format:format(...):gsub("%s+$", ""))
  end
  print(paint.bold(put("byte", "bit", "field", "value", "")))
  for _, row in ipairs(rows) do
    local byte, bit = place(row)
    local text = put(byte, bit, row.field, row.text, row.meaning)
    print(row.field == "RESERVED" and paint.red(text) or text)
  end
end

-- Sense data end where their length says so; a fabric's buffer is longer.
local function sense_bytes(bytes)
  return bytes:sub(1, 8 + (bytes:byte(8) or 0))
end

--- What a command ended with.  `waited` is in seconds.
function show.result(cdb, result, waited)
  local status = sense.status_name(result.status)
                 or ("status %02Xh"):format(result.status)
  local parts = { (result.status == 0 and paint.green or paint.red)(status) }
  if #result.data > 0 then
    parts[#parts + 1] = ("%d bytes"):format(#result.data)
  end
  if waited >= 0.001 then
    parts[#parts + 1] = ("after %g seconds of simulated time"):format(
      math.floor(waited * 1000 + 0.5) / 1000)
  end
  print(table.concat(parts, ", "))
  if result.sense then
    print("  " .. paint.bold(sense.describe(result.sense)))
    indented(hex.dump(sense_bytes(result.sense_bytes)))
    if result.sense:is(sense.constant.INTERNAL_TARGET_FAILURE) then
      print("  This is all that an initiator sees of a fault in a handler; "
            .. "the log says more.")
    end
  end
  indented(hex.dump(result.data, MOST_LINES))
  if result.status == 0 then indented(answers.lines(cdb, result.data)) end
end

return show
