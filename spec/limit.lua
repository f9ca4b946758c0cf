--- A limit for each test, so that one that hangs is a failure with a name
--- instead of a run without an end.
--
-- spec/watch is told of each test that begins, and interrupts us when the next
-- one is long in coming.  That raises an error in what runs in Lua, and ends
-- the opening of a fifo and the programs that we wait for.  Where it does not
-- help, as in an event loop that nobody wakes, we are killed.

local busted = require "busted"

local LIMIT <const> = tonumber(os.getenv "SPEC_LIMIT") or 300   -- seconds

-- Not under a sanitizer's library.
local watch <const> = assert(io.popen(
  ("LD_PRELOAD= exec bash spec/watch %d"):format(LIMIT), "w"))
watch:setvbuf "line"

busted.subscribe({ "test", "start" }, function(test)
  local at <const> = test.trace
  watch:write((("%s:%d: %s"):format(at.short_src, at.currentline, test.name)
              :gsub("%c", " ")), "\n")
  return nil, true              -- to others who have subscribed
end)

-- Where only a program was ended, the test may have passed.  What has been said
-- gets out even if a worker that is stuck in luv's pool keeps us from ending.
busted.subscribe({ "exit" }, function()
  io.stdout:flush()
  watch:write "\n"
  if not watch:close() then os.exit(1, true) end
  return nil, true
end)
