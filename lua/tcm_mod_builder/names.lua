--- Which names a new module may have.
-- The module's name becomes a directory, a file name, a C prefix and a Kconfig
-- symbol; the fabric's name becomes a directory under target/ in configfs.
-- Both share their spaces with the kernel's own.

local names = {}

-- TARGET_FABRIC_NAME_SIZE counts the final NUL.
local LONGEST <const> = 31

local function words(text)
  local set = {}
  for word in text:gmatch("%S+") do set[word] = true end
  return set
end

-- C11 keywords, and macros that gcc defines without being asked.
local RESERVED <const> = words [[
  auto break case char const continue default do double else enum extern float
  for goto if inline int long register restrict return short signed sizeof
  static struct switch typedef union unsigned void volatile while asm typeof
  linux unix i386
]]
-- The fabric and back-end modules of Linux 5.10 to 6.12.
local MODULES <const> = words [[
  target_core_mod target_core_iblock target_core_file target_core_pscsi
  target_core_user iscsi_target_mod cxgbit ib_isert tcm_loop tcm_fc
  tcm_qla2xxx tcm_remote tcm_usb_gadget usb_f_tcm vhost_scsi ib_srpt
  sbp_target ibmvscsis xen_scsiback efct
]]
-- Their directories under target/, and the one of the back ends.
local FABRICS <const> = words [[
  core loopback iscsi fc qla2xxx qla2xxx_npiv remote usb_gadget vhost srpt sbp
  ibmvscsis xen-pvscsi efct efct_npiv
]]

--- The fabric's name that goes with a module's: without a leading tcm_.
function names.fabric_for(module)
  return (module:gsub("^tcm_", ""))
end

--- Whether a module and its fabric may be called so.
-- @return true, or nil and one sentence
function names.check(module, fabric)
  if not module:find("^%a[%w_]*$") then
    return nil, ("%q cannot be a module's name: take letters, digits and "
      .. "underscores, a letter first"):format(module)
  elseif #module > LONGEST then
    return nil, ("the name %s is too long: %d characters are allowed")
      :format(module, LONGEST)
  elseif RESERVED[module] then
    return nil, module .. " has a meaning in C; choose another name"
  elseif MODULES[module] then
    return nil, ("the kernel has a module %s already; choose another name")
      :format(module)
  elseif not fabric:find("^%w[%w_.-]*$") then
    return nil, ("%q cannot be a directory under target/: take letters, "
      .. "digits, _, - and ., a letter or digit first"):format(fabric)
  elseif #fabric > LONGEST then
    return nil, ("the fabric name %s is too long: %d characters are allowed")
      :format(fabric, LONGEST)
  elseif FABRICS[fabric] then
    return nil, ("target/%s belongs to the kernel already; choose another name "
      .. "with --fabric-name"):format(fabric)
  end
  return true
end

--- A name that the module would define and that its headers define too, or nil.
-- @param declared the set of names in the headers
function names.clash(module, plan, declared)
  local upper = module:upper()
  local list = { "to_" .. module .. "_tpg", upper .. "_VERSION",
                 upper .. "_FABRIC_NAME", upper .. "_NAMELEN",
                 upper .. "_BASE_H", upper .. "_FABRIC_H" }
  for suffix in ([[
    lport tport nexus tpg cmd parse_wwn normalize_wwn check_wwn name_nexus
    make_nexus free_nexus drop_nexus nexus_show nexus_store attr_nexus tpg_attrs
    version_show attr_version wwn_attrs ops init exit
  ]]):gmatch("%S+") do
    list[#list + 1] = module .. "_" .. suffix
  end
  for _, func in ipairs(plan.functions) do list[#list + 1] = func.name end
  for _, name in ipairs(list) do
    if declared[name] then return name end
  end
end

return names
