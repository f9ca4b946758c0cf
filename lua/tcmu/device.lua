--- One device in its handler's state: what C calls to open, change and close
--- it, and the dev table that handlers and the emulation see.
--
-- C gets from `device.load` a program { open, close, change, fail,
-- store_error, reason } for the handler; it calls open, close and change as
-- tasks that may wait, the others under pcall.

local alua = require "tcmu.alua"
local core = require "tcmu.core"
local dispatch = require "tcmu.dispatch"
local handler = require "tcmu.handler"
local limits = require "tcmu.limits"
local option = require "tcmu.option"
local sense = require "tcmu.sense"
local scsi = require "tcmu.scsi"
require "tcmu.command"

local device = {}

local EINVAL <const> = 22
local ZEROES <const> = 1 << 20      -- bytes of zeroes written at once
local LOG_BYTES <const> = 8192      -- of what a handler has raised
local KERNEL_SECTORS <const> = 128  -- hw_max_sectors unless somebody sets it

local Dev = {}
Dev.__index = Dev

-- What a handler may change while the device is open, besides its own fields.
local TOLD <const> = { write_cache = true, descriptor_sense = true }

-- What keeps commands from the fast path, and where each is kept.
local DETOURS <const> = { attention = true, not_ready = true }
local PROTECTIONS <const> = { read_only = true, software_protected = true }

--- dev:set { write_cache =, descriptor_sense =, read_only =,
-- software_protected =, attention =, not_ready = }: changes the device here
-- and in C.  `attention` is a sense value that the next command gets, or false;
-- `not_ready` a function that gets every command first and raises for those
-- that have to wait, or false.  Does not wait.
function Dev:set(changes)
  local handle <const> = self.handle()
  for name, value in pairs(changes) do
    if DETOURS[name] then
      self[name] = value or nil
      handle:set("attention",
                 self.attention ~= nil or self.not_ready ~= nil)
    elseif PROTECTIONS[name] then
      self[name] = value
      handle:set("read_only", self.read_only or self.software_protected)
    elseif TOLD[name] then
      self[name] = value
      handle:set(name, value)
    else
      error(("dev:set has no '%s'"):format(name), 2)
    end
  end
end

-- Data ----------------------------------------------------------------------

local STAND_IN <const> = { __index = { split = core.cmd_methods.split } }

-- The command that runs, or outside of one an object that can do a little.
local function command(dev, buffer)
  return core.running()
         or setmetatable({ data = buffer, dev = dev }, STAND_IN)
end

-- Calls fn(self, cmd, ...) of the handler with `buffer` as cmd.data.
local function with_data(dev, fn, buffer, ...)
  local cmd = command(dev, buffer)
  if buffer == cmd.data then return fn(dev.self, cmd, ...) end
  local before = cmd:swap_data(buffer)
  local reply = fn(dev.self, cmd, ...)
  cmd:swap_data(before)
  return reply
end

--- dev:read(buffer, offset): fills all of the buffer.  Waits; raises.
function Dev:read(buffer, offset)
  if self.store then return self.store:read(buffer, offset) end
  local length <const> = #buffer
  local reply = with_data(self, self.handler.read, buffer, offset, length)
  if reply == nil or rawequal(reply, buffer) then return end
  if #reply ~= length then
    error(("the handler's read has returned %d bytes of %d")
          :format(#reply, length), 0)
  end
  buffer:copy(0, reply)
end

local function flush_after(dev, stable, offset, length)
  if dev.handler.flush and (stable or not dev.write_cache) then
    dev.handler.flush(dev.self, command(dev), offset, length)
  end
end

--- dev:write(buffer, offset, stable): `stable`, or no write cache: on stable
-- storage before it returns.  Waits; raises.
function Dev:write(buffer, offset, stable)
  if self.store then
    return self.store:write(buffer, offset, stable or not self.write_cache)
  end
  with_data(self, self.handler.write, buffer, offset, #buffer)
  flush_after(self, stable, offset, #buffer)
end

--- dev:flush(offset, length): what was written is on stable storage.  Waits;
-- raises.
function Dev:flush(offset, length)
  if self.store then return self.store:flush() end
  if self.handler.flush then
    self.handler.flush(self.self, command(self), offset, length)
  end
end

--- dev:unmap(offset, length): the range reads as zeroes and may give its space
-- back.  Waits; raises.
function Dev:unmap(offset, length)
  local stable <const> = not self.write_cache
  if self.store then return self.store:discard(offset, length, stable) end
  self.handler.unmap(self.self, command(self), offset, length)
  flush_after(self, false, offset, length)
end

--- dev:status(offset): "mapped" or "deallocated", and for how many bytes from
-- there on that is so.  All is mapped where nobody can tell.  May wait.
function Dev:status(offset)
  if self.store then return self.store:status(offset) end
  if self.handler.status then
    return self.handler.status(self.self, command(self), offset)
  end
  return "mapped", self.size - offset
end

--- dev:zero(offset, length): the range reads as zeroes.  Waits; raises.
function Dev:zero(offset, length)
  if self.store then
    return self.store:zero(offset, length, not self.write_cache)
  end
  local zeroes = core.buffer(math.min(length, ZEROES))
  local finish <const> = offset + length
  while offset < finish do
    if finish - offset < #zeroes then zeroes = core.buffer(finish - offset) end
    self:write(zeroes, offset)
    offset = offset + #zeroes
  end
end

-- Opening -------------------------------------------------------------------

local function wwn_of(fields)
  return {
    serial = fields.serial or "", vendor = fields.vendor or "",
    product = fields.product or "", revision = fields.revision or "",
    company_id = fields.company_id or "",
  }
end

local function new_dev(h, handle, fields)
  local options, message = option.parse(h.options, fields.options_text)
  if not options then error(message, 0) end
  return setmetatable({
    name = fields.name, hba = fields.hba, config = fields.config,
    options = options, size = fields.size, block_size = fields.block_size,
    max_sectors = fields.max_sectors, read_only = fields.read_only or false,
    write_cache = fields.write_cache or false, descriptor_sense = false,
    software_protected = false, removable = options.removable == true,
    reservations = fields.reservations ~= false, state_dir = fields.state_dir,
    wwn = wwn_of(fields), handler = h,
    kind = h.device or require "tcmu.disk",
    handle = function() return handle end,
  }, Dev)
end

local SHADOWED <const> = { "read", "write", "unmap", "flush", "status" }

-- What this device can do: of the store, or of the handler.
local function abilities(dev)
  local h <const> = dev.handler
  if not dev.store then
    return { read = h.read ~= nil, write = h.write ~= nil,
             unmap = h.unmap ~= nil, flush = h.flush ~= nil,
             zero = h.write ~= nil }
  end
  for _, key in ipairs(SHADOWED) do
    if h[key] then
      error(("the handler's '%s' would never be called: the store that its "
             .. "open returned answers; remove one of them"):format(key), 0)
    end
  end
  local info = dev.store:info()
  if info.read_only then dev.read_only = true end
  return { read = true, write = not info.read_only,
           unmap = info.discards,
           flush = info.volatile_cache, zero = not info.read_only }
end

-- Tells C all that the fast path has to know.
local function publish(dev, handle)
  local h <const> = dev.handler
  handle:set("dev", dev)
  handle:set("self", dev.self)
  handle:set("size", dev.size)
  handle:set("block_size", dev.block_size)
  local most <const> = limits.of(dev)
  handle:set("max_blocks", most.transfer)
  handle:set("max_unmap", most.unmap_blocks)
  handle:set("max_same", most.write_same)
  handle:set("read_only", dev.read_only)
  handle:set("write_cache", dev.write_cache)
  handle:set("has_flush", h.flush ~= nil)
  handle:set("store", dev.store)
  handle:set("read", h.read)
  handle:set("write", h.write)
  handle:set("routes", dispatch.routes(dev))
  dispatch.shortcuts(dev, handle)
end

-- A task.
local function open(h, handle, fields)
  local dev = new_dev(h, handle, fields)
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
  dev.can = abilities(dev)
  dev.can.eject = dev.removable
  -- Without anything to flush there is no cache that could be lost.
  if not dev.can.flush then dev.write_cache = false end
  if dev.max_sectors == KERNEL_SECTORS then
    core.log("info", dev.hba .. "/" .. dev.name, ("a command moves at most %d "
      .. "blocks, which is the kernel's own limit: write hw_max_sectors=2048 "
      .. "to the device's control file for more"):format(dev.max_sectors))
  end
  publish(dev, handle)
  if dev.kind.opened then dev.kind.opened(dev) end
end

-- A task.  What an open that failed left behind has nothing to close.
local function close(dev)
  if not dev or not dev.can then return end
  if dev.store and dev.can.flush and not dev.read_only then dev.store:flush() end
  if dev.handler.close then dev.handler.close(dev.self) end
end

-- Changes -------------------------------------------------------------------

local change = {}

function change.size(dev, fields)
  local size <const> = fields.size
  if size % dev.block_size ~= 0 then
    error(("%d bytes are no whole number of blocks of %d bytes")
          :format(size, dev.block_size), 0)
  end
  if size < dev.size and not fields.force then
    error(("shrinking from %d to %d bytes would cut off data: resize with "
           .. "--force if that is meant"):format(dev.size, size), 0)
  end
  if size ~= dev.size and dev.kind.resize then dev.kind.resize(dev, size) end
  if dev.store and dev.store:size() < size then dev.store:resize(size) end
  if size == dev.size then return end
  dev.size = size
  dev.handle():set("size", size)
  dev:set { attention = scsi.CAPACITY_DATA_HAS_CHANGED }
end

-- targetcli restores a saved device by writing what it has already.
function change.config(dev, fields)
  if fields.config == dev.config then return end
  error("the configuration of a running device cannot change: delete the "
        .. "device and create it again", 0)
end

function change.write_cache(dev, fields)
  local on <const> = fields.write_cache
  if on and not dev.can.flush then
    error("this device has no write cache to switch on", 0)
  end
  if not on and dev.write_cache then dev:flush(0, dev.size) end
  dev:set { write_cache = on }
end

function change.time_out(dev, fields)
  dev.handle():set("time_out", fields.cmd_time_out)
end

function change.wwn(dev, fields) dev.wwn = wwn_of(fields) end

-- What port groups there are decides which commands there are.
function change.alua(dev, fields)
  alua.set(dev, fields.groups, fields.port)
  dev.handle():set("routes", dispatch.routes(dev))
end

-- Failures ------------------------------------------------------------------

local function is_io_error(err)
  return getmetatable(err) == core.io_error
end

local function log(dev, text)
  if #text > LOG_BYTES then text = text:sub(1, LOG_BYTES) .. " ..." end
  core.log("error", dev.hba .. "/" .. dev.name, text)
end

-- Status byte and sense bytes for what a command raised.
local function fail(dev, err, traceback, bytes)
  local value = err
  if is_io_error(err) then
    log(dev, err.message)
    value = sense.from_errno(err.errno, err.verb ~= "read")
  elseif not sense.is(err) then
    log(dev, ("in command %02Xh: %s"):format(bytes:byte(1),
        traceback or tostring(err)))
    value = sense.constant.INTERNAL_TARGET_FAILURE
  end
  if value.status ~= 0x02 then return value.status end
  return value.status, sense.encode(value, dev.descriptor_sense)
end

local function store_error(dev, errno, is_write)
  log(dev, ("%s failed: %s"):format(is_write and "a write" or "I/O",
                                    core.strerror(errno)))
  local value = sense.from_errno(errno, is_write)
  if value.status ~= 0x02 then return value.status end
  return value.status, sense.encode(value, dev.descriptor_sense)
end

-- One sentence and an errno for what open or a change raised.
local function reason(err, traceback)
  if is_io_error(err) then return err.message, err.errno end
  if type(err) == "string" then
    -- "file.lua:12: text": a bug has its place in the log, a refusal a text.
    core.log("debug", nil, traceback or err)
    return err, EINVAL
  end
  if sense.is(err) then return sense.describe(err), EINVAL end
  return traceback or tostring(err), EINVAL
end

--- Loads a handler and returns what C calls for its devices.  Raises.
function device.load(path)
  local h = handler.load(path)
  -- Loaded now, when more time is allowed than at open.
  local _ = h.device or require "tcmu.disk"
  return {
    open = function(handle, fields) return open(h, handle, fields) end,
    close = close,
    change = function(dev, verb, fields) return change[verb](dev, fields) end,
    fail = fail,
    store_error = store_error,
    reason = reason,
  }
end

return device
