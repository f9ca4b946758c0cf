--- Where a shard that sleeps between commands runs: bound to its processor while
--- that is faster, wherever the scheduler likes otherwise.
--
-- The shard is this thread's.  Its clock is virtual, so a spec says what a
-- wake-up takes.
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local shell = require "spec.shell"
local sim = require "tcmu.sim"
local strace = require "spec.strace"

local HAS_RING <const> = strace.shows_a_ring()
local READY <const> = scsi.cdb.test_unit_ready {}
local SETTLE <const>, MEASURED <const> = 16, 64     -- as in host/place.c
local TRIAL <const> = SETTLE + MEASURED
local SLOW <const>, FAST <const> = 800, 700         -- ns: an eighth apart
local LONG <const> = 1 << 14

-- Where this thread may run, as the kernel writes it: "0-1", "3".
local function allowed()
  for line in io.lines "/proc/thread-self/status" do
    local list = line:match "^Cpus_allowed_list:%s*(%S+)"
    if list then return list end
  end
end

describe("a shard that sleeps between commands", function()
  local anywhere = allowed()
  local dev, now

  -- `count` commands, `each` at a time, a wake-up of so many ns for each time.
  local function serve(count, took, each)
    for _ = 1, count do
      now = now + took
      dev.shard:advance(now)
      local last
      for _ = 1, each or 1 do last = dev:submit(READY) end
      dev:run(function() return last.result ~= nil end)
      assert.is.good(last.result)
    end
  end

  local function is_bound() return allowed():find "^%d+$" ~= nil end

  -- Until it is tried whether staying is worth it.
  local function until_tried()
    serve(TRIAL - 1, SLOW)
    assert.equal(anywhere, allowed())
    serve(1, SLOW)
    assert.is_true(is_bound())
  end

  local function placed(what, fn, poll)
    it(what, function()
      if not anywhere:find "%D" then pending "needs two processors" return end
      now = 0
      dev = assert(sim.device("handlers/ram.lua", { size = 1 << 20,
        stay = true, poll = poll or "off", poll_limit = 1000000,
        poll_cost = 1 }))
      local ok, why = pcall(fn)
      dev:close()
      assert.equal(anywhere, allowed())
      if not ok then error(why, 0) end
    end)
  end

  placed("stays on its processor where that is faster", function()
    until_tried()
    serve(1000, FAST)
    assert.is_true(is_bound())
  end)

  placed("goes where the scheduler likes once that is not faster any more",
         function()
    until_tried()
    serve(TRIAL + 10 * MEASURED, FAST)
    serve(MEASURED - 1, SLOW)
    assert.is_true(is_bound())
    serve(1, SLOW)
    assert.equal(anywhere, allowed())
  end)

  placed("goes where the scheduler likes where it is not", function()
    until_tried()
    serve(TRIAL - 1, FAST + 1)
    assert.is_true(is_bound())
    serve(1, FAST + 1)
    assert.equal(anywhere, allowed())
  end)

  placed("does not take the initiator's pauses for its own", function()
    until_tried()
    serve(SETTLE + MEASURED // 4, FAST)
    for _ = 1, 3 do             -- in all batches but one
      serve(1, 1000000)
      serve(MEASURED // 4 - 1, FAST)
    end
    assert.is_true(is_bound())
  end)

  placed("is tried less and less often where it does not pay", function()
    until_tried()
    serve(TRIAL, SLOW)
    serve(2 * SETTLE + MEASURED - 1, SLOW)
    assert.equal(anywhere, allowed())
    serve(1, SLOW)
    assert.is_true(is_bound())
    serve(TRIAL, SLOW)
    serve(4 * SETTLE + MEASURED - 1, SLOW)
    assert.equal(anywhere, allowed())
    serve(1, SLOW)
    assert.is_true(is_bound())
    for i = 3, 9 do             -- but not less than after 1024 of them
      serve(TRIAL, SLOW)
      serve(math.min(SETTLE << i, 1024) + MEASURED, SLOW)
      assert.is_true(is_bound())
    end
    serve(TRIAL, FAST)          -- now it does
    serve(1, FAST, 2)
    until_tried()
  end)

  placed("goes at once when several commands come together", function()
    until_tried()
    serve(1, FAST, 2)
    assert.equal(anywhere, allowed())
    serve(TRIAL - 1, SLOW)
    assert.equal(anywhere, allowed())
    serve(1, SLOW)
    serve(TRIAL, FAST)
    assert.is_true(is_bound())
    serve(1, FAST, 2)
    assert.equal(anywhere, allowed())
  end)

  placed("goes when several devices have a command at a time", function()
    local other = assert(dev.host:device("handlers/ram.lua",
                                         { size = 1 << 20 }))
    until_tried()
    local one, two = dev:submit(READY), other:submit(READY)
    dev:run(function() return one.result and two.result end)
    assert.equal(anywhere, allowed())
    other:close()
  end)

  placed("goes where the scheduler likes after a pause", function()
    until_tried()
    now = now + 200000000
    dev.shard:advance(now)
    dev.shard:turn(false)       -- what it does now may be anything
    assert.equal(anywhere, allowed())
    serve(2 * TRIAL, 200000000) -- these do not come one after the other
    assert.equal(anywhere, allowed())
    until_tried()
  end)

  placed("goes before its calls may make threads", function()
    if not HAS_RING then pending "io_uring is not to be had here" return end
    local path = shell.temporary()
    local other = assert(dev.host:device("handlers/file.lua", { size = 1 << 20,
      options = "path=" .. path .. ";create=yes;reads=async" }))
    until_tried()
    assert.is.good(other:cmd(scsi.cdb.read_10 { lba = 0, length = 8 }))
    assert.equal(anywhere, allowed())
    other:close()
    os.remove(path)
  end)

  placed("goes before another handler opens, which may make threads", function()
    until_tried()
    local other = assert(dev.host:device("handlers/ram.lua",
                                         { size = 1 << 20 }))
    assert.equal(anywhere, allowed())
    other:close()
  end)

  placed("is tried anew after a long time", function()
    until_tried()
    serve(SETTLE + LONG - 1, FAST)
    assert.is_true(is_bound())
    serve(1, FAST)
    assert.equal(anywhere, allowed())
    until_tried()
  end)

  placed("leaves it alone where somebody else has bound it meanwhile", function()
    until_tried()
    local other = anywhere:match "^%d+" == allowed() and anywhere:match "%d+$"
                  or anywhere:match "^%d+"
    local tid = shell.output "echo $PPID"
    assert.equal(0, tonumber(shell.output(
      ("taskset -cp %s %d >/dev/null; echo $?"):format(other, tid))))
    serve(1, FAST, 2)
    assert.equal(other, allowed())
    shell.output(("taskset -cp %s %d"):format(anywhere, tid))
  end)

  placed("is not bound once a handler may start processes, which would be too",
         function()
    until_tried()
    local other = assert(dev.host:device("=luv\n" .. [[
      require "luv"
      return require "tcmu".handler { name = "luv", about = "has luv",
        open = function() return {} end, read = function() end }]]))
    assert.equal(anywhere, allowed())
    serve(10 * TRIAL, SLOW)
    assert.equal(anywhere, allowed())
    other:close()
  end)

  placed("is not bound any more once it waits awake", function()
    local awake = {}            -- as many as may be: this one has to sleep
    for i = 1, core.cpus() - 1 do
      awake[i] = assert(sim.device("handlers/ram.lua", { size = 1 << 20,
        poll = "on", poll_limit = 1000000, poll_cost = 1 }))
      awake[i]:cmd(READY)
      assert.is_true(awake[i].shard:awake())
    end
    until_tried()
    for _, other in ipairs(awake) do other:close() end
    serve(2, SLOW)
    assert.is_true(dev.shard:awake())
    assert.equal(anywhere, allowed())
  end, "on")

  it("lets others have it first where a few commands come at a time",
     function()
    if not strace.works then pending "strace may not trace here" return end
    local lines = strace.run([[
      local dev = assert(sim.device("handlers/ram.lua", { size = 1 << 20 }))
      local function serve(count, each)
        for _ = 1, count do
          local last
          for _ = 1, each do last = dev:submit(scsi.cdb.test_unit_ready {}) end
          dev:run(function() return last.result ~= nil end)
        end
      end
      serve(100, 1)
      mark "alone"
      serve(100, 1)
      mark "together"
      serve(50, 2)
      mark "one of two"
      for _ = 1, 25 do
        serve(1, 1)
        serve(1, 2)
      end
      mark "many"
      serve(1, 100)
      serve(1, 2)
      mark "two devices"
      local other = assert(dev.host:device("handlers/ram.lua",
                                           { size = 1 << 20 }))
      for _ = 1, 20 do
        local one = dev:submit(scsi.cdb.test_unit_ready {})
        local two = other:submit(scsi.cdb.test_unit_ready {})
        dev:run(function() return one.result and two.result end)
      end
      mark "end"]], "sched_yield")
    local function yields(first, last)
      return #strace.between(lines, first, last)
    end
    assert.equal(0, yields("alone", "together"))
    assert.equal(49, yields("together", "one of two"))  -- all but the first
    assert.equal(50, yields("one of two", "many"))
    assert.equal(1, yields("many", "two devices"))      -- of two once more
    assert.equal(20, yields("two devices", "end"))      -- once in each turn
  end)

  it("is not bound by itself in a simulator", function()
    now = 0
    dev = assert(sim.device("handlers/ram.lua", { size = 1 << 20 }))
    serve(2 * TRIAL, SLOW)
    assert.equal(anywhere, allowed())
    dev:close()
  end)
end)
