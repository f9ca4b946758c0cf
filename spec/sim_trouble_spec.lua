--- The simulated kernel (host/sim.c) when not all goes well: no room, a broken
--- ring, commands that take too long, resets and aborts.
local ends = require "spec.ring_ends"
local inline = require "spec.inline"
local raw = require "tcmu.core".raw
local sim = require "tcmu.sim"

local TUR <const>, READ10 <const>, WRITE10 <const> = ends.TUR, ends.READ10,
  ends.WRITE10
local RING <const>, TAIL <const>, CMD6 <const>, CMD10 <const> = ends.RING,
  ends.TAIL, ends.CMD6, ends.CMD10

local BLOCK <const> = 4096
local CHECK <const>, BUSY <const> = 0x02, 0x08
local TASK_SET_FULL <const>, TASK_ABORTED <const> = 0x28, 0x40

local answer <const>, take <const>, sense_of <const> = ends.answer, ends.take,
  ends.sense_of
local head <const>, u32 <const> = ends.head, ends.u32

describe("the simulated kernel", function()
  local s, r

  local function attach(options) s, r = ends.attach(options) end

  before_each(function() attach() end)
  after_each(ends.close)

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
      assert.same({ 0, 0 }, { head(), u32(TAIL) })
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
end)

describe("a simulated host", function()
  it("says so when it cannot close, and does not wait for ever", function()
    local host <const> = sim.host()
    local dev <const> = assert(host:device(inline.source(inline.STORE)))
    host.devices[dev.id] = nil          -- as where a spec has lost it
    assert.error_matches(function() host:close() end, "still in use")
    host.devices[dev.id] = dev
    host:close()
  end)
end)
