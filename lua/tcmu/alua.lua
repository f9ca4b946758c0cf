--- Ports and port groups: REPORT and SET TARGET PORT GROUPS, VPD 83h and 88h.
--
-- A ring entry does not say through which port a command came, and the groups
-- are the kernel's, which enforces their states and raises the attentions, but
-- passes both commands on (6.1 and 6.12 do; spec/vm/alua_spec.lua).  So control
-- reads them and tells the device when it is added and in an "alua" message,
-- and writes what SET TARGET PORT GROUPS wants (tcmu.port_groups):
--
--   groups  "ID STATE PREFERRED SUPPORTED STATUS IMPLICIT EXPLICIT PORT...;..."
--           numbers; the ports are relative target port identifiers
--   port    "GROUP RELATIVE NAME" of the port, if the device has exactly one;
--           NAME is its SCSI name, "iqn.2026-01.lab:t,t,0x0001", or empty;
--           RELATIVE 0 if it has no number
--   set     in the answer to SET TARGET PORT GROUPS: 0 or an errno; why
--
-- Without them the device has no groups and no port designators.

local core = require "tcmu.core"
local guard = require "tcmu.guard"
local sense = require "tcmu.sense"

local alua = {}

local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local CANNOT_SET <const> =
  sense.constant.SET_TARGET_PORT_GROUPS_COMMAND_FAILED
local EXTENDED <const> = 1          -- PARAMETER DATA FORMAT 001b
local BINARY <const>, UTF8 <const> = 1, 3
local RELATIVE_PORT <const>, PORT_GROUP <const>, NAME <const> = 4, 5, 8
local PORT <const> = 0x10           -- ASSOCIATION 01b: the target port
local PIV <const> = 0x80            -- PROTOCOL IDENTIFIER is valid

-- PROTOCOL IDENTIFIER by the beginning of a port's name (SPC-4 7.6.1).
local PROTOCOLS <const> = { iqn = 0x50, eui = 0x50, naa = 0x60 }

--- Takes in what control says of groups and port.
-- @param fields  { groups = or nil, port = or nil, set =, why = }
function alua.set(dev, fields)
  dev.port_groups, dev.port = nil, nil
  for text in (fields.groups or ""):gmatch("[^;]+") do
    local numbers = {}
    for n in text:gmatch("%d+") do numbers[#numbers + 1] = tonumber(n) end
    local group = { ports = { table.unpack(numbers, 8) } }
    group.id, group.state, group.preferred, group.supported, group.status,
      group.implicit, group.explicit = table.unpack(numbers, 1, 7)
    dev.port_groups = dev.port_groups or {}
    table.insert(dev.port_groups, group)
  end
  local group, relative, name = (fields.port or ""):match "^(%d+) (%d+) (.*)$"
  if name then
    dev.port = { group = tonumber(group),
                 relative = relative ~= "0" and tonumber(relative) or nil,
                 name = name ~= "" and name or nil }
  end
  local asked = fields.set and table.remove(dev.setting_port_groups, 1)
  if asked then asked(fields.set, fields.why) end
end

--- True if there are groups to report.
function alua.has_groups(dev) return dev.port_groups ~= nil end

--- True if an initiator may set the state of a group.
function alua.can_set(dev)
  for _, group in ipairs(dev.port_groups or {}) do
    if group.explicit == 1 then return true end
  end
  return false
end

--- TPGS of standard INQUIRY data: bit 0 implicit, bit 1 explicit.
function alua.support(dev)
  local bits = 0
  for _, group in ipairs(dev.port_groups or {}) do
    bits = bits | group.implicit
  end
  return bits | (alua.can_set(dev) and 2 or 0)
end

-- A designator of the one port; the transport is told where it is known.
local function designator(dev, code_set, kind, body)
  local name <const> = dev.port.name
  local protocol = name and PROTOCOLS[name:sub(1, 3)]
  local valid <const> = protocol and PIV or 0
  return string.pack(">BBBs1", (protocol or 0) | code_set, valid | PORT | kind,
                     0, body)
end

-- SCSI names end with a zero and fill words (SPC-4 7.8.6.11).
local function port_name(dev)
  local name = dev.port.name .. "\0"
  return designator(dev, UTF8, NAME, name .. ("\0"):rep(-#name % 4))
end

--- Designators of the one port, for page 83h; "" where it is not known.
function alua.designators(dev)
  local port <const> = dev.port
  if not port then return "" end
  local function number(kind, n)
    return n and designator(dev, BINARY, kind, string.pack(">xxI2", n)) or ""
  end
  return number(RELATIVE_PORT, port.relative) .. number(PORT_GROUP, port.group)
         .. (port.name and port_name(dev) or "")
end

--- Page 88h, or nil where the one port, its number or name is not known.
function alua.scsi_ports(dev)
  local port <const> = dev.port
  if not port or not port.name or not port.relative then return nil end
  return string.pack(">xxI2xxs2xxs2", port.relative, "", port_name(dev))
end

--- REPORT TARGET PORT GROUPS (SPC-4 6.37).
function alua.report(_, cmd, layout)
  local format <const> = guard.field(cmd, layout, "parameter_data_format")
  if format > EXTENDED then guard.refuse(layout, "parameter_data_format") end
  local out = {}
  if format == EXTENDED then out[1] = string.pack(">BBxx", 0x10, 0) end
  for _, group in ipairs(cmd.dev.port_groups) do
    out[#out + 1] = string.pack(">BBI2xBxB", group.preferred << 7
                                | group.state, group.supported, group.id,
                                group.status, #group.ports)
    for _, port in ipairs(group.ports) do
      out[#out + 1] = string.pack(">xxI2", port)
    end
  end
  return string.pack(">s4", table.concat(out))
end

local function group_with(dev, id)
  for _, group in ipairs(dev.port_groups) do
    if group.id == id then return group end
  end
end

-- Has control write the states, { [id] = state }; waits.
local function set_states(dev, states)
  local list = {}
  for id, state in pairs(states) do
    list[#list + 1] = ("%d %d"):format(id, state)
  end
  dev.setting_port_groups = dev.setting_port_groups or {}
  return core.await(function(wake)
    table.insert(dev.setting_port_groups, wake)
    dev.handle():tell("set_port_groups", table.concat(list, ";"))
  end)
end

--- SET TARGET PORT GROUPS (SPC-4 6.45): hands the states to control, which
-- writes them to configfs, and waits.
function alua.change(_, cmd, layout)
  local dev <const> = cmd.dev
  local list = guard.parameters(cmd, layout)
  if list == "" then return end
  if #list < 4 or #list % 4 ~= 0 then
    guard.refuse(layout, "parameter_list_length")
  end
  local states = {}
  for at = 4, #list - 4, 4 do
    local state, id = string.unpack(">BxI2", list, at + 1)
    local group = group_with(dev, id)
    if not group or group.explicit == 0 then
      error(BAD_FIELD:at_param(at + 2))
    end
    -- T_SUP ... AO_SUP are the bits of the states 0 to 3.
    if state > 3 or group.supported & 1 << state == 0 then
      error(BAD_FIELD:at_param(at, 3))
    end
    states[id] = state
  end
  if not next(states) then return end
  local status, why = set_states(dev, states)
  if status ~= 0 then
    core.log("error", dev.hba .. "/" .. dev.name, tostring(why))
    error(CANNOT_SET)
  end
end

return alua
