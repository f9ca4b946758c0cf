--- Lesson 9: several things at a time.
--
-- A mirror: two files with the same blocks.  tcmu.all runs functions side by
-- side and waits until all have ended; if one fails, the others are ended and
-- its error is raised here.  A store's error becomes the right sense by
-- itself: no space left is SPACE ALLOCATION FAILED, and so on.
--
-- A read that fails on one side is tried on the other: pcall works as ever,
-- also around calls that wait.
--
-- Try:    tcmu-lua try examples/09-mirror.lua "a=/tmp/a.img;b=/tmp/b.img"
--         cmp /tmp/a.img /tmp/b.img
-- Change: read from the sides in turn.

local tcmu = require "tcmu"

return tcmu.handler {
  name = "09-mirror",
  about = "lesson 9: one disk in two files",
  options = {
    a = tcmu.option.path "the first file, made if there is none",
    b = tcmu.option.path "the second file, made if there is none",
  },

  open = function(dev)
    return { a = tcmu.store.file(dev.options.a, "c", dev.size),
             b = tcmu.store.file(dev.options.b, "c", dev.size) }
  end,

  read = function(self, cmd, offset)
    local ok, why = pcall(self.a.read, self.a, cmd.data, offset)
    if ok then return end
    tcmu.log("the first file failed: " .. tostring(why), "warning")
    self.b:read(cmd.data, offset)
  end,

  write = function(self, cmd, offset)
    tcmu.all(function() self.a:write(cmd.data, offset) end,
             function() self.b:write(cmd.data, offset) end)
  end,

  flush = function(self)
    tcmu.all(function() self.a:flush() end, function() self.b:flush() end)
  end,
}
