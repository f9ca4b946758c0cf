--- What a command object can do that needs no C.
--
-- These methods join those of host/bind_cmd.c: cmd:decode(), cmd:explain(),
-- cmd:default(), cmd:split() and cmd.name.

local core = require "tcmu.core"
local decode = require "tcmu.decode"
local dispatch = require "tcmu.dispatch"

local methods <const> = core.cmd_methods

--- cmd:decode(): the CDB's fields by their names in the standard; nil for a
-- command that no layout describes.  Does not wait.
function methods.decode(cmd)
  return decode.fields(cmd.cdb, cmd.dev.kind.layouts)
end

--- cmd.name: the command's name in its standard, nil if no layout describes it.
function core.cmd_getters.name(cmd)
  return decode.name(cmd.cdb, cmd.dev.kind.layouts)
end

--- cmd:explain(): the CDB as one English sentence.  Does not wait.
function methods.explain(cmd)
  return decode.explain(cmd.cdb, cmd.dev.kind.layouts)
end

--- cmd:default(): what the host would have answered, as a buffer that may be
-- changed and returned; nil if the command has no Data-In.  Raises what the
-- host would have raised.  May wait.
function methods.default(cmd)
  local answer = dispatch.kind_answer(cmd.dev, cmd)
  local reply = answer(cmd.dev.self, cmd)
  if type(reply) ~= "string" then return reply end
  local buffer = core.buffer(#reply)
  buffer:put(0, reply)
  return buffer
end

local function next_part(state, at)
  at = at + state.done
  local left = state.length - at
  if left <= 0 then return nil end
  local from = (state.offset + at) % state.unit
  local n = math.min(left, state.unit - from)
  state.done = n
  return at, (state.offset + at) // state.unit, from, n
end

--- for page, from, at, n in cmd:split(offset, length, unit): walks over a
-- range of bytes unit by unit: the number of the unit, the first byte in it,
-- the first byte in the range, and how many.  Does not wait.
function methods.split(_, offset, length, unit)
  local state = { offset = offset, length = length, unit = unit, done = 0 }
  local at = 0
  return function()
    local page, from, n
    at, page, from, n = next_part(state, at)
    if not at then return nil end
    return page, from, at, n
  end
end

return methods
