--- Letting commands come together: when a shard that sleeps stays away, and
--- when it does not.  What tells is that it sleeps without a wait for events.
local core = require "tcmu.core"
local strace = require "spec.strace"

-- A wake-up costs 5 us; `serve` has `count` turns of `each` commands, which are
-- TEST UNIT READY unless they are given.
local HEAD <const> = [[
  local READY <const> = scsi.cdb.test_unit_ready {}
  local PATIENCE <const>, LEAST <const>, TRIES <const> = 16, 4, 8
  local function device(handler, poll)
    return assert(sim.device(handler, { size = 1 << 20, poll = poll or "off",
      poll_limit = 1000000, poll_cost = 5 }))
  end
  local function serve(dev, count, each, cdb)
    for _ = 1, count do
      local last
      for _ = 1, each do last = dev:submit(cdb or READY) end
      dev:run(function() return last.result ~= nil end)
    end
  end
]]

-- How often it was away.  The watchdog's thread sleeps as well, for longer.
local function times(lines, first, last)
  local n = 0
  for _, line in ipairs(strace.between(lines, first, last)) do
    if line:find "clock_nanosleep%(.*tv_nsec=5000}" then n = n + 1 end
  end
  return n
end

describe("a shard that sleeps between turns", function()
  local function gathers(what, program, check, cpus)
    it(what, function()
      if not strace.works then pending "strace may not trace here" return end
      if core.cpus() < (cpus or 1) then pending "needs two processors" return end
      check((strace.run(HEAD .. program, "clock_nanosleep,prctl")))
    end)
  end

  -- A turn is judged, and may be stayed away after, when the next begins.
  gathers("stays away after each turn once several bring enough", [[
    local dev <close> = device "handlers/ram.lua"
    mark "before"
    serve(dev, PATIENCE, LEAST)
    mark "on"
    serve(dev, 100, LEAST)
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "before", "on"))
    assert.equal(100, times(lines, "on", "end"))
  end)

  -- What a handler starts inherits it.
  gathers("does so to the point, and leaves the thread's timers as they were", [[
    local function slack()
      for line in io.lines "/proc/self/timerslack_ns" do return line end
    end
    local dev <close> = device "handlers/ram.lua"
    local before <const> = slack()
    mark "before"
    serve(dev, 2 * PATIENCE, LEAST)
    mark(slack() == before and "as before" or "changed")]], function(lines)
    local all <const> = table.concat(lines, "\n")
    assert.matches("PR_SET_TIMERSLACK, 1%).-tv_nsec=5000}", all)
    assert.matches("> as before", all)
  end)

  gathers("gives up where few come, and tries again less and less often", [[
    local dev <close> = device "handlers/ram.lua"
    serve(dev, PATIENCE, LEAST - 1)
    for i = 1, 8 do
      mark("try " .. i)
      serve(dev, TRIES, LEAST - 1)
      mark("given up " .. i)
      serve(dev, math.min(PATIENCE << i, 1024) - 1, LEAST - 1)
      mark("over " .. i)
    end]], function(lines)
    for i = 1, 8 do
      assert.equal(8, times(lines, "try " .. i, "given up " .. i), i)
      assert.equal(0, times(lines, "given up " .. i, "over " .. i), i)
    end
  end)

  gathers("is as quick to try again as at first once it has paid", [[
    local dev <close> = device "handlers/ram.lua"
    serve(dev, PATIENCE + TRIES + 2 * PATIENCE, LEAST - 1)
    serve(dev, 2 * TRIES, LEAST)
    serve(dev, TRIES + 1, 2)
    mark "given up"
    serve(dev, 2 * PATIENCE - 2, 2)
    mark "try"
    serve(dev, TRIES + 1, 2)
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "given up", "try"))
    assert.equal(8, times(lines, "try", "end"))
  end)

  gathers("goes on where every third time brings enough", [[
    local dev <close> = device "handlers/ram.lua"
    serve(dev, PATIENCE, LEAST)
    mark "on"
    for _ = 1, 30 do
      serve(dev, 2, 1)
      serve(dev, 1, LEAST)
    end
    mark "end"]], function(lines)
    assert.equal(90, times(lines, "on", "end"))
  end)

  gathers("never does so where they come one at a time", [[
    local dev <close> = device "handlers/ram.lua"
    serve(dev, 64, 1)
    mark "alone"
    serve(dev, 2000, 1)
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "alone", "end"))
  end)

  gathers("does not where a command waits", [[
    local dev <close> = device("=waits\n" .. [=[
      local tcmu = require "tcmu"
      return tcmu.handler { name = "waits",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = { [0xC0] = function() tcmu.sleep(1000000) end } }]=])
    serve(dev, 2 * PATIENCE, LEAST)
    local waits = dev:submit("\xC0\0\0\0\0\0")
    serve(dev, 1, LEAST)
    mark "waits"
    serve(dev, 100, LEAST)
    mark "answered"
    dev:wait(waits)
    serve(dev, PATIENCE, LEAST)
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "waits", "answered"))
    assert.is_true(times(lines, "answered", "end") > 0)
  end)

  gathers("does not where the commands have much data", [[
    local dev <close> = device "handlers/ram.lua"
    mark "before"
    serve(dev, 2 * PATIENCE, LEAST,
          scsi.cdb.read_10 { lba = 0, length = 256 })   -- half a MiB in all
    mark "less"
    serve(dev, 2 * PATIENCE, LEAST, scsi.cdb.read_10 { lba = 0, length = 255 })
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "before", "less"))
    assert.is_true(times(lines, "less", "end") > 0)
  end)

  gathers("does so once for all that was on a ring, if in many turns", [[
    local dev <close> = device "handlers/ram.lua"
    mark "before"
    serve(dev, 2 * PATIENCE, 1000)
    mark "end"]], function(lines)
    assert.equal(17, times(lines, "before", "end"))
  end)

  -- What comes to a ring that it has not looked at yet comes by an event.
  gathers("does not where it waits awake", [[
    local first <close> = device("handlers/ram.lua", "on")
    mark "before"
    for _ = 1, 2 * PATIENCE do
      local dev <close> =
        assert(first.host:device("handlers/ram.lua", { size = 1 << 20 }))
      serve(first, 1, 1)
      serve(dev, 1, LEAST)
    end
    mark "end"]], function(lines)
    assert.equal(0, times(lines, "before", "end"))
  end, 2)
end)
