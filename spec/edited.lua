--- A handler's file that a spec edits while devices use it.
local assert = require "luassert"
local commands = require "spec.commands"
local sim = require "tcmu.sim"

local edited = {}

local folder, host

--- Makes the folder of the file, and a host for devices; clean() removes both.
-- @return the host
function edited.make()
  folder = os.tmpname()
  os.remove(folder)
  os.execute("mkdir " .. folder)
  host = sim.host { memory_limit = 64 << 20 }
  return host
end

function edited.clean()
  host:close()
  os.execute("rm -r " .. folder)
end

--- Makes another host, in place of the one that there was.
function edited.host(options)
  host:close()
  host = sim.host(options)
  return host
end

--- The path of a file in it; of the handler without a name.
function edited.path(name) return folder .. "/" .. (name or "h.lua") end

function edited.file(name, text)
  local f <close> = io.open(edited.path(name), "w")
  f:write(text)
end

--- Writes the handler's file: the fields of its table, and what stands before
--- it.
function edited.put(fields, before)
  edited.file("h.lua", ("local tcmu = require 'tcmu'\n"
    .. "local scsi = require 'tcmu.scsi'\n%s\n"
    .. "return tcmu.handler { name = 'h', %s }"):format(before or "", fields))
end

--- The same for a handler whose vendor command says `text`.
function edited.says(text, more)
  edited.put(("%s on = { [0xC1] = function() return %q end }")
             :format(more or "", text))
end

--- Opens a device with it, on the host unless another is named.
function edited.open(options, on)
  options = options or {}
  options.size = options.size or 1 << 20
  local dev, why = (on or host):device(edited.path(), options)
  return dev or error(why, 2)
end

--- The vendor command, with a number in byte 1; and what it says.
function edited.ask(n) return commands.vendor(0xC1, n or 0) end

function edited.told(dev, n) return dev:cmd(edited.ask(n)).data end

--- Lets happen what takes no time.
function edited.turns(dev)
  for _ = 1, 5 do dev:run(function() return true end) end
end

local turn = 1000

--- Begins a reload; returns what waits for its end.
function edited.begin(dev)
  turn = turn + 1
  assert.equal(0, dev:change("prepare", { turn = turn }))
  dev.shard:change(dev.id, "reload", { turn = turn })
  edited.turns(dev)
  return function()
    local key <const> = dev.id .. "reload"
    local reports <const> = dev.host.reports
    dev:run(function() return reports[key] end)
    local report = reports[key]
    reports[key] = nil
    return report.status, report.why
  end
end

--- Reloads, which has to be refused; why.
function edited.refusal(dev)
  local ok, why = dev:reload()
  assert.is_nil(ok)
  assert.is_nil(why:find("traceback", 1, true), why)
  return why
end

return edited
