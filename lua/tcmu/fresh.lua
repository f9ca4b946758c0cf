--- A handler's file, loaded once more into the state where it is in service.
--
-- Modules of the handler's own folder are loaded anew with it; the host's and
-- those of the system are shared.  Until the new handler is wanted, the old one
-- must not notice: globals and package.loaded are put back as they were.

local handler = require "tcmu.handler"

local fresh = {}

local before                        -- while something is half loaded

local function copy(t)
  local all = {}
  for key, value in next, t do all[key] = value end
  return all
end

--- Loads the file and returns its handler.  Raises what handler.load raises.
-- Whatever happens, fresh.settle() has to be called next.
function fresh.load(path)
  before = { globals = copy(_G), modules = {} }
  for name in pairs(handler.own) do
    before.modules[name] = package.loaded[name]
    package.loaded[name] = nil
  end
  return handler.load(path)
end

--- Puts back what loading has changed.
-- @return what fresh.adopt() takes; nil if nothing was loaded
function fresh.settle()
  if not before then return nil end
  local was <const> = before
  local new <const> = { globals = {}, modules = {} }
  for name in pairs(handler.own) do
    new.modules[name] = package.loaded[name]
    package.loaded[name] = was.modules[name]
  end
  for key, value in next, copy(_G) do
    if not rawequal(was.globals[key], value) then
      new.globals[key] = value
      rawset(_G, key, was.globals[key])
    end
  end
  before = nil
  return new
end

--- From now on the state is that of the new handler.
function fresh.adopt(new)
  for name in pairs(handler.own) do package.loaded[name] = new.modules[name] end
  for key, value in next, new.globals do rawset(_G, key, value) end
end

return fresh
