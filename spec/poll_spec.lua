--- Waiting for the next command awake: when it is done, and when it ends.
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local LONG <const> = 10000000               -- us: no spec takes that long
local READY <const> = scsi.cdb.test_unit_ready {}

local function device(poll, limit, cost)
  return assert(sim.device("handlers/ram.lua", {
    size = 1 << 20, poll = poll, poll_limit = limit, poll_cost = cost }))
end

-- One command, in turns that sleep as the real loop does.
local function serve(dev)
  local handle = dev:submit(READY)
  dev:run(function() return handle.result ~= nil end)
  assert.is.good(handle.result)
end

-- Turns until the shard sleeps; the window of these specs is a microsecond.
local function fall_asleep(dev)
  for _ = 1, 1000 do
    if not dev.shard:awake() then return end
    dev.shard:turn(false)
  end
  error "the shard stays awake"
end

local function it_polls(name, fn)
  it(name, function()
    if core.cpus() < 2 then pending "needs two processors" end
    fn()
  end)
end

describe("a shard that polls", function()
  it_polls("stays awake after an answer, and takes what no event tells of",
           function()
    local dev <close> = device("on", LONG, 1)
    assert.is_false(dev.shard:awake())
    serve(dev)
    assert.is_true(dev.shard:awake())
    dev.kernel:mute(true)
    serve(dev)
    assert.is_true(dev.shard:awake())
  end)

  it("sleeps at once where polling is off", function()
    local dev <close> = device("off", LONG, 1)
    serve(dev)
    assert.is_false(dev.shard:awake())
    dev.kernel:mute(true)
    local handle = dev:submit(READY)
    assert.is_false(dev:run(function() return handle.result end))
    dev.kernel:mute(false)
    dev:wait(handle)
    assert.is.good(handle.result)
  end)

  it("sleeps at once where a wake-up could not be measured", function()
    local dev <close> = device("on", LONG, 0)
    serve(dev)
    assert.is_false(dev.shard:awake())
  end)

  it_polls("falls asleep when its window is over, and is woken", function()
    local dev <close> = device("on", 1, 1)
    for _ = 1, 3 do
      serve(dev)
      fall_asleep(dev)
    end
  end)

  it_polls("by itself stays awake only once commands come close together",
           function()
    local dev <close> = device("auto", LONG, 50000)
    serve(dev)
    assert.is_false(dev.shard:awake())
    for _ = 1, 8 do serve(dev) end
    assert.is_true(dev.shard:awake())
  end)

  it_polls("by itself counts only what it has waited for", function()
    local dev <close> = device("auto", LONG, 50000)
    local last
    for _ = 1, 2000 do last = dev:submit(READY) end     -- several drains
    dev:run(function() return last.result ~= nil end)
    assert.is.good(last.result)
    assert.is_false(dev.shard:awake())
  end)

  it_polls("by itself gives up where commands do not come in time", function()
    local dev <close> = device("auto", 1, 1)
    for _ = 1, 20 do
      serve(dev)
      fall_asleep(dev)
      os.execute "true"                     -- takes longer than the window
    end
    serve(dev)
    assert.is_false(dev.shard:awake())
  end)

  it_polls("leaves one processor alone", function()
    local hosts, awake = {}, 0
    for i = 1, core.cpus() do
      hosts[i] = device("on", LONG, 1)
      serve(hosts[i])
      if hosts[i].shard:awake() then awake = awake + 1 end
    end
    for _, dev in ipairs(hosts) do dev:close() end
    assert.equal(core.cpus() - 1, awake)
  end)

  it_polls("forgets a device that goes", function()
    local host <close> = sim.host { poll = "on", poll_limit = LONG,
                                    poll_cost = 1 }
    local stays = assert(host:device("handlers/ram.lua", { size = 1 << 20 }))
    local goes = assert(host:device("handlers/ram.lua", { size = 1 << 20 }))
    serve(goes)
    serve(stays)
    goes:close()
    assert.is_true(stays.shard:awake())
    serve(stays)
  end)
end)
