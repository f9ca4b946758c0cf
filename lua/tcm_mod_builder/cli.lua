--- The command line of the fabric module generator.
-- Options, questions and the lines on standard output are those of the script
-- that kernels before 6.5 had in Documentation/target, and some more.

local argparse = require "argparse"
local builder = require "tcm_mod_builder"
local protocols = require "tcm_mod_builder.protocols"
local store = require "tcm_mod_builder.store"

local cli = {}

local DONE <const>, FAILED <const>, MISUSED <const> = 0, 1, 2

local function parser()
  local p = argparse("tcm-mod-builder",
    "Generates the skeleton of a target fabric kernel module, ready to be "
    .. "built, loaded and configured through configfs.",
    "The module's directory in configfs is target/NAME, the module's name "
    .. "without a leading tcm_: target/nab5000 for tcm_nab5000.")
  p:add_help(false)
  p:usage_max_width(78):help_max_width(78)
  p:option("-m --modulename", "Name of the module, for instance tcm_nab5000.")
    :argname("NAME")
  p:option("-p --protoident", "Protocol of its ports: "
    .. table.concat(protocols.names, ", ") .. "."):argname("PROTOCOL")
  p:option("-o --output", "Make the module's directory in DIR instead of the "
    .. "current one."):argname("DIR")
  p:option("--kernel", "Headers of the kernel that the module is for; "
    .. "otherwise those of the running one."):argname("HEADERS")
  p:option("--in-tree", "Make the module's directory in drivers/target of this "
    .. "kernel source tree."):argname("TREE")
  p:option("--fabric-name", "The module's directory in configfs, under "
    .. "target/."):argname("NAME")
  p:mutex(
    p:flag("--yes", "With --in-tree: add the module to the Makefile and "
      .. "Kconfig of drivers/target without asking."),
    p:flag("--no", "With --in-tree: leave those two alone without asking."))
  p:flag("-h --help", "Show this and end.")
  return p
end

local function complain(status, message)
  io.stderr:write("tcm-mod-builder: ", message, "\n")
  return status
end

local function say(...) io.stdout:write(table.concat { ... }, "\n") end

--- The header directory of the kernel that runs here.
local function running_kernel()
  local file <close> = io.open("/proc/sys/kernel/osrelease")
  local release = file and file:read("l")
  return release and "/lib/modules/" .. release .. "/build"
end

--- What was asked for, or nil and why that makes no sense.
local function request(args)
  if not args.modulename or not args.protoident then
    return nil, "mandatory option is missing: -m NAME and -p PROTOCOL"
  elseif args.in_tree and (args.kernel or args.output) then
    return nil, "--in-tree says where the headers are and the module goes; "
      .. "leave out --kernel and --output"
  elseif (args.yes or args.no) and not args.in_tree then
    return nil, "--yes and --no answer the questions of --in-tree"
  end

  local protocol
  for _, name in ipairs(protocols.names) do
    if name:lower() == args.protoident:lower() then protocol = name end
  end
  if not protocol then
    return nil, ("Unsupported proto_ident: %s; there are %s")
      :format(args.protoident, table.concat(protocols.names, ", "))
  end

  local root = args.in_tree or args.kernel or running_kernel()
  if not root then
    return nil, "which kernel runs here is not to be found out; use --kernel"
  end
  root = root:gsub("(.)/+$", "%1")
  local parent = args.in_tree and root .. "/drivers/target"
    or (args.output or "."):gsub("(.)/+$", "%1")
  return { module = args.modulename, protocol = protocol, kernel = root,
           fabric = args.fabric_name, in_tree = args.in_tree and true or nil,
           parent = parent }
end

--- Asks on standard output, or takes the answer that was given as an option.
local function agreed(args, question)
  io.stdout:write(question, " [yes,no]: ")
  if args.yes or args.no then
    say(args.yes and "yes" or "no")
    return args.yes
  end
  io.stdout:flush()
  local answer = io.read("l")
  return answer == "yes" or answer == "y"
end

local function ask(args, wanted)
  for _, file in ipairs {
    { "drivers/target/Makefile", store.add_to_makefile },
    { "drivers/target/Kconfig", store.add_to_kconfig },
  } do
    if agreed(args, ("Would you like to add %s to %s..?")
                      :format(wanted.module, file[1])) then
      local ok, why = file[2](wanted.kernel, wanted.module)
      if not ok then return nil, why end
    end
  end
  return true
end

local function run(args, wanted)
  local dir = wanted.parent .. "/" .. wanted.module
  say("tcm_dir: ", wanted.kernel, "/")
  say("Set fabric_mod_name: ", wanted.module)
  say("Set fabric_mod_dir: ", dir)
  say("Using proto_ident: ", wanted.protocol)

  if wanted.in_tree
     and store.has_symbol(wanted.kernel, wanted.module:upper()) then
    return complain(FAILED, ("the tree has a CONFIG_%s already; choose another "
      .. "name"):format(wanted.module:upper()))
  end
  local module, why = builder.generate(wanted)
  if not module then return complain(FAILED, why) end

  -- The header has been read by now; its line keeps the place that it had.
  say("Creating fabric_mod_dir: ", dir)
  local ok
  ok, why = store.create(wanted.parent, wanted.module, module.files,
    function(path)
      say("Writing file: ", path)
      if path:find("_base%.h$") then
        say("Using tcm_mod_scan_fabric_ops: ", module.header)
      end
    end)
  if not ok then return complain(FAILED, why) end
  say("Once loaded, it is configured at target/", module.fabric, " in configfs")

  if wanted.in_tree then
    ok, why = ask(args, wanted)
    if not ok then return complain(FAILED, why) end
  end
  return DONE
end

--- Runs the generator.  Standard input is read for the questions only.
-- @param argv the arguments, without the program's name
-- @return the exit status: 0 done, 1 failed (nothing is left behind), 2 asked
--   in the wrong way
function cli.main(argv)
  local p = parser()
  local ok, args = p:pparse(argv)
  if ok and args.help then
    say(p:get_help())
    return DONE
  elseif not ok then
    io.stderr:write(p:get_usage(), "\n")
    return complain(MISUSED, args)
  end
  local wanted, why = request(args)
  if not wanted then
    io.stderr:write(p:get_usage(), "\n")
    return complain(MISUSED, why)
  end
  return run(args, wanted)
end

return cli
