--- One device in its handler's state: what C calls to open, change and close
--- it.
--
-- C gets from `device.load` a program { open, close, change, serve, prepare,
-- settle, fail, store_error, reason } for the handler; it calls open, close,
-- change and serve as tasks that may wait, the others under pcall.

local change = require "tcmu.change"
local core = require "tcmu.core"
local devs = require "tcmu.dev"
local failure = require "tcmu.failure"
local handler = require "tcmu.handler"
local reload = require "tcmu.reload"

local device = {}

local LARGE <const> = 1 << 20       -- bytes that are worth a command
local KERNEL_SECTORS <const> = 128  -- hw_max_sectors unless somebody sets it

-- A task.
local function open(h, handle, fields)
  local dev = devs.new(h, handle, fields)
  handle:set("dev", dev)
  if h.check then h.check(dev.options) end
  dev.self = h.open and h.open(dev) or nil
  if type(dev.self) == "table" then dev.store = dev.self.store end
  if dev.store ~= nil and getmetatable(dev.store) ~= "store" then
    error(("open returned a store that is a %s: it takes one of tcmu.store")
          :format(type(dev.store)), 0)
  end
  if dev.store and dev.store:size() < dev.size then
    error(("the store has %d bytes, the device %d: use a larger store or a "
           .. "smaller device"):format(dev.store:size(), dev.size), 0)
  end
  dev.can = devs.abilities(dev, h)
  dev.can.eject = dev.removable
  -- Without anything to flush there is no cache that could be lost.
  if not dev.can.flush then dev.write_cache = false end
  if dev.max_sectors == KERNEL_SECTORS then
    core.log("info", dev.hba .. "/" .. dev.name, ("a command moves at most %d "
      .. "blocks, which is the kernel's own limit: for 1 MiB, write "
      .. "hw_max_sectors=%d to the device's control file before enable")
      :format(dev.max_sectors, LARGE // dev.block_size))
  end
  devs.publish(dev, handle)
  if dev.kind.opened then dev.kind.opened(dev) end
end

-- A task.  What an open that failed left behind has nothing to close.  The
-- handler closes what is its own even if the last flush fails.
local function close(dev)
  if not dev or not dev.can then return end
  if dev.can.flush and dev.can.write then
    local flushed, why = pcall(dev.flush, dev, 0, dev.size)
    if not flushed then
      core.log("error", dev.hba .. "/" .. dev.name, "the last flush has "
               .. "failed, what was in the cache may be lost: "
               .. failure.reason(why))
    end
  end
  if dev.handler.close then dev.handler.close(dev.self) end
end

--- Loads a handler and returns what C calls for its devices.  Raises.
function device.load(path)
  local program = { path = path, handler = handler.load(path) }
  devs.kind(program.handler)        -- loaded now, when more time is allowed
  return {
    open = function(handle, fields)
      return open(program.handler, handle, fields)
    end,
    close = close,
    change = function(dev, verb, fields)
      if verb == "reload" then return reload.apply(program, dev, fields) end
      return change[verb](dev, fields)
    end,
    serve = function(...) return require("tcmu.copy_serve")(...) end,
    prepare = function(dev, fields)
      return reload.prepare(program, dev, fields)
    end,
    settle = function(prepared) return reload.settle(program, prepared) end,
    fail = failure.command,
    store_error = failure.store,
    reason = failure.reason,
  }
end

return device
