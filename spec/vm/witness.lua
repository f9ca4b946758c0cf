--- A memory disk that writes down in the log which commands reach it, with how
--- much room or data the fabric has for each, and how much was answered.
local tcmu = require "tcmu"

local function witness(_, cmd)
  local text = cmd.cdb:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)
  local ok, reply = pcall(cmd.default, cmd)
  local answered = not ok and tostring(reply) or reply and #reply or "in place"
  tcmu.log(("saw %s fabric=%d answered=%s"):format(text, #cmd.data, answered))
  if not ok then error(reply, 0) end
  return reply
end

local on = {}
for _, opcode in ipairs {
  0x28, 0xA8, 0x88,                 -- READ
  0x2A, 0xAA, 0x8A,                 -- WRITE
  0x2E, 0xAE, 0x8E,                 -- WRITE AND VERIFY
  0x16, 0x17,                       -- RESERVE, RELEASE
  0x83, 0x84,                       -- EXTENDED COPY, RECEIVE COPY RESULTS
} do on[opcode] = witness end

return tcmu.handler {
  name = "witness",
  about = "a memory disk that tells what it is asked",
  on = on,
  open = function(dev)
    return { store = tcmu.store.memory(dev.size) }
  end,
}
