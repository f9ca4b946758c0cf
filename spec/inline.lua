--- A handler whose table a spec gives as text.
local assert = require "luassert"
local sim = require "tcmu.sim"

local inline = {}

--- A disk in memory, to be put before other fields.
inline.STORE =
  "open = function(dev) return { store = tcmu.store.memory(dev.size) } end,"

--- Its source, for tcmu.sim: `fields` stand in the table, behind the name, and
-- `before` stands before it.  The handler has a global table `log`.
function inline.source(fields, name, before)
  return ("=h\nlocal tcmu = require 'tcmu'\nlocal scsi = require 'tcmu.scsi'\n"
          .. "log = {} %s\nreturn tcmu.handler { name = %q, %s }")
         :format(before or "", name or "h", fields)
end

--- A device of it.
function inline.device(fields, options, before)
  return assert(sim.device(inline.source(fields, nil, before), options))
end

--- Opens none, for the handler has to be refused; why.
function inline.refusal(fields, name)
  local dev, why = sim.device(inline.source(fields, name))
  if dev then dev:close() end
  assert.is_nil(dev)
  assert.is_nil(why:find("traceback", 1, true), why)
  return why
end

return inline
