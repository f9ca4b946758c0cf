--- A handler's file that a spec edits while devices use it.
local assert = require "luassert"
local commands = require "spec.commands"

local edited = {}

local folder

--- Makes the folder of the file; clean() removes it.
function edited.make()
  folder = os.tmpname()
  os.remove(folder)
  os.execute("mkdir " .. folder)
end

function edited.clean() os.execute("rm -r " .. folder) end

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

--- Opens a device with it.
function edited.open(host, options)
  options = options or {}
  options.size = options.size or 1 << 20
  local dev, why = host:device(edited.path(), options)
  return dev or error(why, 2)
end

--- The vendor command, with a number in byte 1; and what it says.
function edited.ask(n) return commands.vendor(0xC1, n or 0) end

function edited.told(dev, n) return dev:cmd(edited.ask(n)).data end

--- Reloads, which has to be refused; why.
function edited.refusal(dev)
  local ok, why = dev:reload()
  assert.is_nil(ok)
  assert.is_nil(why:find("traceback", 1, true), why)
  return why
end

return edited
