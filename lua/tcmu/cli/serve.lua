--- `tcmu-lua serve`: the daemon.

local core = require "tcmu.core"
local values = require "tcmu.cli.values"

local HOUR <const> = 3600000        -- ms
local SECOND <const> = 1000000      -- us

return {
  name = "serve",
  about = "Serve the kernel's devices. Needs root; logs to standard error.",
  needs_luv = true,

  declare = function(command)
    command:option "--shards":argname "N":convert(values.integer(1, 256))
      :description "Threads that serve devices; one per processor if absent."
    command:option "--handler":argname "FILE":count "*"
      :description "One more handler, or a directory of them."
    command:option "--memory":argname "SIZE":convert(values.size)
      :description("Most memory of a handler on a shard; a quarter of the "
                   .. "machine's if absent.")
    command:option "--budget":argname "MS":convert(values.integer(0, HOUR))
      :default "50"
      :description("CPU time after which a handler's computation is stopped; "
                   .. "0: never.")
    command:option "--poll":choices { "auto", "on", "off" }:default "auto"
      :description("Wait for the next command awake for a while: where that "
                   .. "pays, always or never.")
    command:option "--poll-limit":argname "US"
      :convert(values.integer(1, SECOND)):default "2000"
      :description "The longest such while, in microseconds."
    command:flag "--sole"
      :description "Refuse devices of handlers that nobody has."
    command:flag "--third-party-copy"
      :description("Let EXTENDED COPY go from one device to another: who may "
                   .. "use one may then read and write all.")
    command:flag "--no-fast-path"
      :description "Serve READ and WRITE in Lua too, for comparison."
    command:flag "-v --verbose":description "Log more."
  end,

  run = function(args, env)
    for _, place in ipairs(args.handler) do
      local found, why = require("luv").fs_stat(place)
      if not found then return nil, why end
      if found.type ~= "directory" and not place:find "%.lua$" then
        return nil, ("%s is neither a directory nor a file whose name ends in "
                     .. ".lua, by which handlers are found: rename it")
                    :format(place)
      end
    end
    if args.verbose then core.log_level "debug" end
    core.budget(args.budget)
    local places = args.handler
    places[#places + 1] = env.paths.handlers
    return require("tcmu.control").serve {
      handlers = places, shards = args.shards, sole = args.sole or false,
      memory_limit = args.memory or core.memory() // 4,
      no_fast_path = args.no_fast_path or false,
      third_party = args.third_party_copy or false,
      poll = args.poll, poll_limit = args.poll_limit,
    }
  end,
}
