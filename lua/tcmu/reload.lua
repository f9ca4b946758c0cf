--- A handler's new file takes over a device that is open: hot reload.
--
-- In two steps, so that a mistake leaves all devices with the handler they
-- have.  First every device of the handler asks "prepare": the file is loaded,
-- once in each state, and checked against the device.  Then each in turn asks
-- "reload": new commands are held, those that run end on the old functions, the
-- new handler's upgrade runs, and the functions are replaced between two
-- commands.  Whatever fails there leaves this device with the old ones.

local core = require "tcmu.core"
local devs = require "tcmu.dev"
local fresh = require "tcmu.fresh"
local option = require "tcmu.option"
local scsi = require "tcmu.scsi"
local spc = require "tcmu.spc"
local vpd = require "tcmu.vpd"

local reload = {}

local LIMIT <const> = 10000         -- ms that commands may be held

local function refuse(text, ...) error(text:format(...), 0) end

-- Checks --------------------------------------------------------------------

-- What initiators count on, which a device does not lose while it is in use.
local LASTING <const> = { "read", "write", "flush", "unmap" }

local function check_kind(old, kind)
  if kind == old then return end
  if kind.name ~= old.name or kind.peripheral_type ~= old.peripheral_type then
    refuse("its device is now '%s', that of this one is '%s': delete the "
           .. "device and create it again", tostring(kind.name),
           tostring(old.name))
  end
end

-- A value without a name belongs to the first option, whichever that is.
local function check_first(old, new, text)
  local was <const>, is <const> = option.names(old)[1], option.names(new)[1]
  if was ~= is and option.relies_on_first(text) then
    refuse("its first option is now '%s', but '%s' was meant for '%s': delete "
           .. "the device and create it again", tostring(is), text,
           tostring(was))
  end
end

-- The device's options as the new handler reads them.
local function options_of(dev, h)
  local options, why = option.parse(h.options, dev.options_text)
  if not options then
    refuse("%s; delete the device and create it again, or keep the option",
           why)
  end
  return options
end

local function check_abilities(dev, h)
  local can <const> = devs.abilities(dev, h)
  for _, ability in ipairs(LASTING) do
    if dev.can[ability] and not can[ability] then
      refuse("it has no '%s' any more, which initiators count on: delete the "
             .. "device and create it again", ability)
    end
  end
end

local function check(dev, h)
  if h.name ~= dev.handler.name then
    refuse("it is now named '%s' instead of '%s'", h.name, dev.handler.name)
  end
  check_kind(dev.kind, devs.kind(h))
  check_first(dev.handler.options, h.options, dev.options_text)
  local options <const> = options_of(dev, h)
  if h.check then h.check(options) end
  check_abilities(dev, h)
end

--- Loads the file for this turn, unless another device has done so, and checks
-- it for the device.  Does not wait; raises one sentence.  settle() follows.
function reload.prepare(program, dev, fields)
  local next_one = program.next
  if not next_one or next_one.turn ~= fields.turn then
    program.next = nil
    next_one = { turn = fields.turn, handler = fresh.load(program.path) }
  end
  check(dev, next_one.handler)
  program.next = next_one
end

--- Follows every prepare(), in a call of its own since that may have been
-- stopped half-way.
function reload.settle(program, prepared)
  local new = fresh.settle()
  if not prepared then
    program.next = nil
  elseif new then
    program.next.new = new
  end
end

-- Taking over ---------------------------------------------------------------

-- What INQUIRY says without the handler's help; nil where nobody knows.
local function identity(dev)
  local ok, all = pcall(function()
    local parts = { spc.standard(dev) }
    for _, page in ipairs { vpd.body(dev, 0):byte(1, -1) } do
      parts[#parts + 1] = string.pack(">s2", vpd.body(dev, page))
    end
    return table.concat(parts)
  end)
  return ok and all or nil
end

-- Runs fn in a task of its own for so long; returns what it returns.
local function within(ms, too_long, fn)
  local over = {}
  local result
  local ok, err = pcall(core.all, function()
    result = fn()
    error(over)
  end, function()
    core.sleep(ms)
    error(too_long(), 0)
  end)
  if not ok and err ~= over then error(err, 0) end
  return result
end

-- Holds new commands until this task ends, waits for those that run, and
-- upgrades; returns the new self.
local function upgrade(dev, h)
  local held = false
  local new = within(LIMIT, function()
    if held then
      return ("its upgrade took longer than %d s"):format(LIMIT // 1000)
    end
    return ("a command has been running for %d s: reload again when it is over")
           :format(LIMIT // 1000)
  end, function()
    dev.handle():hold()
    held = true
    if not h.upgrade then return nil end
    local ok, result = xpcall(h.upgrade, function(err)
      core.log("error", dev.hba .. "/" .. dev.name, "in the handler's upgrade: "
               .. debug.traceback(tostring(err), 2))
      return err
    end, dev.self, dev.handler.version, dev)
    if not ok then error(result, 0) end
    return result
  end)
  if new == nil then new = dev.self end
  local store = type(new) == "table" and new.store or nil
  if store ~= dev.store then
    refuse "its upgrade has changed the store, which a running device keeps"
  end
  return new
end

local REPLACED <const> = { "handler", "self", "options", "kind", "can",
                           "limits" }

-- Puts the fields of `dev` back when it is closed, unless `done` is set.
local function guard(dev)
  local was = {}
  for _, field in ipairs(REPLACED) do was[field] = dev[field] end
  return setmetatable({}, { __close = function(self)
    if self.done then return end
    for _, field in ipairs(REPLACED) do dev[field] = was[field] end
  end })
end

local function take_over(dev, h)
  local all <close> = guard(dev)
  local before <const> = identity(dev)
  dev.options = options_of(dev, h)
  local self <const> = upgrade(dev, h)
  core.sleep(0)                     -- what follows gets a budget of its own
  dev.handler, dev.self, dev.kind = h, self, devs.kind(h)
  local can <const> = devs.abilities(dev, h)
  can.eject = dev.can.eject
  dev.can, dev.limits = can, nil
  devs.publish_handler(dev, dev.handle())
  all.done = true
  if identity(dev) ~= before and not dev.attention then
    dev:set { attention = scsi.INQUIRY_DATA_HAS_CHANGED }
  end
end

--- Gives a device to the handler that was prepared.  A task; waits; raises the
-- reason why the device stays with the old one.
function reload.apply(program, dev, fields)
  local next_one <const> = program.next
  if not next_one or next_one.turn ~= fields.turn then
    refuse "nothing was prepared"
  end
  if next_one.new then
    fresh.adopt(next_one.new)
    next_one.new = nil
  end
  program.handler = next_one.handler    -- of the devices to come
  if dev.handler == next_one.handler then return end
  if dev.operation and not dev.operation.failed then
    refuse "a FORMAT UNIT or SANITIZE is running: reload again when it is over"
  end
  take_over(dev, next_one.handler)
end

return reload
