--- `tcmu-lua list`: the installed handlers and their options.

local paint = require "tcmu.cli.paint"
local places = require "tcmu.cli.places"
local survey = require "tcmu.cli.survey"

local function show(name, path)
  local found, why = survey.load(path)
  if not found then
    print(("%-12s %s"):format(name, paint.red("cannot be loaded: " .. why)))
    return false
  end
  print(paint.bold(("%-12s"):format(name)) .. " " .. found.about)
  for _, line in ipairs(found.options) do print("             " .. line) end
  return true
end

return {
  name = "list",
  about = "List the installed handlers and their options.",
  needs_luv = true,

  declare = function(command)
    command:flag "--names":description "Only the names, for programs."
  end,

  run = function(args, env)
    local names, paths = places.installed(env)
    if #names == 0 then
      return nil, "there is no handler in " .. env.paths.handlers
    end
    local sound = true
    for _, name in ipairs(names) do
      if args.names then print(name)
      else sound = show(name, paths[name]) and sound end
    end
    return sound and 0 or 1
  end,
}
