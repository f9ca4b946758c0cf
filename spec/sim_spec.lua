--- The simulated kernel (host/sim.c): the rules that spec/vm sees the real one
--- follow, observed in the shared memory and in what an initiator gets.
local raw = require "tcmu.core".raw

local TUR <const> = "\0\0\0\0\0\0"
local READ10 <const> = "\x28\0\0\0\0\0\0\0\1\0"
local WRITE10 <const> = "\x2A\0\0\0\0\0\0\0\1\0"
local XDWRITEREAD <const> = "\x53\0\0\0\0\0\0\0\1\0"

local RING <const> = 128
local HEAD <const>, TAIL <const> = 12, 64
local CMD6 <const>, CMD10 <const> = 120, 128    -- entries by length of the CDB
local BLOCK <const> = 4096

local CHECK <const>, BUSY <const> = 0x02, 0x08
local TASK_SET_FULL <const>, TASK_ABORTED <const> = 0x28, 0x40

describe("the simulated kernel", function()
  local s, r

  local function attach(options)
    if r then r:close() end
    if s then s:close() end
    s = raw.sim(options)
    r = assert(raw.ring(s))
  end

  before_each(function() attach() end)
  after_each(function()
    r:close()
    s:close()
    r, s = nil, nil
  end)

  local function get(format, at)
    return string.unpack(format, s:peek(at, string.packsize(format)))
  end

  local function head() return (get("<I4", HEAD)) end

  local function take()
    local kind, cmd = r:next()
    assert.equal("command", kind)
    return cmd
  end

  local function answer(cmd, result)
    r:complete(cmd, result)
    assert.is_true(r:publish())
    r:notify()
    return s:collect()
  end

  local function sense_of(done)
    return { done.sense:byte(3), done.sense:byte(13, 14) }
  end

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
      assert.equal(0, (get("<I4", TAIL)))
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
      s:poke(RING + 7, "\2")
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

  describe("makes wait", function()
    it("what the ring has no room for, and keeps its data", function()
      attach { ring_size = 4096 }
      for _ = 1, 30 do s:submit(READ10) end     -- one more: no byte free
      local tag = s:submit(WRITE10, { data_out = "waiting" })
      s:submit(TUR)
      assert.equal(30 * CMD10, head())
      local first = take()
      for _ = 2, 30 do take() end
      assert.equal("empty", r:next())
      answer(first)
      local cmd = take()
      assert.equal("waiting", r:data(cmd))
      assert.equal(tag, answer(cmd)[1].tag)
    end)

    it("what the data area has no room for, and all that follow", function()
      attach { data_size = 4 * BLOCK }
      s:submit(READ10, { data_in = 3 * BLOCK })
      s:submit(READ10, { data_in = 2 * BLOCK })
      s:submit(TUR)
      local big = take()
      assert.equal("empty", r:next())
      answer(big)
      assert.equal(2 * BLOCK, take().iov[1][2])
      assert.equal(TUR, take().cdb)
    end)

    it("the smaller behind the larger, even if it would fit", function()
      attach { data_size = 4 * BLOCK }
      s:submit(READ10, { data_in = 3 * BLOCK })
      s:submit(TUR, { data_in = 1 })
      s:submit(READ10, { data_in = 4 * BLOCK })
      s:submit(TUR, { data_in = 1 })
      local first, second = take(), take()
      answer(second)
      assert.equal("empty", r:next())
      answer(first)
      local cmd = take()
      assert.equal(4 * BLOCK, cmd.iov[1][2])
      assert.equal("empty", r:next())
      answer(cmd)
      assert.equal(TUR, take().cdb)
    end)

    it("a command behind a notification, even if it would fit", function()
      attach { ring_size = 16384 }
      for _ = 1, 126 do s:submit(READ10) end    -- leaves 128 bytes
      s:tmr(5)                                  -- needs 288
      s:submit(TUR)                             -- needs 120
      for _ = 1, 126 do take() end
      assert.equal("empty", r:next())
    end)

    it("notifications too, and nothing overtakes them", function()
      attach { ring_size = 4096 }
      for _ = 1, 30 do s:submit(READ10) end
      local first = take()
      s:tmr(5)                                  -- 96 of the last 128 bytes
      s:tmr(6)
      s:submit(TUR)
      for _ = 2, 30 do take() end
      assert.equal("tmr", (r:next()))
      assert.equal("empty", r:next())
      answer(first)
      assert.equal("tmr", (r:next()))
      assert.equal("empty", r:next())
    end)
  end)

  describe("refuses", function()
    it("more data than the data area holds", function()
      attach { data_size = 4 * BLOCK }
      s:submit(READ10, { data_in = 4 * BLOCK + 1 })
      assert.same({ 5, 0x24, 0 }, sense_of(s:collect()[1]))
    end)

    it("everything with BUSY while it is blocked", function()
      attach { data_size = BLOCK }
      local running = s:submit(READ10, { data_in = 1 })
      local waiting = s:submit(READ10, { data_in = 1 })
      s:block(true)
      local new = s:submit(TUR)
      assert.same({ { tag = waiting, status = BUSY, data = "" },
                    { tag = new, status = BUSY, data = "" } }, s:collect())
      assert.equal(running, answer(take())[1].tag)
      s:block(false)
      s:submit(TUR)
      assert.equal(TUR, take().cdb)
    end)

    it("everything after an unknown id was completed, until a reset", function()
      s:submit(TUR)
      local tag = s:submit(TUR)
      s:poke(RING + 4, "\x09\0")
      s:poke(TAIL, string.pack("<I4", 2 * CMD6))
      r:notify()
      assert.same({}, s:collect())
      assert.is_true(s:broken())
      s:submit(TUR)
      assert.same({ 2, 8, 0 }, sense_of(s:collect()[1]))
      s:reset(1)
      assert.is_false(s:broken())
      assert.equal(tag, s:collect()[2].tag)
    end)

    it("what waited when the ring broke", function()
      attach { data_size = BLOCK }
      s:submit(READ10, { data_in = 1 })
      local waiting = s:submit(READ10, { data_in = 1 })
      s:poke(RING + 4, "\9\0")
      s:poke(TAIL, string.pack("<I4", CMD10))
      r:notify()
      local done = s:collect()
      assert.equal(waiting, done[1].tag)
      assert.same({ 2, 8, 0 }, sense_of(done[1]))
    end)

    it("an answer out of order without the capability", function()
      attach { caps = raw.READ_LEN }
      s:submit(TUR)
      s:submit(TUR)
      s:poke(RING + 4, "\2\0")
      s:poke(TAIL, string.pack("<I4", CMD6))
      r:notify()
      s:collect()
      assert.is_true(s:broken())
    end)

    it("to follow a consumer that shortened an entry to nothing", function()
      s:submit(TUR)
      s:poke(RING, string.pack("<I4", 0))
      s:poke(TAIL, string.pack("<I4", CMD6))
      r:notify()
      s:collect()
      assert.is_true(s:broken())
    end)

    it("to walk for ever towards a tail that no entry ends at", function()
      attach { ring_size = 4096 }
      s:poke(RING, string.pack("<I4", 3968))    -- one PAD over the whole ring
      s:poke(TAIL, string.pack("<I4", 4))
      r:notify()
      s:collect()
      assert.is_true(s:broken())
    end)
  end)

  describe("when the time of a command is over", function()
    it("answers NOT READY and keeps the entry until it is completed", function()
      local late = s:submit(READ10, { data_in = 512 })
      local cmd = take()
      assert.is_true(s:expire(late))
      local done = s:collect()
      assert.equal(late, done[1].tag)
      assert.same({ 2, 8, 0 }, sense_of(done[1]))

      s:submit(READ10, { data_in = 512 })
      local next_one = take()
      assert.not_equal(cmd.id, next_one.id)
      assert.not_same(cmd.iov, next_one.iov)

      assert.same({}, answer(cmd))
      s:submit(READ10, { data_in = 512 })
      assert.same(cmd.iov, take().iov)
    end)

    it("answers TASK SET FULL if it still waited for space", function()
      attach { data_size = BLOCK }
      s:submit(READ10, { data_in = 1 })
      s:expire(s:submit(READ10, { data_in = 1 }))
      assert.equal(TASK_SET_FULL, s:collect()[1].status)
    end)

    it("tells that no such command is under way", function()
      local tag = s:submit(TUR)
      answer(take())
      assert.is_false(s:expire(tag))
    end)
  end)

  describe("resetting the ring", function()
    it("ends what is outstanding with BUSY for 1, sense for 2", function()
      for kind, status in ipairs { BUSY, CHECK } do
        s:submit(TUR)
        s:reset(kind)
        assert.equal(status, s:collect()[1].status)
      end
      assert.same({ 0, 0 }, { head(), (get("<I4", TAIL)) })
    end)

    it("does not answer again what had expired", function()
      s:expire(s:submit(TUR))
      s:collect()
      s:reset(1)
      assert.same({}, s:collect())
    end)

    it("lets in what waited", function()
      attach { data_size = BLOCK }
      s:submit(READ10, { data_in = 1 })
      s:submit(WRITE10, { data_out = "x" })
      s:reset(1)
      assert.equal(CMD10, head())
    end)
  end)

  describe("tells about task management", function()
    it("by the ids of the commands in the ring only", function()
      attach { data_size = BLOCK }
      s:submit(TUR)
      local running = s:submit(READ10, { data_in = 1 })
      local waiting = s:submit(READ10, { data_in = 1 })
      s:tmr(1, { running, waiting })
      assert.same({ { tag = waiting, status = TASK_ABORTED, data = "" } },
                  s:collect())
      take(); take()
      local kind, tmr = r:next()
      assert.same({ "tmr", 1, { 2 } }, { kind, tmr.type, tmr.ids })
    end)

    it("without those whose time is over", function()
      s:expire(s:submit(TUR))
      s:submit(TUR)
      s:tmr(5)
      take(); take()
      local _, tmr = r:next()
      assert.same({ 2 }, tmr.ids)
    end)

    it("not at all without the capability", function()
      attach { caps = raw.OOOC }
      s:submit(TUR)
      s:tmr(5)
      assert.equal(CMD6, head())
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
