--- The functions behind target_core_fabric_ops, for the kernel at hand.
-- Goes through the structure's members as the header declares them and decides
-- for each: a value, a function with a working body, a stub, or nothing.  The
-- signature is always the header's; the parameters get names by their types.

local declaration = require "tcm_mod_builder.declaration"
local layout = require "tcm_mod_builder.layout"
local members = require "tcm_mod_builder.members"

local operations = {}

local ROLE <const> = {
  ["struct se_portal_group *"] = "se_tpg",
  ["struct se_cmd *"] = "se_cmd",
  ["struct se_session *"] = "se_sess",
  ["struct se_node_acl *"] = "se_nacl",
  ["struct se_wwn *"] = "wwn",
  ["struct se_lun *"] = "lun",
  ["struct se_tpg_np *"] = "np",
  ["struct target_fabric_configfs *"] = "tf",
  ["struct config_group *"] = "group",
  ["const char *"] = "name",
  ["unsigned char *"] = "buf",
  ["u32"] = "len",
  ["bool"] = "enable",
}

--- A copy of a callback's type in which every parameter has a name; and the set
-- of these names.
local function named(callback)
  local parameters, taken = {}, {}
  for i, parameter in ipairs(callback.parameters) do
    local wish = ROLE[declaration.declare(parameter.type)]
      or parameter.name or "arg" .. i
    local name = taken[wish] and wish .. i or wish
    taken[name] = true
    parameters[i] = { type = parameter.type, name = name }
  end
  return { kind = "function", returns = callback.returns,
           parameters = parameters, variadic = callback.variadic }, taken
end

local function gives(type)
  if type.kind == "pointer" then return "pointer" end
  if type.text == "void" then return "void" end
  return type.tag == nil and "number" or type.tag
end

--- What a stub returns: the nothing of its type.
local function nothing(type)
  local kind = gives(type)
  if kind == "void" then return {} end
  if kind == "pointer" then return { "return NULL;" } end
  if kind == "struct" or kind == "union" then
    return { ("return (%s){ };"):format(type.text) }
  end
  return { type.text == "bool" and "return false;" or "return 0;" }
end

local function fits(entry, callback, taken)
  if entry.gives ~= gives(callback.returns) then return false end
  for _, need in ipairs(entry.needs) do
    if not taken[need] then return false end
  end
  return true
end

--- One function: { member, name, prototype, text, configfs, guard }.
local function define(member, entry, values, stub)
  local callback, taken = named(declaration.callback(member.type))
  local working = entry and fits(entry, callback, taken)
  if entry and not working and entry.vital then
    return nil, ("its %s is declared in a way that this generator does not "
      .. "know"):format(member.name)
  end

  local name = values.mod .. "_" .. member.name:gsub("^fabric_", "")
  local head = declaration.declare(callback, name)
  local about = working and entry.about or stub
  local configfs = entry and entry.configfs
  local text = {
    layout.comment(layout.fill(about, values)),
    (configfs and "static " or "") .. head,
    "{",
  }
  for _, line in ipairs(working and entry.lines or nothing(callback.returns)) do
    text[#text + 1] = line == "" and "" or layout.fill("\t" .. line, values)
  end
  text[#text + 1] = "}"
  return {
    member = member.name, name = name, guard = member.guard,
    configfs = configfs, prototype = head .. ";",
    text = table.concat(text, "\n") .. "\n",
  }
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

--- What registration insists on in this kernel: from its sources, else what is
-- known of the core, as far as the header has it.  Returns a list.
function operations.mandatory(kernel)
  if kernel.insisted then return kernel.insisted end
  local declared, list = {}, {}
  for _, member in ipairs(kernel.members) do declared[member.name] = true end
  for _, name in ipairs(members.insisted) do
    if declared[name] then list[#list + 1] = name end
  end
  return list
end

--- Decides for every member of the structure.
-- @param kernel what kernel.read returned
-- @param values the placeholders; `values.protocol` is the protocol's name
-- @return { functions = list, entries = list, unset = names, unknown = names }:
--   `entries` are the table's lines { member =, value =, guard = } in the
--   header's order.  nil and a message when a module cannot be made for it.
function operations.plan(kernel, values)
  local plan = { functions = {}, entries = {}, unset = {}, unknown = {} }
  local mandatory = set_of(operations.mandatory(kernel))
  local found = {}

  for _, member in ipairs(kernel.members) do
    found[member.name] = true
    local entry = members.known[member.name]
    if entry and entry.only and entry.only ~= values.protocol then
      entry = nil
    end
    local optional = members.optional[member.name]
      and not mandatory[member.name]

    local value
    if entry and entry.value then
      value = layout.fill(entry.value, values)
    elseif declaration.callback(member.type) and (entry or not optional) then
      local stub = entry
        and "This kernel declares it otherwise than the generator knows it: "
          .. "nothing is done here yet."
        or "Not known to the generator: nothing is done here yet. See "
          .. "target_core_fabric.h."
      local func, why = define(member, entry, values, stub)
      if not func then return nil, why end
      plan.functions[#plan.functions + 1] = func
      value = func.name
    elseif mandatory[member.name] then
      return nil, ("registration insists on %s, which is no function that this "
        .. "generator knows how to write"):format(member.name)
    end

    if value then
      plan.entries[#plan.entries + 1] =
        { member = member.name, value = value, guard = member.guard }
    else
      local list = optional and plan.unset or plan.unknown
      list[#list + 1] = member.name
    end
  end

  for name, entry in pairs(members.known) do
    if entry.vital then mandatory[name] = true end
  end
  local missing = {}
  for name in pairs(mandatory) do
    if not found[name] then missing[#missing + 1] = name end
  end
  table.sort(missing)
  if missing[1] then
    return nil, ("it has no %s; kernels from 5.10 on do")
      :format(table.concat(missing, ", "))
  end
  return plan
end

return operations
