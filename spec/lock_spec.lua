--- Range locks: commands that change the same blocks, and tcmu.lock.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local vendor <const>, write <const> = commands.vendor, commands.write

local BLOCK <const> = 512

-- A disk in Lua whose writes take ten milliseconds and log their beginning and
-- end by the first byte of their data; C1 takes a lock on the blocks of bytes 1
-- and 2 for byte 3 milliseconds; C2 tells the log.
local SLOW <const> = [[=slow
  local tcmu = require "tcmu"
  log = {}
  local function note(...) log[#log + 1] = table.concat({ ... }) end
  return tcmu.handler {
    name = "slow",
    open = function() return {} end,
    read = function() end,
    write = function(_, cmd)
      local name <const> = cmd.data:get(0, 1)
      note("+", name)
      tcmu.sleep(10)
      note("-", name)
    end,
    unmap = function() note("u") end,
    on = {
      [0xC1] = function(self, cmd)
        local lock <close> = tcmu.lock(self, cmd:u8(1) * 512, cmd:u8(2) * 512)
        note("+L")
        tcmu.sleep(cmd:u8(3))
        note("-L")
      end,
      [0xC2] = function() return table.concat(log, " ") end,
    },
  }]]

local function log(dev) return dev:cmd(vendor(0xC2)).data end

local function finish(dev)
  dev:run(function() return next(dev.pending) == nil end)
end

describe("writes", function()
  local dev
  before_each(function() dev = assert(sim.device(SLOW)) end)
  after_each(function() dev:close() end)

  it("to the same blocks come one after the other, in their order", function()
    for _, name in ipairs { "a", "b", "c" } do dev:submit(write(0, 1, name)) end
    finish(dev)
    assert.equal("+a -a +b -b +c -c", log(dev))
  end)

  it("to other blocks go on side by side", function()
    for i, name in ipairs { "a", "b", "c" } do
      dev:submit(write(i, 1, name))
    end
    finish(dev)
    assert.equal("+a +b +c -a -b -c", log(dev))
  end)

  it("that overlap in one block wait, and nobody overtakes them", function()
    dev:submit(write(0, 4, "a"))
    dev:submit(write(3, 4, "b"))        -- waits for a
    dev:submit(write(6, 1, "c"))        -- waits for b
    dev:submit(write(7, 1, "d"))        -- waits for nobody
    finish(dev)
    assert.equal("+a +d -a -d +b -b +c -c", log(dev))
  end)

  it("beyond the end wait for nobody", function()
    dev:submit(write(0, 1, "a"))
    local r = dev:cmd(scsi.cdb.write_10 { lba = 0xFFFFFFF0, length = 1 },
                      ("x"):rep(BLOCK))
    assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    finish(dev)
  end)

  it("let reads pass", function()
    dev:submit(write(0, 1, "a"))
    local r = dev:submit(scsi.cdb.read_10 { lba = 0, length = 1 })
    assert.equal(r, dev:next_done())
    finish(dev)
  end)
end)

describe("tcmu.lock", function()
  local dev
  before_each(function() dev = assert(sim.device(SLOW)) end)
  after_each(function() dev:close() end)

  it("holds up writes to its range, and only those", function()
    dev:submit(vendor(0xC1, 0, 4, 50))
    dev:submit(write(3, 1, "a"))
    dev:submit(write(4, 1, "b"))
    finish(dev)
    assert.equal("+L +b -b -L +a -a", log(dev))
  end)

  it("waits for a write that is under way", function()
    dev:submit(write(3, 1, "a"))
    dev:submit(vendor(0xC1, 0, 4, 5))
    finish(dev)
    assert.equal("+a -a +L -L", log(dev))
  end)

  it("is given back when its command is cancelled", function()
    local h = dev:submit(vendor(0xC1, 0, 4, 255))
    dev.shard:turn(false)
    dev:submit(write(0, 1, "a"))
    dev:abort(h)
    finish(dev)
    assert.equal("+L +a -a", log(dev))
  end)

  it("is no longer waited for by a command that is cancelled", function()
    dev:submit(write(0, 1, "a"))
    local h = dev:submit(vendor(0xC1, 0, 4, 255))
    dev.shard:turn(false)
    dev:abort(h)
    dev:submit(write(0, 1, "b"))
    finish(dev)
    assert.equal("+a -a +b -b", log(dev))
  end)
end)

describe("tcmu.lock of a handler", function()
  local function device(body)
    return assert(sim.device(([[=locks
      local tcmu = require "tcmu"
      log = {}
      return tcmu.handler {
        name = "locks",
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        on = {
          [0xC1] = function(self, cmd) %s end,
          [0xC2] = function() return table.concat(log, " ") end,
        },
      }]]):format(body)))
  end

  it("that forgets it is given back with the command", function()
    local dev <close> = device "tcmu.lock(self, 0, 512) tcmu.sleep(5)"
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    local w = dev:submit(write(0, 1, "x"))
    assert.equal(h, dev:next_done())
    assert.is.good(dev:wait(w))
    assert.equal(0.005, dev:now())
  end)

  it("that fails is given back", function()
    local dev <close> = device "tcmu.lock(self, 0, 512) error 'no'"
    dev:cmd(vendor(0xC1))
    assert.is.good(dev:cmd(write(0, 1, "x")))
  end)

  it("can be given back by hand, once", function()
    local dev <close> = device [[
      local l = tcmu.lock(self, 0, 512)
      l:unlock() l:unlock()
      tcmu.sleep(100)]]
    dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    assert.is.good(dev:cmd(write(0, 1, "x")))
    assert.equal(0, dev:now())
  end)

  it("is no obstacle to its own command", function()
    local dev <close> = device [[
      local a <close> = tcmu.lock(self, 0, 1024)
      local b <close> = tcmu.lock(self, 512, 1024)
      tcmu.all(function() local c <close> = tcmu.lock(self, 0, 4096) end)
      return "fine"]]
    assert.equal("fine", dev:cmd(vendor(0xC1)).data)
  end)

  it("orders those that a handler has spawned", function()
    local dev <close> = device [[
      for i = 1, 3 do
        tcmu.spawn(function()
          local l <close> = tcmu.lock(self, 0, 512)
          log[#log + 1] = "+" .. i
          tcmu.sleep(5)
          log[#log + 1] = "-" .. i
        end)
      end]]
    dev:cmd(vendor(0xC1))
    dev:run(function() return false end)
    assert.equal("+1 -1 +2 -2 +3 -3", dev:cmd(vendor(0xC2)).data)
  end)

  it("of a spawned job that forgets it is given back with the job", function()
    local dev <close> = device [[
      tcmu.spawn(function() tcmu.lock(self, 0, 512) tcmu.sleep(5) end)]]
    dev:cmd(vendor(0xC1))
    assert.is.good(dev:cmd(write(0, 1, "x")))
    assert.equal(0.005, dev:now())
  end)

  -- One byte of each write says what it is: "a" asks for block 8 as well.
  it("does not wait for itself by way of others that wait", function()
    local dev <close> = assert(sim.device([[=chain
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "chain",
        open = function() return {} end,
        read = function() end,
        write = function(self, cmd)
          tcmu.sleep(10)
          if cmd.data:get(0, 1) == "a" then
            local _ <close> = tcmu.lock(self, 8 * 512, 512)
            tcmu.sleep(1)
          end
        end,
      }]]))
    local handles <const> = {
      dev:submit(write(0, 1, "a")),
      dev:submit(write(0, 2, "b")),     -- behind the first
      dev:submit(write(1, 4, "c")),     -- behind that
      dev:submit(write(4, 5, "d")),     -- and that, in the way of block 8
    }
    for i, ends in ipairs { 0.011, 0.021, 0.031, 0.041 } do
      assert.is.good(dev:wait(handles[i]))
      assert.near(ends, dev:now(), 1e-6)
    end
  end)

  it("refuses a range that is none", function()
    for _, args in ipairs { "-1, 1", "0, -1", "'a', 1", "0" } do
      local dev <close> = device("tcmu.lock(self, " .. args .. ")")
      assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    end
  end)
end)

-- Nobody but its range and its slot knows of such a command.
describe("a command that ends without a wait", function()
  local function quick(body)
    return assert(sim.device(([[=quick
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "quick",
        open = function() return {} end,
        read = function() end,
        write = function(self, cmd) %s end,
        on = {
          [0xC1] = function() tcmu.sleep(1000) end,
          [0xC2] = function(self) tcmu.lock(self, 0, 512) end,
        },
      }]]):format(body)))
  end

  -- While the slot serves a longer one, others write to the same blocks.
  local function leaves_no_lock(dev, ...)
    dev:cmd(...)
    local long <const> = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:cmd(write(0, 1, "x"))
    assert.equal(0, dev:now())
    assert.is.good(dev:wait(long))
  end

  it("gives back the range that it writes to", function()
    local dev <close> = quick ""
    leaves_no_lock(dev, write(0, 1, "x"))
  end)

  it("gives it back when it fails", function()
    local dev <close> = quick "error 'no'"
    leaves_no_lock(dev, write(0, 1, "x"))
  end)

  it("gives back a lock that it has taken and forgotten", function()
    local dev <close> = quick ""
    leaves_no_lock(dev, vendor(0xC2))
  end)
end)

it("random writes to few blocks never overlap and all end", function()
  local seed <const> = tonumber(os.getenv "SEED") or os.time()
  math.randomseed(seed)
  local dev <close> = assert(sim.device [[=overlap
    local tcmu = require "tcmu"
    local held, bad, n = {}, 0, 0
    return tcmu.handler {
      name = "overlap",
      open = function() return {} end,
      read = function() end,
      write = function(_, cmd, offset, length)
        n = n + 1
        for at = offset, offset + length - 1, 512 do
          if held[at] then bad = bad + 1 end
          held[at] = true
        end
        local free <close> = setmetatable({}, { __close = function()
          for at = offset, offset + length - 1, 512 do held[at] = nil end
        end })
        tcmu.sleep(n * 7919 % 13)
      end,
      on = { [0xC1] = function() return bad .. " of " .. n end },
    }]])
  local handles, aborted = {}, 0
  for i = 1, 400 do
    handles[i] = dev:submit(write(math.random(0, 20), math.random(1, 6), "x"))
    if math.random(5) == 1 then dev.shard:turn(false) end
    if math.random(8) == 1 then dev.shard:advance() end
    if math.random(10) == 1 then
      dev:abort(handles[math.random(i)])
    end
  end
  finish(dev)
  for i = 1, 400 do
    if handles[i].result.status ~= 0 then aborted = aborted + 1 end
  end
  local bad, n = dev:cmd(vendor(0xC1)).data:match("(%d+) of (%d+)")
  assert.equal("0", bad, "seed " .. seed)
  assert.is_true(tonumber(n) >= 400 - aborted)
end)
