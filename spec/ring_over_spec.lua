--- The consumer of the ring (host/ring.c) when somebody else resets it: what it
--- had taken is void, and whatever it has not seen of the reset must not hurt.
local ends = require "spec.ring_ends"
local RAW <const> = require "tcmu.core".raw

local TUR <const>, INQUIRY <const>, READ10 <const>, WRITE10 <const> = ends.TUR,
  ends.INQUIRY, ends.READ10, ends.WRITE10
local RING <const>, HEAD <const>, TAIL <const> = ends.RING, ends.HEAD, ends.TAIL

local answer <const>, take <const>, broken_because <const> = ends.answer,
  ends.take, ends.broken_because
local poke32 <const>, u32 <const> = ends.poke32, ends.u32

describe("a ring that somebody else resets", function()
  local s, r

  local function attach(options) s, r = ends.attach(options) end

  before_each(function() attach() end)
  after_each(ends.close)

  it("starts over, and the commands before are void", function()
    s:submit(TUR); s:submit(TUR)
    local old, kept = take(), take()
    answer(old)
    s:reset(1)
    s:collect()
    assert.equal("reset", r:next())
    assert.equal(0, r:outstanding())
    assert.equal("empty", r:next())
    local tag = s:submit(INQUIRY, { data_in = 36 })
    local cmd = take()
    assert.same({}, answer(kept))
    assert.equal(tag, answer(cmd)[1].tag)
  end)

  it("notices although nothing was completed before", function()
    s:submit(TUR)
    take()
    s:reset(1)
    assert.equal("reset", r:next())
    assert.equal("empty", r:next())
  end)

  it("notices although new commands lie where the old ones did", function()
    s:submit(TUR)
    local old = take()
    s:reset(1)
    s:collect()
    local tag = s:submit(TUR)
    assert.same({}, answer(old))
    assert.equal("reset", r:next())
    assert.equal(tag, answer(take())[1].tag)
  end)

  it("notices before it takes what it had seen of the old ring", function()
    s:submit(TUR); s:submit(TUR); s:submit(TUR)
    answer(take())
    s:reset(1)
    assert.equal("reset", r:next())
    assert.equal("empty", r:next())
  end)

  -- cmd_tail is 0 after a start, a reset, and where the ring was filled to
  -- its very end: a reset then changes cmd_head alone.
  for name, caps in pairs { ["in any order"] = RAW.OOOC | RAW.TMR,
                            ["in order"] = RAW.TMR } do
    for how, before in pairs { ["a start"] = 0, ["an exact wrap"] = 31 } do
      describe("after " .. how .. ", answering " .. name .. ",", function()
        before_each(function()
          attach { ring_size = 4096, caps = caps }
          for _ = 1, before do
            s:submit(READ10)
            answer(take())
          end
          assert.equal(0, u32(TAIL))
          assert.equal("empty", r:next())
        end)

        local function is_served_on()
          s:collect()
          assert.equal("reset", r:next())
          assert.equal("empty", r:next())
          for _ = 1, 70 do
            local tag = s:submit(READ10)
            assert.equal(tag, answer(take())[1].tag)
          end
          assert.is_false(s:broken())
        end

        it("publishes nothing late", function()
          s:submit(READ10); s:submit(READ10)
          local first, second = take(), take()
          s:reset(1)
          s:collect()
          assert.same({}, answer(first))
          assert.same({}, answer(second))
          assert.equal(0, u32(TAIL))
          is_served_on()
        end)

        it("publishes nothing that it had completed", function()
          s:submit(READ10)
          r:complete(take())
          s:reset(1)
          assert.is_false(r:publish())
          is_served_on()
        end)

        it("takes nothing that was dropped", function()
          s:submit(READ10); s:submit(READ10)
          take()
          s:reset(1)
          s:collect()
          is_served_on()
        end)

        it("takes nothing that was dropped for what came then", function()
          s:submit(READ10); s:submit(READ10); s:submit(READ10)
          take()
          s:reset(1)
          s:collect()
          local tag = s:submit(INQUIRY)
          assert.equal("reset", r:next())
          assert.equal(tag, answer(take())[1].tag)
          assert.equal("empty", r:next())
        end)

        for ended, result in pairs {
          ["well"] = {},
          ["badly"] = { status = 2, sense = "\x72" .. ("\0"):rep(7) },
        } do
          it("takes a new command for none that had ended " .. ended,
             function()
            s:submit(READ10)
            r:complete(take(), result)
            s:reset(1)
            s:collect()
            local tag = s:submit(WRITE10)
            assert.is_false(r:publish())
            assert.equal("reset", r:next())
            local cmd = take()
            assert.equal(WRITE10, cmd.cdb)
            assert.equal(tag, answer(cmd)[1].tag)
            assert.is_false(s:broken())
          end)
        end

        it("knows a task management entry for a new one", function()
          s:tmr(5)
          take "tmr"
          s:reset(1)
          s:submit(READ10)
          assert.is_false(r:publish())
          assert.equal("reset", r:next())
          assert.equal(READ10, take().cdb)
        end)
      end)
    end
  end

  -- The kernel makes cmd_tail 0 first.
  it("takes nothing twice while cmd_head is not reset yet", function()
    for _ = 1, 3 do
      s:submit(TUR)
      answer(take())
    end
    s:submit(TUR)
    take()
    poke32(TAIL, 0)
    assert.equal("reset", r:next())
    broken_because "taken before"
    poke32(HEAD, 0)
    assert.equal("reset", r:next())
    assert.equal("empty", r:next())
  end)

  it("does not undo the reset when it publishes", function()
    s:submit(TUR); s:submit(TUR)
    local a, b = take(), take()
    answer(a)
    r:complete(b)
    s:reset(1)
    assert.is_false(r:publish())
    assert.equal(0, u32(TAIL))
    assert.equal("reset", r:next())
  end)

  it("heals a broken ring", function()
    s:submit(TUR)
    poke32(RING, 0)
    broken_because "length 0"
    s:reset(1)
    assert.equal("reset", r:next())
    s:submit(TUR)
    assert.equal(TUR, take().cdb)
  end)

  it("heals a broken ring although new commands came at once", function()
    s:submit(TUR)
    poke32(RING, 0)
    broken_because "length 0"
    s:reset(1)
    s:submit(INQUIRY, { data_in = 36 })
    s:submit(TUR)
    assert.equal("reset", r:next())
    assert.equal(INQUIRY, take().cdb)
  end)

  for name, tail in pairs { ["outside the ring"] = 0xFFFFFFF0,
                            ["off the grid of 8"] = 4 } do
    it("stays broken while cmd_tail is " .. name, function()
      s:submit(TUR)
      poke32(TAIL, tail)
      assert.equal("reset", r:next())
      broken_because "cmd_tail"
      broken_because "cmd_tail"
      s:reset(1)
      assert.equal("reset", r:next())
      assert.equal("empty", r:next())
    end)
  end
end)
