--- `tcmu-lua check`: is this a handler, and who would answer what?

local paint = require "tcmu.cli.paint"
local places = require "tcmu.cli.places"
local survey = require "tcmu.cli.survey"
local values = require "tcmu.cli.values"

local GROUPS <const> = {
  { "store", "In C, from the store that the handler's open returns" },
  { "read", "By the handler's read" },
  { "write", "By the handler's write" },
  { "on", "By the handler's on[opcode]" },
  { "default", "By the host, as %s does" },
}

local function code_of(command)
  local text = ("%02Xh"):format(command.opcode)
  if command.action then
    text = ("%s/%02Xh"):format(text, command.action)
  end
  return ("  %-8s"):format(text)
end

local function show_commands(found)
  for _, group in ipairs(GROUPS) do
    local who, title = table.unpack(group)
    local lines = {}
    for _, command in ipairs(found.commands) do
      if command.who == who then
        lines[#lines + 1] = code_of(command) .. command.name
      end
    end
    if #lines > 0 then
      print(paint.bold(title:format(found.kind) .. ":"))
      print(table.concat(lines, "\n"))
    end
  end
end

-- How far the survey went, and its findings.
local function look(path, args)
  local found, why = survey.load(path)
  if not found then return nil, why end
  if not args.options and #found.options > 0 then
    -- Without its options a handler may have nothing to open.
    local fits = survey.check(path, "")
    if not fits then return found, "loaded, not opened: it needs options" end
  end
  found, why = survey.open(path, {
    options = args.options, size = args.size, block_size = args.block_size,
  })
  if not found then return nil, why end
  return found, "loaded, and opened as a simulated device"
end

-- The findings for tcmu.probe, in lines that start with a word and a tab.
local function print_facts(args, env)
  local path, why = places.find(env, args.handler)
  local found
  if path and args.options then
    found, why = survey.check(path, args.options)
  elseif path then
    found, why = survey.load(path)
  end
  print(found and found.text or "refused\t" .. why:gsub("[\t\n]", " "))
  return found and 0 or 1
end

return {
  name = "check",
  about = "Load a handler, open a simulated device, tell who answers what.",

  declare = function(command)
    values.declare_device(command)
    command:flag "--facts":hidden(true)
  end,

  run = function(args, env)
    if args.facts then return print_facts(args, env) end
    local path, missing = places.find(env, args.handler)
    if not path then return nil, missing end
    local found, text = look(path, args)
    if not found then return nil, text end

    print(("%s: %s"):format(paint.bold(found.name), found.about))
    print(("%s: %s."):format(path, text))
    for _, line in ipairs(found.options) do print("  " .. line) end
    show_commands(found)
    if path:match("([^/]*)%.lua$") ~= found.name then
      print(paint.yellow(("Name the file %s.lua before you install it: the "
        .. "kernel's devices find their handler by its file."):format(
          found.name)))
    end
    return 0
  end,
}
