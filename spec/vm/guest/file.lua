--- Files, and above all configfs: calls which may be stuck in the kernel.
-- Whatever changes configfs runs in libuv's pool with a limit, for a write to
-- `enable` or a link to a LUN waits for a daemon, for ever if it must.

local files = require "tcmu.files"
local uv = require "luv"
local wait = require "spec.vm.guest.wait"

local file = {}

local LIMIT <const> = 60                -- seconds

-- Runs an asynchronous function of luv's to its end.  Returns its result, or
-- nil, a message, and the name of the errno.
local function call(limit, fn, ...)
  local args = table.pack(...)
  local over, err, result = false, nil, nil

  args.n = args.n + 1
  args[args.n] = function(e, r) over, err, result = true, e, r end
  fn(table.unpack(args, 1, args.n))
  if not wait.turn_until(limit, function() return over end) then
    return nil, ("no end after %g s: %s"):format(limit, tostring(...)), "stuck"
  end
  if err then return nil, err, err:match "^(%u+)" end
  return result == nil and true or result
end

--- The whole content.
function file.read_file(path)
  local f <close> = assert(io.open(path, "rb"))
  return assert(f:read "a")
end

--- The content of a one-line file, such as those of sysfs, without its newline.
function file.read_line(path)
  return (file.read_file(path):gsub("%s+$", ""))
end

--- Writes all at once, as configfs wants it, to a file that is there or made.
-- Returns true, or nil, a message and the name of the errno ("ENOENT"), which
-- is "stuck" when the write has not ended within `limit` seconds (60).
function file.try_write(path, data, limit)
  local fd, message, code = call(LIMIT, uv.fs_open, path, "w", 420)
  local written

  if not fd then return nil, message, code end
  written, message, code = call(limit or LIMIT, uv.fs_write, fd,
    tostring(data), -1)
  if code ~= "stuck" then uv.fs_close(fd) end
  if written then return true end
  return nil, ("writing %s: %s"):format(path, message), code
end

--- The same, but raises.
function file.write_file(path, data, limit)
  local ok, message = file.try_write(path, data, limit)
  if not ok then error(message, 2) end
end

--- Whether there is such a path.
file.exists = files.exists

--- The names in a folder, sorted; empty if there is no such folder.
file.names = files.list

local function raising(fn)
  return function(limit, ...)
    local ok, message = call(limit, fn, ...)
    if not ok then error(message, 0) end
  end
end

local mkdir, rmdir = raising(uv.fs_mkdir), raising(uv.fs_rmdir)
local symlink, unlink = raising(uv.fs_symlink), raising(uv.fs_unlink)

--- Makes a folder and what is missing above it.
function file.mkdir(path)
  local at = ""

  for part in path:gmatch "[^/]+" do
    at = at .. "/" .. part
    if not file.exists(at) then mkdir(LIMIT, at, 493) end
  end
end

function file.rmdir(path, limit) rmdir(limit or LIMIT, path) end
function file.unlink(path, limit) unlink(limit or LIMIT, path) end

--- Makes `path` a symbolic link to `target`.
function file.symlink(target, path, limit)
  symlink(limit or LIMIT, target, path)
end

return file
