--- The consumer of the ring (host/ring.c) against shared memory that says what
--- no kernel would.
local ends = require "spec.ring_ends"

local TUR <const>, READ10 <const> = ends.TUR, ends.READ10
local RING <const>, HEAD <const>, TAIL <const>, CMD6 <const> = ends.RING,
  ends.HEAD, ends.TAIL, ends.CMD6

local answer <const>, take <const>, broken_because <const> = ends.answer,
  ends.take, ends.broken_because
local poke16 <const>, poke32 <const>, poke64 <const>, u32 <const> = ends.poke16,
  ends.poke32, ends.poke64, ends.u32

describe("the ring", function()
  local s, r

  local function attach(options) s, r = ends.attach(options) end

  before_each(function() attach() end)
  after_each(ends.close)

  describe("does not trust", function()
    before_each(function() s:submit(READ10, { data_in = 512 }) end)

    it("an entry of length 0", function()
      poke32(RING, 1)
      broken_because "length 0"
      broken_because "length 0"
    end)

    it("a PAD of length 0", function()
      poke32(RING, 0)
      broken_because "length 0"
    end)

    it("an entry beyond cmd_head", function()
      poke32(RING, 4096 | 1)
      broken_because "are left"
    end)

    it("an entry across the end of the ring", function()
      attach { ring_size = 4096 }
      for _ = 1, 32 do
        s:submit(TUR)
        answer(take())
      end
      s:submit(TUR)                             -- at 3840, with 128 bytes to go
      s:submit(TUR)                             -- wraps to 0 behind a PAD of 8
      poke32(RING + 3840, 136 | 1)
      broken_because "136 bytes long and 128 are left"
    end)

    it("a command too short for an answer", function()
      poke32(RING, 104 | 1)
      broken_because "only 104 bytes"
    end)

    it("more iovecs than the entry has room for", function()
      poke32(RING + 8, 6)
      broken_because "6 and 0 iovecs"
    end)

    it("iovec counts whose sum overflows", function()
      poke32(RING + 8, 0xFFFFFFFF)
      poke32(RING + 12, 2)
      broken_because "iovecs"
    end)

    it("an id of 0", function()
      poke16(RING + 4, 0)
      broken_because "no id"
    end)

    it("an id that is still in use", function()
      local first = take()
      s:submit(TUR)
      poke16(RING + u32(TAIL) + 128 + 4, first.id)
      broken_because "still in use"
    end)

    for name, at in pairs { ["the mailbox"] = 64, ["nowhere"] = 1 << 40,
                            ["a negative offset"] = -8,
                            ["the end of the ring"] = (8 << 20) - 5 } do
      it("a CDB at " .. name, function()
        poke64(RING + 24, at)
        broken_because "CDB"
      end)
    end

    it("an iovec into the mailbox", function()
      poke64(RING + 48, 0)
      broken_because "data area"
    end)

    it("an iovec into the ring", function()
      poke64(RING + 48, (8 << 20) - 1)
      broken_because "data area"
    end)

    it("an iovec that ends beyond the mapping", function()
      poke64(RING + 56, (64 << 20) + 1)
      broken_because "data area"
    end)

    it("an iovec whose end overflows", function()
      poke64(RING + 56, -1)
      broken_because "data area"
    end)

    it("a cmd_head outside the ring", function()
      poke32(HEAD, 8 << 20)
      broken_because "cmd_head"
    end)

    it("a cmd_head off the grid of 8", function()
      poke32(HEAD, 124)
      broken_because "cmd_head"
    end)

    it("a task management entry with more ids than it has room for", function()
      take()
      s:tmr(1)
      poke32(RING + 128 + 12, 5)
      broken_because "5 ids in 40 bytes"
    end)

    it("lengths that change after it looked", function()
      local cmd = take()
      s:submit(TUR)
      local second = take()
      poke32(RING, 8 | 1)
      r:complete(second)
      r:publish()
      assert.equal(128, u32(TAIL))
      r:complete(cmd)
      r:publish()
      assert.equal(u32(HEAD), u32(TAIL))
    end)

    it("a ring that is broken, but completes what came before", function()
      local tag = s:submit(TUR)
      take()
      local cmd = take()
      s:submit(TUR)
      poke32(RING + 128 + CMD6, 0)
      broken_because "length 0"
      assert.equal(tag, answer(cmd)[1].tag)
      broken_because "length 0"
      assert.is_false(r:pending())
    end)
  end)
end)
