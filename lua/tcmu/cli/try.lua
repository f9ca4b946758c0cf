--- `tcmu-lua try`: a device on a simulated kernel, without root.
--
-- On a terminal it prompts for commands; without one it takes a guided tour;
-- behind "--" it takes a file with commands of the prompt.

local blame = require "tcmu.cli.blame"
local core = require "tcmu.core"
local guide = require "tcmu.cli.guide"
local paint = require "tcmu.cli.paint"
local places = require "tcmu.cli.places"
local prompt = require "tcmu.cli.prompt"
local session = require "tcmu.cli.session"
local survey = require "tcmu.cli.survey"
local values = require "tcmu.cli.values"

-- argparse takes what is behind "--" for one more argument of the others.
local function prepare(words, env)
  for i, word in ipairs(words) do
    if word == "--" then
      if #words ~= i + 1 then
        return "try: behind '--' stands one file with commands, or '-' for "
               .. "standard input"
      end
      env.script = words[i + 1]
      words[i], words[i + 1] = nil, nil
      break
    end
  end
end

local function introduce(s, found, args)
  print(("%s: %s"):format(paint.bold(found.name), found.about))
  print(("A simulated device of %s: %d blocks of %d bytes. No kernel is "
    .. "involved, and time is simulated too."):format(
      values.show_size(args.size), s.blocks, s.block_size))
end

-- A file that cannot be read is known before a device is opened.
local function open_script(name)
  if name == "-" then return io.stdin end
  return io.open(name, "r")
end

return {
  name = "try",
  about = "Try a handler in the simulator: no root, no kernel.",
  prepare = prepare,

  declare = function(command)
    command:usage("Usage: tcmu-lua try [--size SIZE] [--block-size N] "
      .. "[--shards N]\n       <handler> [<options>] [-- SCRIPT]")
    command:epilog("On a terminal, commands are asked for; 'help' lists them. "
      .. "SCRIPT is a file with such commands, '-' standard input. Otherwise a "
      .. "guided tour is taken.")
    values.declare_device(command)
    command:option "--shards":argname "N":convert(values.integer(1, 64))
      :default "1":description "Shards, each with a device of its own."
  end,

  run = function(args, env)
    local path, missing = places.find(env, args.handler)
    if not path then return nil, missing end
    if args.size % args.block_size ~= 0 then
      return nil, ("%d bytes are no whole number of blocks of %d bytes")
                  :format(args.size, args.block_size)
    end
    local file, unreadable
    if env.script then
      file, unreadable = open_script(env.script)
      if not file then return nil, unreadable end
    end
    local found, why = survey.check(path, args.options)
    if not found then
      if blame.is_fault(why) then survey.trace(path, args.options) end
      return nil, why
    end
    local opened, refusal = session.open(path, args)
    if not opened then return nil, refusal end

    local s <close> = opened
    introduce(s, found, args)
    if file then
      return prompt.script(s, found, file, file == io.stdin
                           and "standard input" or env.script)
    end
    if core.isatty(0) then return prompt.ask(s, found) end
    guide.run(s, found)
    print(("\nOn a terminal, '%s try %s' lets you send commands yourself.")
          :format(env.program, args.handler))
    return 0
  end,
}
