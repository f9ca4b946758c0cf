--- The dev table of one device: what handlers, kinds and the emulation see of
--- it, and what C is told about it.
--
-- Data go to the store, or to the handler's functions; commands may change a
-- few settings.  Opening and changing a device is the business of tcmu.device
-- and tcmu.change.

local alua = require "tcmu.alua"
local core = require "tcmu.core"
local dispatch = require "tcmu.dispatch"
local limits = require "tcmu.limits"
local option = require "tcmu.option"
local routes = require "tcmu.routes"
local vpd = require "tcmu.vpd"
require "tcmu.command"              -- whose methods a stand-in has as well

local devs = {}

local ZEROES <const> = 1 << 20      -- bytes of zeroes written at once

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

-- What a handler's function gets as the command where that would have other
-- data: `data`, `data_in` and `dev` are its own, the rest is of the command that
-- runs, if there is one.  So what runs side by side for one command stays apart.
local StandIn = {}
local methods = {}                  -- by name, of the command behind it

-- core.cmd_methods has functions, and numbers for what only a command tells.
function StandIn:__index(key)
  local of <const> = rawget(self, "of")
  local method <const> = core.cmd_methods[key]
  if type(method) ~= "function" then return of and of[key] end
  methods[key] = methods[key] or function(stand_in, ...)
    return method(rawget(stand_in, "of"), ...)
  end
  return methods[key]
end

-- The command that runs, if `buffer` is its data or nil, or a stand-in.
local function command(dev, buffer)
  local cmd <const> = core.running()
  if cmd and (buffer == nil or buffer == cmd.data) then return cmd end
  return setmetatable({ of = cmd, data = buffer, data_in = buffer, dev = dev },
                      StandIn)
end

-- Calls fn(self, cmd, ...) of the handler with `buffer` as cmd.data.
local function with_data(dev, fn, buffer, ...)
  return fn(dev.self, command(dev, buffer), ...)
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
    if offset < finish then core.sleep(0) end   -- a write may never wait
  end
end

-- Making --------------------------------------------------------------------

--- The names that an operator has given, out of a message of control.
function devs.wwn(fields)
  return {
    serial = fields.serial or "", vendor = fields.vendor or "",
    product = fields.product or "", revision = fields.revision or "",
    company_id = fields.company_id or "",
  }
end

--- The kind of a handler's devices.
function devs.kind(h) return h.device or require "tcmu.disk" end

--- Makes the dev table for a message of control ("add").  Raises if the
-- handler does not have the options.
function devs.new(h, handle, fields)
  local options, message = option.parse(h.options, fields.options_text)
  if not options then error(message, 0) end
  local dev = setmetatable({
    name = fields.name, hba = fields.hba, config = fields.config,
    options = options, size = fields.size, block_size = fields.block_size,
    max_sectors = fields.max_sectors, read_only = fields.read_only or false,
    write_cache = fields.write_cache or false, descriptor_sense = false,
    software_protected = false, removable = options.removable == true,
    reservations = fields.reservations ~= false, state_dir = fields.state_dir,
    wwn = devs.wwn(fields), handler = h, kind = devs.kind(h),
    options_text = fields.options_text or "",
    handle = function() return handle end,
  }, Dev)
  alua.set(dev, fields)
  return dev
end

local SHADOWED <const> = { "read", "write", "unmap", "flush", "status" }

--- What the device can do with a handler: what its store or the handler can.
-- Raises if both would answer.
function devs.abilities(dev, h)
  -- Ejected: see tcmu.medium.  A store that comes back can do what it could.
  local away <const> = not dev.store and dev.can and dev.can.read
                       and not dev.handler.read
  if not dev.store and not away then
    return { read = h.read ~= nil, write = h.write ~= nil,
             unmap = h.unmap ~= nil, flush = h.flush ~= nil,
             zero = h.write ~= nil,
             atomic = h.write ~= nil and h.flush == nil }
  end
  for _, key in ipairs(SHADOWED) do
    if h[key] then
      error(("the handler's '%s' would never be called: the store that its "
             .. "open returned answers; remove one of them"):format(key), 0)
    end
  end
  if away then return dev.can end
  local info = dev.store:info()
  if info.read_only then dev.read_only = true end
  return { read = true, write = not info.read_only,
           unmap = info.discards,
           flush = info.volatile_cache, zero = not info.read_only,
           atomic = not info.volatile_cache }
end

--- Tells C by which designators other devices of the process find this one,
-- where they may: those of page 83h.
function devs.tell_designators(dev)
  if not core.peer.allowed() or not dev.kind.vpd then return end
  dev.handle():set("designators", vpd.body(dev, 0x83) or "")
end

--- Tells C what depends on the handler, all of it between two commands.
function devs.publish_handler(dev, handle)
  local h <const> = dev.handler
  local its_routes <const> = routes.of(dev)
  local shortcuts <const> = dispatch.shortcuts(dev)
  local most <const> = limits.of(dev)
  handle:set("max_blocks", most.transfer)
  handle:set("max_unmap", most.unmap_blocks)
  handle:set("max_same", most.write_same)
  handle:set("self", dev.self)
  handle:set("has_flush", h.flush ~= nil)
  handle:set("read", h.read)
  handle:set("write", h.write)
  handle:set("routes", its_routes)
  handle:set("shortcuts", shortcuts)
  devs.tell_designators(dev)
end

--- Tells C all that it has to know.
function devs.publish(dev, handle)
  handle:set("dev", dev)
  handle:set("size", dev.size)
  handle:set("block_size", dev.block_size)
  handle:set("read_only", dev.read_only)
  handle:set("write_cache", dev.write_cache)
  handle:set("store", dev.store)
  devs.publish_handler(dev, handle)
end

return devs
