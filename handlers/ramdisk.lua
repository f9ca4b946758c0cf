--- A disk entirely in Lua: pages in a table, made when first written.
local tcmu = require "tcmu"

local PAGE <const> = 64 * 1024

return tcmu.handler {
  name = "ramdisk",
  about = "a disk in Lua's own memory, gone when the device goes",

  open = function() return { pages = {} } end,

  read = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      local p = self.pages[page]
      if p then cmd.data:copy(at, p, from, n) else cmd.data:fill(0, at, n) end
    end
  end,

  write = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      local p = self.pages[page] or tcmu.buffer(PAGE)
      self.pages[page] = p
      p:copy(from, cmd.data, at, n)
    end
  end,

  unmap = function(self, cmd, offset, length)
    for page, from, _, n in cmd:split(offset, length, PAGE) do
      local p = self.pages[page]
      if n == PAGE then self.pages[page] = nil
      elseif p then p:fill(0, from, n) end
    end
  end,

  status = function(self, _, offset)
    local first = offset // PAGE
    local mapped, page = self.pages[first] ~= nil, first
    repeat
      page = page + 1
    until (self.pages[page] ~= nil) ~= mapped or page - first == 64
    return mapped and "mapped" or "deallocated", page * PAGE - offset
  end,
}
