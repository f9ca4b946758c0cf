--- What `require "tcmu"` gives to handlers, scripts and specs.
--
--   tcmu.handler { ... }   checks a handler's table and returns it
--   tcmu.option.*          declares options
--   tcmu.store.*           memory(size), zero(size), file(path, mode, size)
--   tcmu.buffer(n)         n bytes
--   tcmu.sleep(ms), tcmu.await(f), tcmu.all(f, g), tcmu.spawn(f),
--   tcmu.lock(self, offset, length)
--   tcmu.log(text)         a line in the host's log
--   tcmu.disk, bare, cdrom, tape, zoned   device kinds

local core = require "tcmu.core"
local handler = require "tcmu.handler"
local option = require "tcmu.option"

local tcmu = {
  all = core.all,
  await = core.await,
  buffer = core.buffer,
  handler = handler.new,
  lock = core.lock,
  option = option,
  sleep = core.sleep,
  spawn = core.spawn,
  store = core.store,
  version = "0.1",
}

--- tcmu.log(text [, level]): level is "error", "warning", "info" (default) or
-- "debug".  Does not wait.
function tcmu.log(text, level)
  local cmd = core.running()
  local dev = cmd and cmd.dev
  core.log(level or "info", dev and dev.hba .. "/" .. dev.name, tostring(text))
end

-- The kinds need this module themselves, so they are loaded when asked for.
local KINDS <const> = { disk = "tcmu.disk", bare = "tcmu.bare",
                        cdrom = "tcmu.cdrom", tape = "tcmu.tape",
                        zoned = "tcmu.zoned" }

return setmetatable(tcmu, { __index = function(t, key)
  local module = KINDS[key]
  if not module then return nil end
  local kind = require(module)
  rawset(t, key, kind)
  return kind
end })
