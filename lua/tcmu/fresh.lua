--- A handler's file, loaded once more into the state where it is in service.
--
-- Modules of the handler's own folder are loaded anew with it; the host's and
-- those of the system are shared.  Until the new handler is wanted, the old one
-- must not notice: globals and package.loaded are put back as they were.

local handler = require "tcmu.handler"

local fresh = {}

-- The file may take away even these.
local globals <const>, loaded <const> = _G, package.loaded
local next <const>, rawequal <const>, rawset <const> = next, rawequal, rawset

local before                        -- while something is half loaded

local function copy(t)
  local all = {}
  for key, value in next, t do all[key] = value end
  return all
end

--- Loads the file and returns its handler.  Raises what handler.load raises.
-- Whatever happens, fresh.settle() has to be called next.
function fresh.load(path)
  before = { globals = copy(globals), modules = {} }
  for name in next, handler.own do
    before.modules[name] = loaded[name]
    loaded[name] = nil
  end
  return handler.load(path)
end

--- Puts back what loading has changed.
-- @return what fresh.adopt() takes; nil if nothing was loaded
function fresh.settle()
  if not before then return nil end
  local was <const> = before
  local new <const> = { globals = {}, gone = {}, modules = {} }
  for name in next, handler.own do
    new.modules[name] = loaded[name]
    loaded[name] = was.modules[name]
  end
  local is <const> = copy(globals)
  for key, value in next, is do
    if not rawequal(was.globals[key], value) then
      new.globals[key] = value
      rawset(globals, key, was.globals[key])
    end
  end
  for key, value in next, was.globals do
    if is[key] == nil then
      new.gone[key] = true
      rawset(globals, key, value)
    end
  end
  before = nil
  return new
end

--- From now on the state is that of the new handler.
function fresh.adopt(new)
  for name in next, handler.own do loaded[name] = new.modules[name] end
  for key, value in next, new.globals do rawset(globals, key, value) end
  for key in next, new.gone do rawset(globals, key, nil) end
end

return fresh
