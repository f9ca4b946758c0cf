--- A handler's new file for all its devices: first they all check it, then each
--- in turn goes over to it.  For control and the simulator alike.

local rollout = {}

local turn = 0                      -- tells one reload from the next

-- Calls act(device) once for each device, those that come meanwhile included,
-- until it returns false.
local function each(find, act)
  local seen, more = {}, true
  while more do
    more = false
    for _, device in ipairs(find()) do
      if not seen[device] then
        seen[device], more = true, true
        if act(device) == false then return end
      end
    end
  end
end

--- Asks the devices of one handler.  One that refuses in the first round keeps
-- them all where they are; one that fails in the second stays alone.
-- @param find  function() -> a list of devices, whatever they are
-- @param ask   function(device, verb, fields) -> 0, or -errno and why not
-- @return how many have gone over, and a list of { device =, why = } for
-- those who said why they did not
function rollout.run(find, ask)
  turn = turn + 1
  local fields <const> = { turn = turn }
  local prepared, over, failed = {}, 0, {}

  local function passes(device, verb)
    local status, why = ask(device, verb, fields)
    if status == 0 then return true end
    failed[#failed + 1] = { device = device, why = why or "it was broken off" }
    return false
  end

  each(find, function(device)
    prepared[device] = passes(device, "prepare")
    return prepared[device]
  end)
  if failed[1] then return 0, failed end
  each(find, function(device)
    if (prepared[device] or passes(device, "prepare"))
       and passes(device, "reload") then
      over = over + 1
    end
  end)
  return over, failed
end

return rollout
