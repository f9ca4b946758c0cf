--- Lesson 12: a new file for a disk that is in use.
--
-- SIGHUP to 'tcmu-lua serve', or 'reload' at the prompt, loads this file once
-- more and checks it like the first time: a mistake leaves the device with the
-- functions that it has.  Otherwise those that run end, new commands wait,
-- upgrade(self, old_version) makes the new self out of the old one, and the
-- waiting commands get the new functions.  It returns a new table and leaves
-- the old one alone, so if it raises, nothing has happened.
--
-- Here the data lie in Lua, in pages whose length is also the version.
--
-- Try:    tcmu-lua try examples/12-upgrade.lua, then 'write 8 "kept"'; set PAGE
--         below to 8192 with an editor; 'reload', 'read 8'
-- Change: the same without upgrade, and look at what 'read 8' says then.

local tcmu = require "tcmu"

local PAGE <const> = 4096           -- a power of two

local function page_of(pages, n)
  pages[n] = pages[n] or tcmu.buffer(PAGE)
  return pages[n]
end

return tcmu.handler {
  name = "12-upgrade",
  about = "lesson 12: pages of " .. PAGE .. " bytes",
  version = tostring(PAGE),

  open = function() return { pages = {} } end,

  read = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      cmd.data:copy(at, page_of(self.pages, page), from, n)
    end
  end,

  write = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      page_of(self.pages, page):copy(from, cmd.data, at, n)
    end
  end,

  upgrade = function(self, old_version)
    local was <const> = tonumber(old_version)
    local pages, step = {}, math.min(was, PAGE)
    for page, bytes in pairs(self.pages) do
      for at = 0, was - 1, step do
        local offset = page * was + at
        page_of(pages, offset // PAGE):copy(offset % PAGE, bytes, at, step)
      end
    end
    tcmu.log(("pages of %d bytes are now of %d"):format(was, PAGE))
    return { pages = pages }
  end,
}
