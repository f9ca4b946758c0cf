--- `tcmu-lua create`: a device in configfs.
--
-- The handler looks at its options here already, in a state of its own, so
-- that most refusals come before the kernel has heard of anything.

local places = require "tcmu.cli.places"
local survey = require "tcmu.cli.survey"
local values = require "tcmu.cli.values"

-- The daemon runs in another directory.
local function with_absolute_paths(found, options)
  local list = {}
  for i, text in ipairs(options) do
    local name, value = text:match("^([^=]+)=(.*)$")
    if found.types[name] == "path" and value ~= "" then
      text = name .. "=" .. places.absolute(value)
    end
    list[i] = text
  end
  return list
end

-- The subtype and the options' text of a handler given by name or by path.
local function config_of(path, word, options)
  if not places.is_path(word) then return word, table.concat(options, ";") end
  table.insert(options, 1, "path=" .. places.absolute(path))
  return "lua", table.concat(options, ";")
end

-- One --option.
local function pair(text)
  if not text:find("^[^=]+=") then
    return nil, ("'%s' is no option: it is given as KEY=VALUE"):format(text)
  elseif text:find("[;,]") then
    return nil, ("'%s' has a comma or semicolon in it, which no option can")
                :format(text)
  end
  return text
end

return {
  name = "create",
  about = "Make a device, and with --disk a disk of this machine.",
  needs_luv = true,

  declare = function(command)
    command:argument "name":description "Its name."
    command:option "--handler":argname "HANDLER":count(1)
      :description "The name of a handler, or its file."
    command:option "--size":argname "SIZE":count(1):convert(values.size)
      :description "Its size, such as 10G."
    command:option "--option":argname "KEY=VALUE":count "*"
      :convert(pair)
      :description "An option of the handler; 'tcmu-lua list' shows them."
    command:flag "--disk"
      :description "Make it a disk of this machine, through tcm_loop."
    command:option "--block-size":argname "N":convert(values.block_size)
      :default "512":description "Bytes of a block."
    command:flag "--no-write-cache"
      :description "A write is on stable storage before it is answered."
    command:option "--serial":argname "TEXT"
      :description "Its serial number; a random one if absent."
    command:option "--product":argname "TEXT"
      :description "What INQUIRY gives as its product, up to 16 characters."
  end,

  run = function(args, env)
    local path, why = places.find(env, args.handler)
    if not path then return nil, why end
    local found
    found, why = survey.load(path)
    if not found then return nil, why end
    local options = with_absolute_paths(found, args.option)
    local own <const> = table.concat(options, ";")
    local handler, text = config_of(path, args.handler, options)

    local made
    made, why = require("tcmu.admin").create {
      name = args.name, handler = handler, options = text, size = args.size,
      block_size = args.block_size, write_cache = not args.no_write_cache,
      serial = args.serial, product = args.product, disk = args.disk or false,
      check = function()
        local fits, refusal = survey.check(path, own)
        return fits and true, refusal
      end,
    }
    if not made then return nil, why end
    print(made.disk or made.path)
    return 0
  end,
}
