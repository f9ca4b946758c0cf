--- REPORT SUPPORTED OPERATION CODES (SPC-4 clause 6).
--
-- Told from the same tables that answer the commands: tcmu.offer says which
-- there are, tcmu.cdb how they look.  What the kernel answers never reaches a
-- TCMU device, but the initiator does have it.

local cdb = require "tcmu.cdb"
local guard = require "tcmu.guard"
local offer = require "tcmu.offer"

local rsoc = {}

-- What the kernel answers in front of every TCMU device, and what it answers
-- while reservations are its business (emulate_pr and pgr_support, as they are
-- unless somebody has changed them).
local CORE <const> = { "report_luns" }
local RESERVATIONS <const> = {
  "reserve_6", "release_6", "reserve_10", "release_10",
  "persistent_reserve_in_read_keys", "persistent_reserve_in_read_reservation",
  "persistent_reserve_in_report_capabilities",
  "persistent_reserve_in_read_full_status",
  "persistent_reserve_out_register", "persistent_reserve_out_reserve",
  "persistent_reserve_out_release", "persistent_reserve_out_clear",
  "persistent_reserve_out_preempt",
  "persistent_reserve_out_preempt_and_abort",
  "persistent_reserve_out_register_and_ignore_existing_key",
  "persistent_reserve_out_register_and_move",
}
local NOT_SUPPORTED <const>, STANDARD <const>, VENDOR <const> = 1, 3, 5
local ALL <const>, PLAIN <const>, WITH_ACTION <const> = 0, 1, 2

-- Command timeouts descriptor: no time is promised, none is recommended.
local TIMEOUTS <const> = string.pack(">I2BBI4I4", 0x0A, 0, 0, 0, 0)

--- All commands of a device, those that the kernel answers among them, as
-- tcmu.offer lists them.
function rsoc.commands(dev)
  local list, seen = offer.list(dev), {}
  for _, entry in ipairs(list) do
    seen[entry.opcode << 16 | (entry.action or 0)] = true
  end
  local function add(ids)
    for _, id in ipairs(ids) do
      local layout = cdb.by_id(id, dev.kind.layouts)
      if not seen[layout.opcode << 16 | (layout.action or 0)] then
        list[#list + 1] = { opcode = layout.opcode, action = layout.action,
                            layout = layout }
      end
    end
  end
  add(CORE)
  if dev.reservations then add(RESERVATIONS) end
  table.sort(list, offer.before)
  return list
end

local function length_of(entry)
  return entry.layout and entry.layout.length
         or cdb.length(string.char(entry.opcode) .. ("\0"):rep(7))
end

local function all(dev, timeouts)
  local out = {}
  for _, entry in ipairs(rsoc.commands(dev)) do
    local flags = (timeouts and 0x02 or 0) | (entry.action and 0x01 or 0)
    out[#out + 1] = string.pack(">BBI2BBI2", entry.opcode, 0,
                                entry.action or 0, 0, flags, length_of(entry))
    if timeouts then out[#out + 1] = TIMEOUTS end
  end
  return string.pack(">s4", table.concat(out))
end

-- Usage data for a command of the handler that no table describes: every bit
-- may mean something, except in CONTROL.
local function unknown_usage(entry)
  return string.char(entry.opcode) .. ("\xFF"):rep(length_of(entry) - 2)
         .. "\0"
end

local function one(dev, entry, timeouts)
  local flag <const> = timeouts and entry and 0x80 or 0
  if not entry then
    return string.pack(">BBI2", 0, NOT_SUPPORTED, 0)
  end
  local usage = entry.layout and cdb.usage(entry.layout, dev.can)
                or unknown_usage(entry)
  return string.pack(">BBs2", 0, flag | (entry.layout and STANDARD or VENDOR),
                     usage) .. (flag ~= 0 and TIMEOUTS or "")
end

-- The entry for an opcode and action, and whether the opcode has actions: nil
-- for one that neither the device nor a table knows.
local function look_up(dev, opcode, action)
  local found, grouped
  local kind <const> = dev.kind.layouts
  if cdb.has_actions(opcode, kind) then grouped = true
  elseif cdb.layout(opcode, nil, kind) then grouped = false end
  for _, entry in ipairs(rsoc.commands(dev)) do
    if entry.opcode == opcode then
      grouped = entry.action ~= nil
      if (entry.action or 0) == action then found = entry end
    end
  end
  return found, grouped
end

--- REPORT SUPPORTED OPERATION CODES with all reporting options.
function rsoc.report(_, cmd, layout)
  local dev <const> = cmd.dev
  local option <const> = guard.field(cmd, layout, "reporting_options")
  local timeouts <const> = guard.field(cmd, layout, "rctd") == 1
  if option == ALL then return all(dev, timeouts) end
  if option > 3 then guard.refuse(layout, "reporting_options") end

  local opcode = guard.field(cmd, layout, "requested_operation_code")
  local action = guard.field(cmd, layout, "requested_service_action")
  if option == PLAIN then action = 0 end
  local entry, grouped = look_up(dev, opcode, action)
  if option == PLAIN and grouped
     or option == WITH_ACTION and grouped == false then
    guard.refuse(layout, "requested_operation_code")
  end
  return one(dev, entry, timeouts)
end

return rsoc
