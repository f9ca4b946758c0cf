--- The command line of `tcmu-lua`: one verb, one file in this directory.
--
-- A verb is { name =, about =, declare = f(command), run = f(args, env) }:
-- `declare` tells argparse what it takes, `run` does it and returns an exit
-- status, or nil and one sentence for stderr, which ends in status 1.  A verb
-- with `verbatim` gets its arguments untouched.  Whoever asks in a wrong way
-- gets the usage and status 2.

local cli = {}

local DONE <const>, FAILED <const>, MISUSED <const> = 0, 1, 2

local VERBS <const> = {
  "serve", "try", "check", "list", "create", "resize", "delete", "explain",
  "doctor", "mod_builder",
}

local function complain(text)
  io.stderr:write("tcmu-lua: ", text, "\n")
end

local function verbs()
  local list = {}
  for i, name in ipairs(VERBS) do list[i] = require("tcmu.cli." .. name) end
  return list
end

local function parser(argparse, list)
  local top = argparse("tcmu-lua",
    "Serves SCSI devices of the Linux kernel's TCMU with handlers written in "
    .. "Lua.",
    "'tcmu-lua try whoami' needs neither root nor a kernel module; "
    .. "'tcmu-lua VERB --help' tells more.")
  top:usage_max_width(78):help_max_width(78):help_description_margin(24)
  top:command_target "verb"
  top:add_help_command {
    description = "Show what a verb takes.",
  }
  top:flag "--version"
    :description "Show the versions of this program and its libraries."
    :action(function()
      print(require("tcmu.cli.version").text())
      os.exit(DONE, true)
    end)
  for _, verb in ipairs(list) do
    local command = top:command(verb.name):description(verb.about)
    command:usage_max_width(78):help_max_width(78):help_description_margin(24)
    if verb.declare then verb.declare(command) end
  end
  return top
end

-- Arguments by name, or nil after the usage has been printed.
local function parse(top, argv)
  local misuse = {}
  function top.error(command, message)
    misuse.text = ("%s\n\nError: %s\n"):format(command:get_usage(), message)
    error(misuse, 0)
  end
  local ok, result = xpcall(top.parse, function(err)
    return err == misuse and err or debug.traceback(err, 2)
  end, top, argv)
  if ok then return result end
  if result ~= misuse then error(result, 0) end
  io.stderr:write(misuse.text)
end

--- Runs a command line.
-- @param argv  argv[0] the program, then its arguments
-- @param paths  { lua =, handlers = } where the program's own files are
-- @return the exit status: 0 done, 1 failed, 2 asked in a wrong way
function cli.main(argv, paths)
  local env = { program = argv[0] or "tcmu-lua", paths = paths }
  local list = verbs()
  local rest = table.move(argv, 2, #argv, 1, {})
  for _, verb in ipairs(list) do
    if verb.verbatim and argv[1] == verb.name then
      return verb.run(rest, env)
    end
  end

  local found, argparse = pcall(require, "argparse")
  if not found then
    complain("the Lua module argparse is missing: type 'apt-get install "
             .. "lua-argparse'")
    return FAILED
  end
  local words = table.move(argv, 1, #argv, 1, {})
  for _, verb in ipairs(list) do
    if verb.prepare and words[1] == verb.name then
      local why = verb.prepare(words, env)
      if why then
        complain(why)
        return MISUSED
      end
    end
  end
  local args = parse(parser(argparse, list), words)
  if not args then return MISUSED end
  for _, verb in ipairs(list) do
    if verb.name == args.verb then
      local status, why = verb.run(args, env)
      if status then return status end
      complain(why)
      return FAILED
    end
  end
end

return cli
