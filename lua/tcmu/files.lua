--- Small files of sysfs, configfs and proc: read one, write one, list a
--- directory.
--
-- Nothing here retries.  A write to `enable` that the kernel ends with EINTR
-- must not be repeated: the second one would wait all over again.

local uv = require "luv"

local files = {}

local ENOENT <const> = 2

--- Without the last newline, which attributes end with.
function files.trim(text)
  return (text:gsub("\n$", ""))
end

--- The whole text without its last newline; waits as long as the kernel does.
-- @return text, or nil, message, errno
function files.read(path)
  local f <close>, message, code = io.open(path, "r")
  if not f then return nil, message, code end
  local text, why, errno = f:read("a")
  if not text then return nil, ("%s: %s"):format(path, why), errno end
  return files.trim(text)
end

--- One write() with all of `text`.  A missing file is an error, not made.
-- @return true, or nil, message, errno
function files.write(path, text)
  if not files.exists(path) then
    return nil, path .. ": No such file or directory", ENOENT
  end
  local f <close>, message, code = io.open(path, "w")
  if not f then return nil, message, code end
  f:setvbuf("no")
  local ok, why, errno = f:write(text)
  if not ok then return nil, ("%s: %s"):format(path, why), errno end
  return true
end

function files.exists(path)
  return uv.fs_stat(path) ~= nil
end

--- The names in a directory, sorted; empty if there is none.
function files.list(path)
  local names = {}
  local scan = uv.fs_scandir(path)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Where a symbolic link points, or nil.
function files.link(path)
  return (uv.fs_readlink(path))
end

--- The symbolic links in a directory: { name = where it points }.
function files.links(path)
  local links = {}
  for _, name in ipairs(files.list(path)) do
    links[name] = files.link(path .. "/" .. name)
  end
  return links
end

return files
