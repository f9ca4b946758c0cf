--- The consumer of the ring (host/ring.c) against the simulated kernel: what it
--- takes, and how it answers.
local ends = require "spec.ring_ends"
local raw = require "tcmu.core".raw

local TUR <const>, INQUIRY <const> = ends.TUR, ends.INQUIRY
local READ10 <const>, WRITE10 <const>, XDWRITEREAD <const> = ends.READ10,
  ends.WRITE10, ends.XDWRITEREAD
local RING <const>, HEAD <const>, TAIL <const>, CMD6 <const> = ends.RING,
  ends.HEAD, ends.TAIL, ends.CMD6

local answer <const>, publish <const>, take <const> = ends.answer, ends.publish,
  ends.take
local poke32 <const>, u32 <const> = ends.poke32, ends.u32

describe("the ring", function()
  local s, r

  local function attach(options) s, r = ends.attach(options) end

  before_each(function() attach() end)
  after_each(ends.close)

  describe("at start", function()
    local function refused(options, at, bytes)
      local k <close> = raw.sim(options)
      if at then k:poke(at, bytes) end
      local ring, why = raw.ring(k)
      assert.is_nil(ring)
      return why
    end

    it("refuses another version and names both", function()
      local why = refused { version = 3 }
      assert.matches("version 3", why)
      assert.matches("version 2", why)
    end)

    it("refuses a ring that is larger than the mapping", function()
      assert.matches("does not fit", refused(nil, 8, "\0\0\0\x7F"))
    end)

    it("refuses a ring whose size is no multiple of 8", function()
      assert.matches("does not fit", refused(nil, 8, "\x84\0\0\0"))
    end)

    it("refuses a ring on top of the mailbox", function()
      assert.matches("does not fit", refused(nil, 4, "\x08\0\0\0"))
    end)

    it("refuses a cmd_tail outside the ring", function()
      assert.matches("reset_ring", refused(nil, TAIL, "\0\0\0\x10"))
    end)

    it("tells the capabilities", function()
      assert.equal(15, r:caps())
      attach { caps = raw.OOOC }
      assert.equal(raw.OOOC, r:caps())
    end)

    it("goes on where a predecessor that answered in order left off", function()
      s:submit(TUR)
      s:submit(INQUIRY, { data_in = 36 })
      answer(take())
      r = ends.attach_again()
      assert.equal(INQUIRY, take().cdb)
      assert.equal("empty", r:next())
    end)
  end)

  describe("taking", function()
    it("finds nothing in an empty ring", function()
      assert.is_false(r:pending())
      assert.equal("empty", r:next())
    end)

    it("gives commands in the order of the kernel", function()
      s:submit(TUR)
      s:submit(INQUIRY, { data_in = 36 })
      assert.is_true(r:pending())
      assert.equal(TUR, take().cdb)
      assert.equal(INQUIRY, take().cdb)
      assert.equal("empty", r:next())
      assert.is_false(r:pending())
      assert.equal(2, r:outstanding())
    end)

    for opcode, length in pairs {
      [0x00] = 6, [0x28] = 10, [0x5E] = 10, [0x88] = 16, [0xA0] = 12,
      [0xC1] = 10, [0xFF] = 10, [0x60] = 12
    } do
      local name <const> = "takes the length of a CDB from its opcode %02X"
      it(name:format(opcode), function()
        local cdb = string.char(opcode) .. ("x"):rep(length - 1)
        s:submit(cdb .. "beyond")
        assert.equal(cdb, take().cdb)
      end)
    end

    it("takes the length of a variable length CDB from its byte 7", function()
      local cdb = "\x7F" .. ("a"):rep(6) .. "\xFC" .. ("b"):rep(252)
      s:submit(cdb)
      assert.equal(cdb, take().cdb)
    end)

    it("finds Data-Out behind its iovecs", function()
      local bytes = ("0123456789abcdef"):rep(600)
      s:submit(WRITE10, { data_out = bytes })
      assert.equal(bytes, r:data(take()))
    end)

    it("keeps Data-Out and Data-In of a bidirectional command apart", function()
      s:submit(XDWRITEREAD, { data_out = "out", data_in = 5000 })
      local cmd = take()
      assert.equal("out", r:data(cmd))
      assert.equal(1, #cmd.iov)
      assert.equal(5000, cmd.bidi[1][2])
      assert.not_equal(cmd.iov[1][1], cmd.bidi[1][1])
    end)

    it("skips the PAD at the end and releases it", function()
      attach { ring_size = 4096 }       -- 3968 bytes: 33 entries and 8 over
      for _ = 1, 100 do
        local tag = s:submit(TUR)
        assert.equal(tag, answer(take())[1].tag)
      end
      assert.equal("empty", r:next())
      assert.is_false(s:broken())
    end)

    it("passes an opcode that it does not know and flags it", function()
      local tag = s:submit(TUR)
      s:submit(INQUIRY, { data_in = 36 })
      poke32(RING, CMD6 | 5)
      assert.equal(INQUIRY, take().cdb)
      local done = publish()
      assert.equal(tag, done[1].tag)
      assert.equal(2, done[1].status)
      assert.equal("\x08\0", done[1].sense:sub(13, 14))
    end)

    it("tells which commands a task management function names", function()
      local a, b, c = s:submit(TUR), s:submit(TUR), s:submit(TUR)
      s:tmr(1, { a, c })
      s:tmr(5)
      take(); take(); take()
      assert.same({ type = 1, ids = { 1, 3 } }, take "tmr")
      assert.same({ type = 5, ids = { 1, 2, 3 } }, take "tmr")
      assert.is_truthy(b)
    end)

    it("releases a task management entry that has nothing before it", function()
      s:tmr(5)
      take "tmr"
      assert.is_true(r:publish())
      assert.equal(u32(HEAD), u32(TAIL))
    end)
  end)

  describe("answering", function()
    it("gives data, status and sense to the initiator", function()
      local read = s:submit(READ10, { data_in = 512 })
      assert.same({ { tag = read, status = 0, data = ("r"):rep(512) } },
                  answer(take(), { data_in = ("r"):rep(512) }))
      local tur = s:submit(TUR)
      local done = answer(take(), { status = 2, sense = "\x70\0\x05" })
      assert.equal(tur, done[1].tag)
      assert.equal("\x70\0\x05" .. ("\0"):rep(93), done[1].sense)
    end)

    it("leaves nothing of the request in the sense data", function()
      s:submit(TUR)
      local done = answer(take(), { status = 2 })
      assert.equal(("\0"):rep(96), done[1].sense)
    end)

    it("releases with a command what follows and needs no answer", function()
      s:submit(TUR)
      s:tmr(5)
      local cmd = take()
      take "tmr"
      assert.is_false(r:publish())
      answer(cmd)
      assert.equal(u32(HEAD), u32(TAIL))
    end)

    it("cuts sense data at 96 bytes", function()
      s:submit(TUR)
      local done = answer(take(), { status = 2, sense = ("s"):rep(200) })
      assert.equal(("s"):rep(96), done[1].sense)
      assert.equal("\0", s:peek(RING + CMD6, 1))
    end)

    it("tells a short answer where the kernel listens", function()
      s:submit(INQUIRY, { data_in = 255 })
      assert.equal(36, #answer(take(), { read_len = 36 })[1].data)
    end)

    it("does not tell it where the kernel does not listen", function()
      attach { caps = raw.OOOC }
      s:submit(INQUIRY, { data_in = 255 })
      local cmd = take()
      r:complete(cmd, { read_len = 36 })
      assert.equal(0, s:peek(RING + 7, 1):byte() & 2)
    end)

    it("moves cmd_tail only when it publishes", function()
      s:submit(TUR)
      local cmd = take()
      assert.is_false(r:publish())
      r:complete(cmd)
      assert.equal(0, u32(TAIL))
      assert.is_true(r:publish())
      assert.equal(CMD6, u32(TAIL))
      assert.is_false(r:publish())
    end)

    it("answers in any order where the kernel allows it", function()
      local a = s:submit(TUR)
      local b = s:submit(READ10, { data_in = 3 })
      local c = s:submit(TUR)
      local x, y, z = take(), take(), take()
      local done = answer(z, { status = 8 })
      assert.same({ { tag = c, status = 8, data = "" } }, done)
      assert.same({ { tag = b, status = 0, data = "two" } },
                  answer(y, { data_in = "two" }))
      assert.same({ { tag = a, status = 0, data = "" } }, answer(x))
      assert.equal(u32(HEAD), u32(TAIL))
    end)

    it("releases in ring order where the kernel demands it", function()
      attach { caps = 0 }
      local a = s:submit(TUR)
      local b = s:submit(READ10, { data_in = 3 })
      local c = s:submit(TUR)
      local x, y, z = take(), take(), take()
      assert.same({}, answer(y, { data_in = "two" }))
      assert.same({}, answer(z, { status = 8 }))
      assert.same({ { tag = a, status = 0, data = "" },
                    { tag = b, status = 0, data = "two" },
                    { tag = c, status = 8, data = "" } }, answer(x))
      assert.is_false(s:broken())
    end)

    it("holds thousands of commands at once", function()
      attach { ring_size = 1 << 20 }
      local cmds, tags = {}, {}
      for i = 1, 5000 do tags[i] = s:submit(TUR) end
      for i = 1, 5000 do cmds[i] = take() end
      for i = 5000, 1, -1 do r:complete(cmds[i]) end
      local done = publish()
      assert.equal(5000, #done)
      assert.equal(tags[5000], done[1].tag)
      assert.equal(0, r:outstanding())
    end)

    it("answers once, however often it is asked to", function()
      local a, b = s:submit(TUR), s:submit(TUR)
      local x, y = take(), take()
      assert.equal(a, answer(x)[1].tag)
      assert.same({}, answer(x))
      assert.equal(1, r:outstanding())
      assert.equal(b, answer(y)[1].tag)
      assert.is_false(s:broken())
    end)

    it("does not take an old token for the new command with its id", function()
      s:submit(TUR)
      local old = take()
      answer(old)
      local tag = s:submit(TUR)
      local new = take()
      assert.equal(old.id, new.id)
      assert.same({}, answer(old))
      assert.equal(tag, answer(new)[1].tag)
    end)

    it("announces a whole drain with one write", function()
      for _ = 1, 32 do s:submit(TUR) end
      assert.is_true(r:event())
      assert.is_false(r:event())
      for _ = 1, 32 do r:complete(take()) end
      assert.equal(32, #publish())
      assert.equal(1, s:writes())
    end)

    it("completes a command whose time is over", function()
      local late = s:submit(READ10, { data_in = 512 })
      local cmd = take()
      assert.is_true(s:expire(late))
      assert.equal(2, s:collect()[1].status)
      assert.same({}, answer(cmd, { data_in = ("x"):rep(512) }))
      assert.is_false(s:broken())
    end)
  end)

  it("says after close that it is closed", function()
    local k <close> = raw.sim()
    local other = assert(raw.ring(k))
    other:close()
    local ok, message = pcall(other.next, other)
    assert.is_false(ok)
    assert.matches("the ring is closed", message)
  end)
end)
