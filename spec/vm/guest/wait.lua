--- Waiting with a limit.
-- A spec waits for facts, never for time to pass.  The libuv loop turns
-- meanwhile, so that ended processes are noticed.

local uv = require "luv"

local wait = {}

--- Turns the loop until done() is true or the seconds are over.  Returns
-- whether done() was true: it may not be so for long.
function wait.turn_until(seconds, done)
  local over = false
  local timer = uv.new_timer()

  timer:start(math.ceil(seconds * 1000), 0, function() over = true end)
  local value = done()
  while not value and not over do
    uv.run "once"
    value = done()
  end
  timer:close()
  uv.run "nowait"
  return value and true or false
end

--- Calls fn again and again until it returns something true, and returns that.
-- Raises after the seconds, with `what` was waited for and what fn said last:
-- its second value, or its error.
function wait.wait_for(what, seconds, fn)
  local value, why
  local poll = uv.new_timer()

  poll:start(50, 50, function() end)
  local came = wait.turn_until(seconds, function()
    local ok, first, second = pcall(fn)
    value, why = ok and first, ok and second or not ok and first
    return value
  end)
  poll:close()
  if came then return value end
  error(("waited %g s in vain for %s%s"):format(seconds, what,
    why and ": " .. tostring(why) or ""), 2)
end

return wait
