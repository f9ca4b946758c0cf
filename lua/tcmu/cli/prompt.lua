--- The commands that `tcmu-lua try` understands, on a terminal or in a file.

local cdb = require "tcmu.cdb"
local guide = require "tcmu.cli.guide"
local hex = require "tcmu.cli.hex"
local paint = require "tcmu.cli.paint"
local scsi = require "tcmu.scsi"
local session = require "tcmu.cli.session"
local show = require "tcmu.cli.show"
local suggest = require "tcmu.suggest"

local prompt = {}

-- Arguments -----------------------------------------------------------------

-- Raised for what was typed wrong; everything else is a bug of ours.
local Slip = {}

local function slip(text, ...)
  error(setmetatable({ text = text:format(...) }, Slip), 0)
end

-- The next word as a number; `fallback` if there is none.
local function number(rest, what, fallback)
  local word, after = rest:match("^(%S+)%s*(.*)$")
  if not word then
    if fallback then return fallback, "" end
    slip("%s is missing", what)
  end
  local n = math.tointeger(tonumber(word))
  if not n or n < 0 then slip("'%s' is no number for %s", word, what) end
  return n, after
end

-- A text in quotes with Lua's escapes, or bare words.
local function data(rest)
  if rest == "" then slip("the data are missing: a text in quotes") end
  local quote = rest:match("^[\"']")
  if not quote then return rest end
  local chunk = rest:sub(-1) == quote and #rest > 1
                and load("return " .. rest, "=text", "t", {})
  local ok, text = pcall(chunk or error)
  if not ok or type(text) ~= "string" then
    slip("%s is no text in quotes", rest)
  end
  return text
end

local function done(rest)
  if rest ~= "" then slip("'%s' is too much", rest) end
end

-- Bytes in hex, and a text in quotes behind them if there is one.
local function bytes(rest)
  local digits, quoted = rest:match("^([^\"']*)([\"'].*)$")
  local parsed, why = hex.parse(digits or rest)
  if not parsed then slip("%s", why) end
  return parsed, quoted and data(quoted)
end

-- What 10-byte commands can express.
local function short(n, what)
  if n > 0xFFFFFFFF then slip("%d is too much for %s here", n, what) end
  return n
end

-- Commands ------------------------------------------------------------------

local COMMANDS <const> = {
  { "inquiry", "[PAGE]", "INQUIRY; with a page, its vital product data",
    function(s, _, rest)
      if rest == "" then return s:send(scsi.cdb.inquiry { length = 96 }) end
      local page, after = number(rest, "the page")
      done(after)
      if page > 0xFF then slip("a page is a number up to 0xFF") end
      s:send(scsi.cdb.inquiry { evpd = 1, page_code = page, length = 255 })
    end },
  { "capacity", "", "READ CAPACITY (16)",
    function(s, _, rest)
      done(rest)
      s:send(scsi.cdb.read_capacity_16 { length = 32 })
    end },
  { "modes", "[PAGE]", "MODE SENSE (10), of all pages or one",
    function(s, _, rest)
      local page, after = number(rest, "the page", 0x3F)
      done(after)
      if page > 0x3F then slip("a mode page is a number up to 0x3F") end
      s:send(scsi.cdb.mode_sense_10 { page_code = page, length = 255 })
    end },
  { "opcodes", "", "REPORT SUPPORTED OPERATION CODES",
    function(s, _, rest)
      done(rest)
      s:send(scsi.cdb.report_supported_operation_codes { length = 4096 })
    end },
  { "ready", "", "TEST UNIT READY",
    function(s, _, rest)
      done(rest)
      s:send(scsi.cdb.test_unit_ready())
    end },
  { "read", "LBA [BLOCKS]", "READ, one block if no number is given",
    function(s, _, rest)
      local lba, after = number(rest, "the LBA")
      local blocks, more = number(after, "the number of blocks", 1)
      done(more)
      s:send(session.transfer("read", lba, short(blocks, "one transfer")))
    end },
  { "write", 'LBA "TEXT"', "WRITE the text and zeroes up to a whole block",
    function(s, _, rest)
      local lba, after = number(rest, "the LBA")
      local text = data(after)
      local blocks = math.max(1, -(-#text // s.block_size))
      s:send(session.transfer("write", lba, blocks), text)
    end },
  { "unmap", "LBA [BLOCKS]", "UNMAP",
    function(s, _, rest)
      local lba, after = number(rest, "the LBA")
      local blocks, more = number(after, "the number of blocks", 1)
      done(more)
      local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, lba,
                               short(blocks, "one descriptor"), 0)
      s:send(scsi.cdb.unmap { parameter_list_length = #list }, list)
    end },
  { "sync", "", "SYNCHRONIZE CACHE (10)",
    function(s, _, rest)
      done(rest)
      s:send(scsi.cdb.synchronize_cache_10())
    end },
  { "cdb", 'HEX... ["TEXT"]', "any CDB, with a text as Data-Out",
    function(s, _, rest)
      local what, text = bytes(rest)
      local missing = cdb.length(what) - #what
      if missing > 0 then
        slip("a CDB that starts with %02Xh has %d bytes; %d are missing",
             what:byte(1), #what + missing, missing)
      end
      s:send(what, text)
    end },
  { "table", "HEX...", "the fields of a CDB; sends nothing",
    function(_, _, rest)
      local what = bytes(rest)
      show.cdb(what)
      show.table(what)
    end },
  { "device", "[N]", "which device the commands go to (--shards)",
    function(s, _, rest)
      local n, after = number(rest, "the device", s.current)
      done(after)
      if not s.devices[n] then slip("devices are 1 to %d", #s.devices) end
      s.current = n
      print(("device %d of %d"):format(n, #s.devices))
    end },
  { "reload", "", "the handler's file again; the devices stay open",
    function(s, _, rest)
      done(rest)
      s:reload()
    end },
  { "guide", "", "the guided tour",
    function(s, found, rest)
      done(rest)
      guide.run(s, found)
    end },
  { "help", "", "this list" },
  { "quit", "", "the end; so does Ctrl-D" },
}

local by_name = {}
for _, command in ipairs(COMMANDS) do by_name[command[1]] = command end

by_name.help[4] = function(_, _, rest)
  done(rest)
  for _, command in ipairs(COMMANDS) do
    print(("  %-22s %s"):format(command[1] .. " " .. command[2], command[3]))
  end
  print("Numbers are decimal, or hex with 0x; texts know \\n, \\0, \\xFF.")
end

-- Runs one line; true when the end is wanted.  Raises a Slip.
local function obey(s, found, line)
  local name, rest = line:match("^%s*(%S+)%s*(.-)%s*$")
  if not name or name:sub(1, 1) == "#" then return false end
  local command = by_name[name:lower()]
  if not command then
    slip("there is no command '%s'%s", name,
         (suggest.hint(name, by_name) .. ";"):gsub("%?;$", "?")
         .. " 'help' lists them")
  end
  if command[1] == "quit" then return true end
  command[4](s, found, rest)
  return false
end

-- Where lines come from -----------------------------------------------------

-- "over", "slip" and its text, or nothing; bugs go on being raised.
local function try(s, found, line)
  local ok, result = xpcall(obey, function(err)
    return getmetatable(err) == Slip and err or debug.traceback(err, 2)
  end, s, found, line)
  if ok then return result and "over" end
  if getmetatable(result) ~= Slip then error(result, 0) end
  return "slip", result.text
end

--- Asks for commands on the terminal until the end.
-- @return exit status
function prompt.ask(s, found)
  print("'help' lists the commands, 'guide' shows a few.")
  while true do
    local where = #s.devices > 1 and ":" .. s.current or ""
    io.stdout:write("\n", paint.bold(found.name .. where .. "> "))
    io.stdout:flush()
    local line = io.read("l")
    if not line then print() end
    local how, text = "over", nil
    if line then how, text = try(s, found, line) end
    if how == "over" then return 0 end
    if how == "slip" then print(paint.red(text)) end
  end
end

--- Runs the lines of a file, whose name is for messages; stops at the first
-- that is wrong.
-- @return exit status; or nil and one sentence
function prompt.script(s, found, file, name)
  local at = 0
  for line in file:lines() do
    at = at + 1
    if line:find("^%s*[^#%s]") then
      print("\n" .. paint.bold("> " .. line))
      local how, text = try(s, found, line)
      if how == "over" then return 0 end
      if how == "slip" then
        return nil, ("%s, line %d: %s"):format(name, at, text)
      end
    end
  end
  return 0
end

return prompt
