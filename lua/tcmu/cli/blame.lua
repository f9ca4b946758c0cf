--- Why a handler was refused, in a sentence that its author can use.

local blame = {}

-- "lua/tcmu/" or "5.4/tcmu/": Lua cuts long paths off at the left.
local OURS <const> = debug.getinfo(1, "S").source
                     :match("([^/]+/tcmu/)cli/[^/]+$")

-- "handlers/x.lua:12:" and what follows; nil for a sentence without a place.
local function split(why) return why:match("^([^:\n]+:%d+:) (.*)$") end

--- The sentence for a refusal.  It starts with the handler's path; a place in
-- a file of our own is left out, since no author could do anything there.
function blame.text(path, why)
  local place, rest = split(why)
  if place and place:find(OURS, 1, true) then why = rest end
  if why:sub(1, #path) == path then return why end
  return ("%s: %s"):format(path, why)
end

--- True if the sentence has a place in a file: then somebody may want the
-- traceback.
function blame.is_fault(why) return split(why) ~= nil end

return blame
