--- The command line of `tcmu-lua`: one verb, one file in this directory.
--
-- A verb is { name =, about =, declare = f(command), run = f(args, env) }:
-- `declare` tells argparse what it takes, `run` does it and returns an exit
-- status, or nil, one sentence for stderr and the status if it is not 1.  A
-- verb with `verbatim` gets its arguments untouched; `prepare` may take some
-- away before argparse sees them; with `needs_luv` it is not run without.
-- Whoever asks in a wrong way gets status 2.

local cli = {}

local DONE <const>, FAILED <const>, MISUSED <const> = 0, 1, 2

local VERBS <const> = {
  "serve", "try", "check", "list", "create", "resize", "delete", "explain",
  "doctor", "mod_builder",
}

local function complain(text)
  io.stderr:write("tcmu-lua: ", text, "\n")
end

-- The verbs in order and by name.
local function verbs()
  local list, by_name = {}, {}
  for i, module in ipairs(VERBS) do
    local verb = require("tcmu.cli." .. module)
    list[i], by_name[verb.name] = verb, verb
  end
  return list, by_name
end

local function names_of(list)
  local names = {}
  for i, verb in ipairs(list) do names[i] = verb.name end
  return names
end

-- What ends parsing early: `text` goes to standard output with status 0, or
-- to standard error with status 2.
local Ending = {}

local function finish(status, text)
  error(setmetatable({ status = status, text = text }, Ending), 0)
end

local function shape(command)
  command:usage_max_width(78):help_max_width(78):help_description_margin(24)
  command:add_help {
    description = "Show this.",
    action = function() finish(DONE, command:get_help()) end,
  }
end

local function parser(argparse, list)
  local top = argparse("tcmu-lua",
    "Serves SCSI devices of the Linux kernel's TCMU with handlers written in "
    .. "Lua.",
    "'tcmu-lua try whoami' needs neither root nor a kernel module; "
    .. "'tcmu-lua help VERB' tells more.")
  local commands = {}
  shape(top)
  top:command_target "verb"
  top:flag "--version"
    :description "Show the versions of this program and its libraries."
    :action(function()
      finish(DONE, require("tcmu.cli.version").text())
    end)
  for _, verb in ipairs(list) do
    local command = top:command(verb.name):description(verb.about)
    shape(command)
    if verb.declare then verb.declare(command) end
    commands[verb.name] = command
  end
  local help = top:command "help":description "Show what a verb takes."
  shape(help)
  help:argument "about":argname "<verb>":args "?":choices(names_of(list))
  help:action(function(args)
    finish(DONE, (commands[args.about] or top):get_help())
  end)

  function top.error(command, message)
    finish(MISUSED, ("%s\n\nError: %s"):format(command:get_usage(), message))
  end
  return top
end

-- Arguments by name; or nil and a status after something has been printed.
local function parse(top, words)
  local ok, result = xpcall(top.parse, function(err)
    return getmetatable(err) == Ending and err or debug.traceback(err, 2)
  end, top, words)
  if ok then return result end
  if getmetatable(result) ~= Ending then error(result, 0) end
  local out = result.status == DONE and io.stdout or io.stderr
  out:write(result.text, "\n")
  return nil, result.status
end

local function missing(module, package)
  complain(("the Lua module %s is missing: type 'apt-get install %s'"):format(
    module, package))
  return FAILED
end

-- Runs a verb and says why it failed.
local function run(verb, args, env)
  if verb.needs_luv and not pcall(require, "luv") then
    return missing("luv", "lua-luv")
  end
  local status, why, code = verb.run(args, env)
  if status then return status end
  complain(why)
  return code or FAILED
end

--- Runs a command line.
-- @param argv  argv[0] the program, then its arguments
-- @param paths  { lua =, handlers = } where the program's own files are
-- @return the exit status: 0 done, 1 failed, 2 asked in a wrong way
function cli.main(argv, paths)
  local env = { program = argv[0] or "tcmu-lua", paths = paths }
  local words = table.move(argv, 1, #argv, 1, {})
  local list, by_name = verbs()
  local verb = by_name[words[1]]
  if verb and verb.verbatim then
    table.remove(words, 1)
    return run(verb, words, env)
  end

  local found, argparse = pcall(require, "argparse")
  if not found then return missing("argparse", "lua-argparse") end
  if verb and verb.prepare then
    local why = verb.prepare(words, env)
    if why then
      complain(why)
      return MISUSED
    end
  end
  local args, status = parse(parser(argparse, list), words)
  if not args then return status end
  return run(by_name[args.verb], args, env)
end

return cli
