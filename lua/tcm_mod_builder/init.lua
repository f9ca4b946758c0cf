--- Generates the skeleton of a target fabric kernel module.
-- From a protocol and a name, and from the headers of the kernel that the
-- module is for, come files that build, load and can be configured through
-- configfs. The result is a list of texts; writing them is the business of
-- store.lua, the command line that of cli.lua.

local kernel = require "tcm_mod_builder.kernel"
local layout = require "tcm_mod_builder.layout"
local names = require "tcm_mod_builder.names"
local operations = require "tcm_mod_builder.operations"
local protocols = require "tcm_mod_builder.protocols"
local templates = require "tcm_mod_builder.templates"

local builder = {}

local FIELD <const> = "\t/* The name as the protocol sends it */\n\t%s"

--- The placeholders of every template.
local function values_for(options, source)
  local protocol = protocols[options.protocol]
  local values = {
    mod = options.module,
    MOD = options.module:upper(),
    fabric = options.fabric,
    protocol = options.protocol,
    proto_id = protocol.proto_id,
    port = protocol.port,
    namelen = tostring(protocol.namelen),
    example = protocol.example,
    -- before 5.13 a session was stopped by another name
    stop_session = source.declared.target_stop_session
      and "target_stop_session" or "target_sess_cmd_list_set_waiting",
  }
  for key, text in pairs {
    field = protocol.field and FIELD:format(protocol.field) or "",
    store_wwn = protocol.store or "",
    nexus_field = protocol.nexus_field or "",
    parse = protocol.parse or "",
  } do
    values[key] = layout.fill(text, values):gsub("\n$", "")
  end
  return values
end

--- `text` under the preprocessor condition that its member has, if it has one.
local function guarded(guard, text)
  if not guard then return text end
  return "#if " .. guard .. "\n" .. text .. "#endif\n"
end

local function prototypes(plan)
  local lines = {}
  for _, func in ipairs(plan.functions) do
    if not func.configfs then
      lines[#lines + 1] = guarded(func.guard, func.prototype .. "\n")
    end
  end
  return table.concat(lines)
end

local function definitions(plan, configfs)
  local texts = {}
  for _, func in ipairs(plan.functions) do
    if (func.configfs or false) == configfs then
      texts[#texts + 1] = guarded(func.guard, func.text)
    end
  end
  return table.concat(texts, "\n")
end

--- The operations table; what it leaves out is named in a comment.
local function ops(plan, values)
  local lines = { layout.fill(
    "static const struct target_core_fabric_ops @mod@_ops = {\n", values) }
  for _, entry in ipairs(plan.entries) do
    lines[#lines + 1] = guarded(entry.guard,
      ("\t.%s = %s,\n"):format(entry.member, entry.value))
  end
  for _, list in ipairs {
    { "Optional, and not set here:", plan.unset },
    { "Not known to the generator, and not set here:", plan.unknown },
  } do
    if list[2][1] then
      lines[#lines + 1] = layout.comment(
        list[1] .. " " .. table.concat(list[2], ", ") .. ".", "\t") .. "\n"
    end
  end
  return table.concat(lines) .. "};\n"
end

local function render(options, values, plan)
  local protocol = protocols[options.protocol]
  local function file(suffix, ...)
    local text = layout.fill(table.concat { ... }, values)
    return { name = options.module .. suffix, text = layout.wrap(text) }
  end

  local files = {
    file("_base.h", templates.base_h),
    file("_fabric.c", templates.fabric_c, protocol.code, templates.names,
         protocol.nexus_code, templates.nexus, definitions(plan, false)),
    file("_fabric.h", templates.fabric_h, prototypes(plan), "\n#endif\n"),
    file("_configfs.c", templates.configfs_c, definitions(plan, true),
         templates.attributes, ops(plan, values), templates.module),
  }
  for _, each in ipairs(options.in_tree
    and { { "Makefile", templates.inside_makefile },
          { "Kconfig", templates.kconfig } }
    or { { "Kbuild", templates.kbuild },
         { "Makefile", templates.outside_makefile } }) do
    files[#files + 1] = { name = each[1], text = layout.fill(each[2], values) }
  end
  return files
end

--- Generates a module.  Reads the kernel's headers, writes nothing.
-- @param options { module = name, protocol = "FC", "SAS", "iSCSI", "SRP" or
--   "SBP", kernel = directory of headers, fabric = name under target/ (made
--   from the module's if missing), in_tree = true for files that live in the
--   kernel's tree }
-- @return on success { files = { { name =, text = }, ... }, header = path,
--   fabric = name, mandatory = names, unset = names, unknown = names }; the
--   same options and headers give the same bytes.
--   nil and one sentence when the names or the headers will not do.
function builder.generate(options)
  local fabric = options.fabric or names.fabric_for(options.module)
  local full = { module = options.module, protocol = options.protocol,
                 fabric = fabric, in_tree = options.in_tree }
  local ok, why = names.check(options.module, fabric)
  if not ok then return nil, why end
  if not protocols[options.protocol] then
    return nil, ("Unsupported proto_ident: %s; there are %s")
      :format(options.protocol, table.concat(protocols.names, ", "))
  end

  local read, source
  read, source, why = pcall(kernel.read, options.kernel)
  if not read then return nil, source end
  if not source then return nil, why end

  local values = values_for(full, source)
  local plan
  plan, why = operations.plan(source, values)
  if not plan then return nil, source.header .. " will not do: " .. why end
  local clash = names.clash(options.module, plan, source.declared)
  if clash then
    return nil, ("a module %s would define %s, which the kernel's headers have "
      .. "already; choose another name"):format(options.module, clash)
  end

  return {
    files = render(full, values, plan),
    header = source.header,
    fabric = fabric,
    mandatory = operations.mandatory(source),
    unset = plan.unset,
    unknown = plan.unknown,
  }
end

--- The command line; see cli.lua.
-- @param argv the arguments, without the program's name
-- @return the exit status: 0 done, 1 failed, 2 asked in the wrong way
function builder.main(argv)
  return require("tcm_mod_builder.cli").main(argv)
end

return builder
