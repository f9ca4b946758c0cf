--- Who answers a command: the handler, the device kind, or nobody.
--
-- A device has a table of 256 functions, one per opcode (and one for commands
-- that meet a unit attention or a device that is not ready), which C calls as
-- f(self, cmd).
-- Replies are cut to the CDB's allocation length here, so that neither
-- handlers nor kinds have to.

local cdb = require "tcmu.cdb"
local offer = require "tcmu.offer"
local scsi = require "tcmu.scsi"

local dispatch = {}

local ATTENTION <const> = 257       -- index after the opcodes; as in cmd.c

-- SPC-4 5.14: these never end with a unit attention; REQUEST SENSE has it in
-- its data.
local PASSES_ATTENTION <const> = {
  [scsi.INQUIRY] = true, [scsi.REPORT_LUNS] = true, [scsi.REQUEST_SENSE] = true,
}

local function unsupported() error(scsi.INVALID_COMMAND_OPERATION_CODE) end

-- The service action is in byte 1, or in bytes 8 and 9 of opcode 7Fh.
local function action_of(cmd)
  if cmd.opcode == 0x7F then
    if #cmd.cdb < 10 then error(scsi.INVALID_FIELD_IN_CDB:at(7)) end
    return cmd:u16(8)
  end
  return cmd:u8(1) & 0x1F
end

local function bad_action(cmd)
  if cmd.opcode == 0x7F then error(scsi.INVALID_FIELD_IN_CDB:at(8)) end
  error(scsi.INVALID_FIELD_IN_CDB:at(1, 4))
end

--- What the device kind answers to this command; raises if it does not have
-- it.  The result is called with the handler's self and the command.
function dispatch.kind_answer(dev, cmd)
  local entry = dev.kind.on[cmd.opcode]
  if type(entry) ~= "table" then
    return entry or unsupported
  end
  return entry[action_of(cmd)] or bad_action(cmd)
end

-- Cuts what `answer` returns to what the CDB allows.
local function cut(answer, field)
  return function(self, cmd)
    local reply = answer(self, cmd)
    if reply == nil then return nil end
    local most = cdb.get(cmd.cdb, field)
    if #reply <= most then return reply end
    if type(reply) == "string" then return reply:sub(1, most) end
    return reply:get(0, most)
  end
end

-- `answer`, with its reply cut if the layout says where the length is.
local function cutting(dev, opcode, action, answer)
  local layout = cdb.layout(opcode, action, dev.kind.layouts)
  if layout and layout.allocation then
    return cut(answer, layout.allocation)
  end
  return answer
end

-- The function for one opcode and service action (nil: it has none).
local function choose(dev, opcode, action)
  if not offer.has(dev, opcode, action) then return nil end
  local own = dev.handler.on and dev.handler.on[opcode]
  if type(own) == "table" then own = own[action] end
  local kind = dev.kind.on[opcode]
  if type(kind) == "table" then kind = kind[action] end
  return cutting(dev, opcode, action, own or kind)
end

-- One function for an opcode that has service actions.
local function by_action(dev, opcode, actions)
  local chosen = {}
  for action in pairs(actions) do
    chosen[action] = choose(dev, opcode, action)
  end
  if next(chosen) == nil then return unsupported end
  return function(self, cmd)
    local answer = chosen[action_of(cmd)] or bad_action(cmd)
    return answer(self, cmd)
  end
end

local function actions_of(dev, opcode)
  local actions
  for _, on in ipairs { dev.kind.on, dev.handler.on or {} } do
    if type(on[opcode]) == "table" then
      actions = actions or {}
      for action in pairs(on[opcode]) do actions[action] = true end
    end
  end
  return actions
end

local function attention(kind, routes)
  local passes <const> = kind.passes_attention or PASSES_ATTENTION
  return function(self, cmd)
    local dev <const> = cmd.dev
    if not passes[cmd.opcode] then
      local raised = dev.attention
      if raised then
        dev:set { attention = false }
        error(raised)
      end
    end
    if dev.not_ready then dev.not_ready(cmd) end
    return routes[cmd.opcode + 1](self, cmd)
  end
end

--- The table of a device: routes[opcode + 1] = function(self, cmd).  It serves
--- every device of the handler that has the same commands: see tcmu.routes.
function dispatch.routes(dev)
  local routes = {}
  for opcode = 0, 255 do
    local own = dev.handler.on and dev.handler.on[opcode]
    local actions = actions_of(dev, opcode)
    local answer
    if actions and type(own) ~= "function" then
      answer = by_action(dev, opcode, actions)
    else
      answer = choose(dev, opcode) or unsupported
    end
    routes[opcode + 1] = answer
  end
  routes[ATTENTION] = attention(dev.kind, routes)
  return routes
end

-- Opcodes that C can serve from a store, with what the device has to be able to
-- do; and those for which it can enter a handler.
local FROM_STORE <const> = {
  [0x08] = "read", [0x28] = "read", [0x88] = "read", [0xA8] = "read",
  [0x2F] = "read", [0x8F] = "read", [0xAF] = "read",
  [0x0A] = "write", [0x2A] = "write", [0x8A] = "write", [0xAA] = "write",
  [0x41] = "write", [0x93] = "write", [0x42] = "unmap",
  [0x35] = "flush", [0x91] = "flush",
  [0x7F] = "write",
}
local READS <const> = { 0x08, 0x28, 0x88, 0xA8 }
local WRITES <const> = { 0x0A, 0x2A, 0x8A, 0xAA }

--- Who serves which opcode without the Lua dispatcher, where the handler leaves
-- it alone and the kind answers it as every disk does: { [opcode] = "ready",
-- "store", "read" or "write" }, all others by Lua.
function dispatch.shortcuts(dev)
  local disk = require "tcmu.disk"
  local shortcuts = {}
  local function route(opcode, who)
    local own = dev.handler.on and dev.handler.on[opcode]
    if own == nil and disk.direct[opcode]
       and dev.kind.on[opcode] == disk.on[opcode] then
      shortcuts[opcode] = who
    end
  end

  if not dev.removable then route(scsi.TEST_UNIT_READY, "ready") end
  if dev.store then
    for opcode, ability in pairs(FROM_STORE) do
      if dev.can[ability] and not (ability == "flush" and dev.lost_flush) then
        route(opcode, "store")
      end
    end
    return shortcuts
  end
  if dev.handler.read then
    for _, opcode in ipairs(READS) do route(opcode, "read") end
  end
  if dev.handler.write then
    for _, opcode in ipairs(WRITES) do route(opcode, "write") end
  end
  return shortcuts
end

return dispatch
