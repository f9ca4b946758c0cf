--- Runs ./tcmu-lua as a user does, for the specs of the command line.

local dir <const> = os.tmpname()
os.remove(dir)

local function read(path)
  local f <close> = assert(io.open(path, "rb"))
  return f:read("a")
end

local function write(path, text)
  local f <close> = assert(io.open(path, "wb"))
  f:write(text)
end

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local cli = { quoted = quoted }

--- Runs the program with the words of `arguments`, which the shell splits.
-- `options`: stdin = text (nothing if absent), terminal = whether it sees one,
-- env = "NAME=value ...".
-- @return { status =, out =, err = }; on a terminal `out` has both
function cli.run(arguments, options)
  options = options or {}
  assert(os.execute("mkdir -p " .. dir))
  write(dir .. "/in", options.stdin or "")
  local command = ("env %s ./tcmu-lua %s"):format(options.env or "", arguments)
  if options.terminal then
    -- Not under a sanitizer: it would look for leaks in `script` as well.
    command = "LD_PRELOAD= script -qec " .. quoted(command) .. " /dev/null"
  end
  local _, _, status = os.execute(("%s <%s/in >%s/out 2>%s/err"):format(
    command, dir, dir, dir))
  return { status = status, out = read(dir .. "/out"):gsub("\r", ""),
           err = read(dir .. "/err") }
end

--- Makes a file for the test; a name with a path in the test's directory.
function cli.file(name, text)
  assert(os.execute("mkdir -p " .. dir))
  write(dir .. "/" .. name, text)
  return dir .. "/" .. name
end

--- A handler's file: the keys of its table as text.
function cli.handler(name, body)
  return cli.file(name .. ".lua", ([[
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler { name = %q, about = scsi and "made by a spec", %s }
]]):format(name, body))
end

--- The directory of these files; removed by clean().
cli.dir = dir

function cli.clean() os.execute("rm -rf " .. quoted(dir)) end

return cli
