--- Both ends of a ring: the simulated kernel's, host/sim.c, and the consumer's,
--- host/ring.c.
local assert = require "luassert"
local raw = require "tcmu.core".raw

local ends = {
  -- CDBs
  TUR = "\0\0\0\0\0\0",
  INQUIRY = "\x12\0\0\0\x24\0",
  READ10 = "\x28\0\0\0\0\0\0\0\1\0",
  WRITE10 = "\x2A\0\0\0\0\0\0\0\1\0",
  XDWRITEREAD = "\x53\0\0\0\0\0\0\0\1\0",
  -- where the command ring starts, and the numbers in the mailbox
  RING = 128, HEAD = 12, TAIL = 64,
  -- the length of an entry by that of its CDB
  CMD6 = 120, CMD10 = 128,
}

local s, r

--- Makes a ring, in place of the one before.
-- @return the kernel's end and the consumer's
function ends.attach(options)
  ends.close()
  s = raw.sim(options)
  r = assert(raw.ring(s))
  return s, r
end

--- Gives the ring to another consumer.
function ends.attach_again()
  r:close()
  r = assert(raw.ring(s))
  return r
end

function ends.close()
  if r then r:close() end
  if s then s:close() end
  s, r = nil, nil
end

--- What stands in the shared memory, by a format of string.unpack.
function ends.get(format, at)
  return string.unpack(format, s:peek(at, string.packsize(format)))
end

function ends.u32(at) return (ends.get("<I4", at)) end
function ends.head() return ends.u32(ends.HEAD) end

function ends.poke16(at, n) s:poke(at, string.pack("<I2", n)) end
function ends.poke32(at, n) s:poke(at, string.pack("<I4", n)) end
function ends.poke64(at, n) s:poke(at, string.pack("<I8", n)) end

--- The consumer takes what is next, which has to be a command unless told.
function ends.take(kind)
  local got, what = r:next()
  assert.equal(kind or "command", got)
  return what
end

--- The consumer announces what it has completed; what initiators get.
function ends.publish()
  if r:publish() then r:notify() end
  return s:collect()
end

--- The same for a command that it completes now.
function ends.answer(cmd, result)
  r:complete(cmd, result)
  return ends.publish()
end

--- The consumer has to refuse the ring with such a sentence.
function ends.broken_because(pattern)
  local kind, why = r:next()
  assert.equal("broken", kind)
  assert.matches(pattern, why)
end

--- Sense key, code and qualifier.
function ends.sense_of(done)
  return { done.sense:byte(3), done.sense:byte(13, 14) }
end

return ends
