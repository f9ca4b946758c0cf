--- What a device does for a copy that another device of the process was asked
--- for (EXTENDED COPY): tells about itself, reads, writes.
--
-- Called from host/peer_serve.c in a task of this device.  A write holds its
-- range as every write does, and what is checked is checked once it holds it:
-- SANITIZE, an ejection or a smaller size may have come first.  While it holds
-- the range it waits for nobody but its own store, see tcmu.copy_end.

local copy_end = require "tcmu.copy_end"
local core = require "tcmu.core"
local rod = require "tcmu.rod"
local sense = require "tcmu.sense"

local verbs, token_verbs = {}, {}

function verbs.look(dev)
  return copy_end.describe(dev)
end

function verbs.read(dev, offset, buffer)
  copy_end.check(dev, "read", offset, #buffer)
  dev:read(buffer, offset)
  return ""
end

function verbs.write(dev, offset, buffer)
  local _ <close> = core.lock(dev.self, offset, #buffer)
  copy_end.check(dev, "write", offset, #buffer)
  dev:write(buffer, offset, false)
  return ""
end

function token_verbs.look(dev, _, _, token)
  return rod.look(dev, token)
end

function token_verbs.read(dev, offset, buffer, token)
  return rod.read(dev, token, offset, buffer)
end

function token_verbs.delete(dev, _, _, token)
  return rod.delete(dev, token)
end

local function log(dev, verb, why)
  if getmetatable(why) == core.io_error then why = why.message end
  core.log("error", dev.hba .. "/" .. dev.name, ("cannot %s for a copy that "
           .. "another device was asked for: %s"):format(verb, tostring(why)))
end

--- Does `verb` ("look", "read", "write") with the bytes of the buffer from
-- `offset` on; with a token ("look", "read", "delete") to what that stands for.
-- Waits.
-- @return true and what "look" tells; or false, and "type" if this is no device
-- to copy from or to, or what is the matter with the token
return function(dev, verb, offset, buffer, token)
  if not copy_end.suits(dev) then return false, "type" end
  local serve = (token == "" and verbs or token_verbs)[verb]
  local ok, result, why = pcall(serve, dev, offset, buffer, token)
  if ok then return result ~= nil, result or why end
  log(dev, verb, sense.is(result) and sense.describe(result) or result)
  return false
end
