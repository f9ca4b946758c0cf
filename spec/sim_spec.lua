--- The simulated kernel (host/sim.c): the rules that spec/vm sees the real one
--- follow, observed in the shared memory and in what an initiator gets.
local ends = require "spec.ring_ends"
local raw = require "tcmu.core".raw

local TUR <const>, READ10 <const>, WRITE10 <const>, XDWRITEREAD <const> =
  ends.TUR, ends.READ10, ends.WRITE10, ends.XDWRITEREAD
local RING <const>, TAIL <const>, CMD6 <const> = ends.RING, ends.TAIL, ends.CMD6

local BLOCK <const> = 4096
local CHECK <const>, BUSY <const> = 0x02, 0x08

local answer <const>, take <const>, sense_of <const> = ends.answer, ends.take,
  ends.sense_of
local get <const>, head <const>, u32 <const> = ends.get, ends.head, ends.u32

describe("the simulated kernel", function()
  local s, r

  local function attach(options) s, r = ends.attach(options) end

  before_each(function() attach() end)
  after_each(ends.close)

  describe("lays out", function()
    it("the mailbox as version 2 with all capabilities", function()
      local version, flags, off, size = get("<I2I2I4I4", 0)
      assert.same({ 2, 15, 128, (8 << 20) - 128 },
                  { version, flags, off, size })
    end)

    it("a command of 6 bytes in 120, its CDB right behind", function()
      s:submit(TUR)
      local len_op, id, kflags, uflags = get("<I4I2BB", RING)
      assert.same({ CMD6 | 1, 1, 0, 0 }, { len_op, id, kflags, uflags })
      assert.equal(RING + 112, (get("<I8", RING + 24)))
      assert.equal(CMD6, head())
    end)

    it("neighbouring blocks as one iovec with its exact length", function()
      s:submit(READ10, { data_in = 3 * BLOCK - 1 })
      assert.same({ { 8 << 20, 3 * BLOCK - 1 } }, take().iov)
    end)

    it("separate blocks as separate iovecs, and the CDB behind", function()
      for _ = 1, 12 do s:submit(READ10, { data_in = BLOCK }) end
      local cmds = {}
      for i = 1, 12 do cmds[i] = take() end
      for i = 2, 12, 2 do answer(cmds[i]) end   -- leaves every other block free
      local at = head()
      s:submit(READ10, { data_in = 6 * BLOCK })
      assert.equal(48 + 6 * 16 + 16 | 1, (get("<I4", RING + at)))
      assert.equal(RING + at + 48 + 6 * 16, (get("<I8", RING + at + 24)))
      assert.equal(6, #take().iov)
    end)

    it("larger blocks when it is told to", function()
      attach { block_pages = 16 }
      s:submit(READ10, { data_in = 512 })
      s:submit(READ10, { data_in = 512 })
      take()
      assert.same({ { (8 << 20) + 16 * BLOCK, 512 } }, take().iov)
    end)

    it("Data-In of a bidirectional command in blocks of its own", function()
      s:submit(XDWRITEREAD, { data_out = "out", data_in = 10 })
      local cmd = take()
      assert.same({ { 8 << 20, 3 } }, cmd.iov)
      assert.same({ { (8 << 20) + BLOCK, 10 } }, cmd.bidi)
      local done = answer(cmd, { data_in = "0123456789" })
      assert.equal("0123456789", done[1].data)
    end)

    it("a PAD where the next entry does not fit before the end", function()
      attach { ring_size = 4096 }       -- 3968: 33 entries of 120 and 8 over
      for _ = 1, 33 do
        s:submit(TUR)
        answer(take())
      end
      assert.equal(3960, head())
      s:submit(TUR)
      assert.equal(8 | 0, (get("<I4", RING + 3960)))
      assert.equal(CMD6, head())
    end)

    it("no PAD where the entry just fits", function()
      attach { ring_size = 4096 }       -- 3968 is 31 entries of 128
      for _ = 1, 31 do
        s:submit(READ10)
        answer(take())
      end
      assert.equal(0, head())
      assert.equal(0, u32(TAIL))
    end)
  end)

  it("takes the lowest free id and block again", function()
    local cmds = {}
    for i = 1, 4 do
      s:submit(READ10, { data_in = 1 })
      cmds[i] = take()
      assert.equal(i, cmds[i].id)
    end
    answer(cmds[3])
    answer(cmds[2])
    s:submit(READ10, { data_in = 1 })
    local again = take()
    assert.equal(2, again.id)
    assert.same(cmds[2].iov, again.iov)
  end)

  it("takes the lowest free id again among hundreds", function()
    local second
    for i = 1, 200 do
      s:submit(TUR)
      local cmd = take()
      second = i == 2 and cmd or second
    end
    answer(second)
    s:submit(TUR)
    assert.equal(2, take().id)
  end)

  describe("hands to the initiator", function()
    it("all that was expected with GOOD", function()
      s:submit(READ10, { data_in = 5000 })
      local bytes = ("ab"):rep(2500)
      assert.equal(bytes, answer(take(), { data_in = bytes })[1].data)
    end)

    it("what the blocks held, if a short answer is not told", function()
      s:poison(0xEE)
      s:submit(READ10, { data_in = 10 })
      local done = answer(take(), { data_in = "abc" })
      assert.equal("abc" .. ("\xEE"):rep(7), done[1].data)
    end)

    it("an earlier command's data in the same case without poison", function()
      s:submit(WRITE10, { data_out = "secret" })
      answer(take())
      s:submit(READ10, { data_in = 6 })
      assert.equal("abcret", answer(take(), { data_in = "abc" })[1].data)
    end)

    it("only read_len bytes, and never more than were expected", function()
      s:submit(READ10, { data_in = 10 })
      local done = answer(take(), { data_in = "abc", read_len = 3 })
      assert.equal("abc", done[1].data)
      s:submit(READ10, { data_in = 10 })
      assert.equal(10, #answer(take(), { read_len = 11 })[1].data)
    end)

    it("everything in spite of read_len without the capability", function()
      attach { caps = raw.OOOC }
      s:submit(READ10, { data_in = 10 })
      r:complete(take())
      s:poke(RING + 7, "\x82")                 -- with the consumer's own mark
      s:poke(RING + 12, "\3")
      r:publish()
      r:notify()
      assert.equal(10, #s:collect()[1].data)
    end)

    it("no data with CHECK CONDITION, unless read_len is told", function()
      s:submit(READ10, { data_in = 4 })
      local result = { status = CHECK, sense = "\x70", data_in = "data" }
      local done = answer(take(), result)
      assert.equal("", done[1].data)
      s:submit(READ10, { data_in = 4 })
      result.read_len = 2
      done = answer(take(), result)
      assert.same({ "da", "\x70" }, { done[1].data, done[1].sense:sub(1, 1) })
    end)

    it("no data with BUSY", function()
      s:submit(READ10, { data_in = 4 })
      assert.same({ { tag = 1, status = BUSY, data = "" } },
                  answer(take(), { status = BUSY, data_in = "data" }))
    end)

    it("nothing before the consumer has written to its descriptor", function()
      s:submit(TUR)
      r:complete(take())
      r:publish()
      assert.same({}, s:collect())
      r:notify()
      assert.equal(1, #s:collect())
    end)

    it("NOT READY for an unknown operation", function()
      s:submit(TUR)
      s:poke(RING, string.pack("<I4", CMD6 | 7))
      assert.equal("empty", r:next())
      r:publish()
      r:notify()
      assert.same({ 2, 8, 0 }, sense_of(s:collect()[1]))
    end)
  end)

  it("wakes the consumer once for all that it has not looked at yet", function()
    s:submit(TUR)
    s:submit(TUR)
    assert.is_true(r:event())
    assert.is_false(r:event())
    s:submit(TUR)
    assert.is_true(r:event())
  end)

  it("runs a thousand commands in random order over a small ring", function()
    attach { ring_size = 4096, data_size = 16 * BLOCK }
    local random = math.random
    math.randomseed(7)
    local open, expected, finished = {}, {}, 0
    local function drain()
      while true do
        local kind, cmd = r:next()
        if kind ~= "command" then break end
        open[#open + 1] = cmd
      end
    end
    for i = 1, 1000 do
      local data = ("%08d"):format(i):rep(random(1, 1500))
      local tag = s:submit(XDWRITEREAD, { data_out = data, data_in = #data })
      expected[tag] = data
      drain()
      while #open > random(0, 3) do
        local cmd = table.remove(open, random(#open))
        r:complete(cmd, { data_in = r:data(cmd) })
      end
      if r:publish() then r:notify() end
      for _, done in ipairs(s:collect()) do
        assert.equal(expected[done.tag], done.data)
        expected[done.tag] = nil
        finished = finished + 1
      end
    end
    while next(expected) do
      drain()
      local cmd = table.remove(open)
      for _, done in ipairs(answer(cmd, { data_in = r:data(cmd) })) do
        assert.equal(expected[done.tag], done.data)
        expected[done.tag] = nil
        finished = finished + 1
      end
    end
    assert.equal(1000, finished)
    assert.is_false(s:broken())
  end)

  it("refuses sizes that are no whole pages", function()
    assert.has_error(function() raw.sim { ring_size = 1000 } end)
    assert.has_error(function() raw.sim { data_size = 4097 } end)
  end)
end)
