--- A stack of things to undo.
-- Every helper that changes the guest pushes what takes it back, so a spec
-- that fails half-way leaves nothing to the next one.

local undo = {}

local stack = {}

--- Has fn called by cleanup().  Returns a function that calls it now instead;
-- however often and by whom it is called, fn runs once.
function undo.defer(fn)
  local done = false
  local function once()
    if done then return end
    done = true
    return fn()
  end

  stack[#stack + 1] = once
  return once
end

--- How much there is to undo, for cleanup().
function undo.depth() return #stack end

--- Undoes everything, or what was made since depth() returned `depth`, the
-- last first.  All of it is tried; raises one error with all messages.
function undo.cleanup(depth)
  local failed = {}

  while #stack > (depth or 0) do
    local ok, message = pcall(table.remove(stack))
    if not ok then failed[#failed + 1] = tostring(message) end
  end
  if #failed > 0 then
    error("clean-up failed:\n" .. table.concat(failed, "\n"), 0)
  end
end

return undo
