--- Lesson 10: the world outside.
--
-- Sockets, processes, timers and files come from luv, the Lua binding of
-- libuv (Debian: lua-luv).  Its calls take a callback; tcmu.await turns that
-- into a wait: it calls your function with `done`, waits until somebody calls
-- done(...), and returns what that was given.
--
-- This disk shows a file of this machine, as it is now, at every read: behind
-- the text everything is zero.
--
-- Try:    tcmu-lua try examples/10-outside.lua, then 'read 0' twice
-- On a real disk: dd if=/dev/sdX iflag=direct count=1
-- Change: show what a program prints (uv.spawn), or a web page (uv.new_tcp).

local tcmu = require "tcmu"
local uv = require "luv"

local function file_text(path, offset, length)
  -- Closed however this ends: by an error, too, or by an initiator's abort, even
  -- one that comes while the file is being opened.
  local file <close> = setmetatable({}, { __close = function(file)
    file.closed = true
    if file.fd then uv.fs_close(file.fd) end
  end })
  local why = tcmu.await(function(done)
    uv.fs_open(path, "r", 0, function(err, fd)
      if fd and file.closed then return uv.fs_close(fd) end
      file.fd = fd
      done(err)
    end)
  end)
  assert(file.fd, why)
  local text
  why, text = tcmu.await(function(done)
    uv.fs_read(file.fd, length, offset, done)
  end)
  return assert(text, why)
end

return tcmu.handler {
  name = "10-outside",
  about = "lesson 10: a file of this machine, as it is now",
  options = {
    path = tcmu.option.path { "the file to show", default = "/proc/uptime" },
  },

  open = function(dev) return { path = dev.options.path } end,

  read = function(self, cmd, offset, length)
    cmd.data:fill(0)
    cmd.data:put(0, file_text(self.path, offset, length))
  end,
}
