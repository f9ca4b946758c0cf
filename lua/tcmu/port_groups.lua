--- The target port groups of a device as configfs has them: control's half of
--- REPORT and SET TARGET PORT GROUPS.
--
-- The kernel's core keeps the groups, refuses commands through ports whose
-- state forbids them, and raises the unit attentions; but on a pass-through
-- device it answers neither command.  So control reads the groups for
-- tcmu.alua, and writes what an initiator sets.
--
-- configfs tells by inotify what is written to it: states, ids, new groups.  It
-- does not tell what follows in the kernel: a port that joins a group with its
-- LUN (tcmu.luns sees the LUN), and the same group of the other devices of a
-- logical unit group, which changes with the first (peers() names them).  A
-- group that follows one of another program's devices is read at its own next
-- change only.

local port_groups = {}

local EIO <const> = 5

-- TPGS of standard INQUIRY data, by the kernel's words for it.
local ACCESS_TYPE <const> = {
  ["Implicit"] = { implicit = 1, explicit = 0 },
  -- The kernel takes a state from us as an implicit change only, which it
  -- refuses here, so initiators may not set it either.
  ["Explicit"] = { implicit = 0, explicit = 0 },
  ["Implicit and Explicit"] = { implicit = 1, explicit = 1 },
}

-- The byte of supported states (SPC-4 6.37).
local SUPPORTED <const> = {
  transitioning = 0x80, offline = 0x40, lba_dependent = 0x10,
  unavailable = 0x08, standby = 0x04, active_nonoptimized = 0x02,
  active_optimized = 0x01,
}

-- STATUS CODE (SPC-4 6.37).
local STATUS <const> = {
  ["Altered by Explicit STPG"] = 1, ["Altered by Implicit ALUA"] = 2,
}
local BY_COMMAND <const> = 1

local function file_of(group, file) return ("alua/%s/%s"):format(group, file) end

-- A SCSI name of a port: that of iSCSI (RFC 3721) or an NAA (SPC-4 7.8.6.11);
-- "" for other transports.
local function port_name(target, tag)
  if target:find("^iqn%.") or target:find("^eui%.") then
    return ("%s,t,0x%04x"):format(target, tag)
  end
  local digits = target:match("^naa%.(%x+)$")
  if digits and (#digits == 16 or #digits == 32) then
    return "naa." .. digits:upper()
  end
  return ""
end

-- The ports of a group: a line "FABRIC/TARGET/tpgt_N/lun_M" and a zero each,
-- the fabric by its own name, "iSCSI", where its directory is "iscsi".  Kernel
-- 6.12 numbers ports as their portal group is enabled, which tcm_loop has not:
-- then the number is 0, which no port has (SPC-4 7.8.6.7).
local function members(device, group)
  local root <const> = device.path:match("^(.*)/core/[^/]+/[^/]+$")
  local text = device:read(file_of(group, "members")) or ""
  local ports = {}
  for line in text:gmatch("[^%z\n]+") do
    local fabric, target, tag, lun =
      line:match("^([^/]+)/(.+)/tpgt_(%d+)/([^/]+)$")
    local relative = fabric and tonumber(device.io.read(
      ("%s/%s/%s/tpgt_%s/lun/%s/statistics/scsi_port/indx"):format(
        root, fabric:lower(), target, tag, lun)))
    if relative then
      ports[#ports + 1] = { relative = relative,
                            name = port_name(target, tonumber(tag)) }
    end
  end
  return ports
end

local function supported(device, group)
  local bits = 0
  for name, bit in pairs(SUPPORTED) do
    if device:number(file_of(group, "alua_support_" .. name)) == 1 then
      bits = bits | bit
    end
  end
  return bits
end

-- nil for a group that has no id yet: it takes no part in anything.
local function read_group(device, group)
  local function number(file) return device:number(file_of(group, file)) end
  local id, state = number "tg_pt_gp_id", number "alua_access_state"
  if not id or not state then return nil end
  local access = ACCESS_TYPE[device:read(file_of(group, "alua_access_type"))]
  return {
    id = id, state = state, preferred = number "preferred" or 0,
    supported = supported(device, group),
    status = STATUS[device:read(file_of(group, "alua_access_status"))] or 0,
    implicit = access and access.implicit or 0,
    explicit = access and access.explicit or 0,
    ports = members(device, group),
  }
end

local function text_of(group)
  local numbers = { group.id, group.state, group.preferred, group.supported,
                    group.status, group.implicit, group.explicit }
  for _, port in ipairs(group.ports) do
    if port.relative ~= 0 then numbers[#numbers + 1] = port.relative end
  end
  return table.concat(numbers, " ")
end

--- The names of the groups' directories.
function port_groups.names(device)
  return device.io.list(device.path .. "/alua")
end

--- What an "alua" message says, as tcmu.alua has it: nothing on a device on
-- which the core takes no part (alua_support is 0).
-- @return { groups = or nil, port = or nil }
function port_groups.read(device)
  if device:number("attrib/alua_support") == 0 then return {} end
  local groups, ports = {}, 0
  for _, name in ipairs(port_groups.names(device)) do
    groups[#groups + 1] = read_group(device, name)
  end
  table.sort(groups, function(a, b) return a.id < b.id end)

  local texts, port = {}, nil
  for i, group in ipairs(groups) do
    texts[i] = text_of(group)
    for _, member in ipairs(group.ports) do
      ports = ports + 1
      port = ("%d %d %s"):format(group.id, member.relative, member.name)
    end
  end
  return {
    groups = texts[1] and table.concat(texts, ";"),
    port = ports == 1 and port or nil,
  }
end

--- Sets the state of a group, as SET TARGET PORT GROUPS does it: the kernel
-- raises its unit attention for every initiator, the sender too.
-- @return true, or nil, message, errno
function port_groups.set(device, id, state)
  for _, name in ipairs(port_groups.names(device)) do
    if device:number(file_of(name, "tg_pt_gp_id")) == id then
      local ok, why, code = device:write(file_of(name, "alua_access_state"),
                                         state)
      if not ok then return nil, why, code end
      return device:write(file_of(name, "alua_access_status"), BY_COMMAND)
    end
  end
  return nil, ("there is no target port group %d"):format(id), EIO
end

--- The other devices whose groups change with those of this one: they are of
-- one logical unit group that is not the kernel's default.
-- @return list of "user_0/NAME"
function port_groups.peers(device)
  local group = (device:read("alua_lu_gp") or ""):match("Alias: ([^\n]+)")
  if not group or group == "default_lu_gp" then return {} end
  local root <const> = device.path:match("^(.*)/core/[^/]+/[^/]+$")
  local text = device.io.read(("%s/core/alua/lu_gps/%s/members"):format(
    root, group)) or ""
  local names = {}
  for name in text:gmatch("[^%z\n]+") do
    if name ~= device.hba .. "/" .. device.name then
      names[#names + 1] = name
    end
  end
  return names
end

return port_groups
