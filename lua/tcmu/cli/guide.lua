--- The guided tour of `tcmu-lua try`: a few commands, each with its reason.
--
-- It leaves the device as it was: a block that has data is not written to, and
-- one that had none is zeroed again.

local cdb = require "tcmu.cdb"
local paint = require "tcmu.cli.paint"
local scsi = require "tcmu.scsi"
local session = require "tcmu.cli.session"

local guide = {}

local VARIABLE <const> = 0x7F       -- the opcode of CDBs of any length
local TEXT <const> = "Hello from an initiator that is only simulated."

local function good(result) return result ~= nil and result.status == 0 end

local function is_zero(bytes) return not bytes:find("[^\0]") end

local function write_and_read(s, step)
  step "What is in the first block?"
  local result = s:send(session.transfer("read", 0, 1))
  if not good(result) then return end
  if not is_zero(result.data) then
    print("There are data in it already, so this tour writes nothing.")
    return
  end

  step "Write a text there."
  local block <const> = TEXT .. ("\0"):rep(s.block_size - #TEXT)
  if not good(s:send(session.transfer("write", 0, 1), block)) then return end
  step "Read it back."
  result = s:send(session.transfer("read", 0, 1))
  if not good(result) then return end
  if result.data ~= block then
    print("That is not what was written: this handler keeps nothing.")
    return
  end
  print("It is what was written.")
  step "Put back the zeroes that were there."
  s:send(session.transfer("write", 0, 1), ("\0"):rep(s.block_size))
end

-- CDBs of the commands that only this handler knows, with 0 wherever there is
-- a choice.
local function own_commands(found)
  local list = {}
  for _, command in ipairs(found.commands) do
    local known = cdb.layout(command.opcode, command.action)
    if command.who == "on" and not known and command.opcode ~= VARIABLE then
      local first = string.char(command.opcode, command.action or 0)
      list[#list + 1] = first
        .. ("\0"):rep(cdb.length(first .. ("\0"):rep(6)) - 2)
    end
  end
  return list
end

-- True if the handler has the command with this layout's id.
local function offers(found, id)
  local layout <const> = cdb.by_id(id)
  for _, command in ipairs(found.commands) do
    if command.opcode == layout.opcode and command.action == layout.action then
      return true
    end
  end
  return false
end

--- Runs the tour on a session.  `found` is the handler's survey: what the
-- handler does not offer is left out.
function guide.run(s, found)
  local steps = 0
  local function step(text, ...)
    steps = steps + 1
    print(("\n" .. paint.bold("%d. " .. text)):format(steps, ...))
  end

  step "Who are you?"
  s:send(scsi.cdb.inquiry { length = 96 })
  if offers(found, "read_capacity_16") then
    step "How large are you?"
    s:send(scsi.cdb.read_capacity_16 { length = 32 })
  end
  if offers(found, "read_10") then
    write_and_read(s, step)
    step "Ask for a block behind the end: how does a command fail?"
    s:send(session.transfer("read", s.blocks, 1))
  else
    step "Send a command that it does not have: how does a command fail?"
    s:send(session.transfer("read", 0, 1))
  end
  for _, bytes in ipairs(own_commands(found)) do
    step("Opcode %02Xh is this handler's own invention.", bytes:byte(1))
    s:send(bytes)
  end
  for i = 2, #s.devices do
    step("Device %d is served by shard %d, in a Lua state of its own.", i, i)
    s.current = i
    s:send(scsi.cdb.inquiry { length = 96 })
  end
  s.current = 1
end

return guide
