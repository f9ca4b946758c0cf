--- Commands that end early: ABORT TASK, LUN RESET, deadlines, and what must
--- not happen to the bytes of those that follow.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor <const> = commands.vendor

local BLOCK <const> = 512
local TASK_ABORTED <const> = 0x40

-- A disk in memory with vendor commands: C1 sleeps for ever and says how it
-- ended, C2 tells how many have ended, C3 never ends.
local SLEEPER <const> = [[=sleeper
local tcmu = require "tcmu"
local ended = {}
return tcmu.handler {
  name = "sleeper",
  open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
  on = {
    [0xC1] = function(_, cmd)
      local n = cmd:u8(1)
      local guard <close> = setmetatable({}, { __close = function()
        ended[#ended + 1] = n
      end })
      tcmu.sleep(1e9)
    end,
    [0xC2] = function() return table.concat(ended, ",") end,
    [0xC3] = function() tcmu.await(function() end) end,
  },
}]]

local function write(lba, text, blocks)
  return scsi.cdb.write_10 { lba = lba, length = blocks or 1 },
         text:rep((blocks or 1) * BLOCK // #text)
end

describe("ABORT TASK", function()
  local dev
  before_each(function() dev = assert(sim.device(SLEEPER)) end)
  after_each(function() dev:close() end)

  it("ends the command it names, and no other", function()
    local one, two = dev:submit(vendor(0xC1, 1)), dev:submit(vendor(0xC1, 2))
    dev.shard:turn(false)
    dev:abort(one)
    assert.equal(TASK_ABORTED, dev:wait(one).status)
    assert.is_nil(two.result)
    assert.equal("1", dev:cmd(vendor(0xC2)).data)
    dev:abort()
    assert.equal(TASK_ABORTED, dev:wait(two).status)
  end)

  it("ends a command that waits for a callback that never comes", function()
    local one = dev:submit(vendor(0xC3))
    dev.shard:turn(false)
    dev:abort(one)
    assert.equal(TASK_ABORTED, dev:wait(one).status)
  end)

  it("leaves a command alone that has been answered", function()
    local one = dev:submit(vendor(0xC2))
    local two = dev:submit(vendor(0xC1, 7))
    dev.shard:turn(false)
    dev:abort(one)
    dev.shard:turn(false)
    assert.is.good(dev:wait(one))
    assert.is_nil(two.result)
    dev:abort()
    dev:wait(two)
  end)

  it("ends a write that waits for its range, which then is free", function()
    local dev2 <close> = assert(sim.device [[=holder
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "holder",
        open = function() return { writes = 0 } end,
        read = function() end,
        write = function(self)
          self.writes = self.writes + 1
          if self.writes == 1 then tcmu.sleep(1000) end
        end,
        on = { [0xC1] = function(self) return tostring(self.writes) end },
      }]])
    local first = dev2:submit(write(0, "a"))
    local second = dev2:submit(write(0, "b"))
    dev2.shard:turn(false)
    dev2:abort(second)
    assert.equal(TASK_ABORTED, dev2:wait(second).status)
    assert.is_nil(first.result)
    assert.is.good(dev2:wait(first))
    assert.is.good(dev2:cmd(write(0, "c")))
    assert.equal("2", dev2:cmd(vendor(0xC1)).data)
  end)
end)

describe("LUN RESET", function()
  it("ends all commands, and the device goes on", function()
    local dev <close> = assert(sim.device(SLEEPER))
    local waiting = {}
    for i = 1, 50 do waiting[i] = dev:submit(vendor(0xC1, i)) end
    dev.shard:turn(false)
    dev:abort()
    for i = 1, 50 do
      assert.equal(TASK_ABORTED, dev:wait(waiting[i]).status)
    end
    local numbers = {}
    for n in dev:cmd(vendor(0xC2)).data:gmatch("%d+") do
      numbers[tonumber(n)] = true
    end
    assert.equal(50, #numbers)
    assert.is.good(dev:cmd(write(0, "x")))
  end)
end)

describe("a <close> variable of a command that was cancelled", function()
  local function closer(body)
    return assert(sim.device([[=closer
      local tcmu = require "tcmu"
      local log = {}
      return tcmu.handler {
        name = "closer",
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        on = {
          [0xC1] = function()
            local outer <close> = setmetatable({}, { __close = function()
              log[#log + 1] = "outer"
            end })
            local inner <close> = setmetatable({}, { __close = function()
              ]] .. body .. [[
            end })
            tcmu.sleep(1e9)
          end,
          [0xC2] = function() return table.concat(log, ",") end,
        },
      }]]))
  end

  local function abort_one(dev)
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    return dev:wait(h)
  end

  it("may raise: the others run and the command is answered", function()
    local dev <close> = closer "error('in close')"
    assert.equal(TASK_ABORTED, abort_one(dev).status)
    assert.equal("outer", dev:cmd(vendor(0xC2)).data)
  end)

  it("may not wait: that is an error inside it, and no more", function()
    local dev <close> = closer [[
      local ok, why = pcall(tcmu.sleep, 1)
      log[#log + 1] = why:match("may not wait") or "waited"]]
    assert.equal(TASK_ABORTED, abort_one(dev).status)
    assert.equal("may not wait,outer", dev:cmd(vendor(0xC2)).data)
  end)

  it("may start something that goes on without the command", function()
    local dev <close> = closer [[
      tcmu.spawn(function() tcmu.sleep(5); log[#log + 1] = "spawned" end)]]
    assert.equal(TASK_ABORTED, abort_one(dev).status)
    dev:run(function() return false end)
    assert.equal("outer,spawned", dev:cmd(vendor(0xC2)).data)
  end)
end)

-- C1 takes as many seconds as it says.
local SLEEPS <const> = [[=sleeps
  local tcmu = require "tcmu"
  return tcmu.handler {
    name = "sleeps",
    open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
    on = {
      [0xC1] = function(_, cmd) tcmu.sleep(cmd:u8(1) * 1000) end,
    },
  }]]

describe("the deadline of a command", function()
  it("comes just before the kernel's, and cancels the coroutine", function()
    local dev <close> = assert(sim.device(SLEEPER, { cmd_time_out = 30 }))
    local h = dev:submit(vendor(0xC1, 1))
    local r = dev:wait(h)
    assert.has.sense(r, scsi.LOGICAL_UNIT_COMMUNICATION_TIME_OUT)
    assert.equal(29, dev:now())
    assert.equal("1", dev:cmd(vendor(0xC2)).data)
  end)

  it("takes a tenth of a short time-out", function()
    local dev <close> = assert(sim.device(SLEEPER, { cmd_time_out = 2 }))
    dev:wait(dev:submit(vendor(0xC1, 1)))
    assert.near(1.8, dev:now(), 1e-6)
  end)

  it("counts for each command from its own start", function()
    local dev <close> = assert(sim.device(SLEEPS, { cmd_time_out = 30 }))
    local long = dev:submit(vendor(0xC1, 60))
    dev:cmd(vendor(0xC1, 20))
    local later = dev:submit(vendor(0xC1, 15))
    assert.equal(long, dev:next_done())
    assert.equal(29, dev:now())
    assert.equal(later, dev:next_done())
    assert.is.good(later.result)
    assert.equal(35, dev:now())
  end)

  it("does not exist with a time-out of 0", function()
    local dev <close> = assert(sim.device(SLEEPER, { cmd_time_out = 0 }))
    local h = dev:submit(vendor(0xC3))
    assert.has_error(function() dev:wait(h) end)
    dev:abort(h)
    dev:wait(h)
  end)

  it("follows a change of the attribute", function()
    local dev <close> = assert(sim.device(SLEEPER, { cmd_time_out = 0 }))
    assert.equal(0, (dev:change("time_out", { cmd_time_out = 10 })))
    dev:wait(dev:submit(vendor(0xC1, 1)))
    assert.equal(9, dev:now())
  end)

  it("is that of the attribute when the command began", function()
    local dev <close> = assert(sim.device(SLEEPS, { cmd_time_out = 30 }))
    local function set(seconds)
      assert.equal(0, (dev:change("time_out", { cmd_time_out = seconds })))
    end
    assert.is.good(dev:cmd(vendor(0xC1, 1)))
    local early = dev:submit(vendor(0xC1, 60))
    dev.shard:turn(false)
    set(0)
    local free = dev:submit(vendor(0xC1, 28))
    dev.shard:turn(false)
    set(10)
    local short = dev:submit(vendor(0xC1, 60))
    assert.equal(short, dev:next_done())
    assert.equal(10, dev:now())
    assert.equal(free, dev:next_done())
    assert.is.good(free.result)
    assert.equal(29, dev:now())
    assert.equal(early, dev:next_done())
    assert.equal(30, dev:now())
  end)

  it("may be too late for the kernel: the entry is completed all the same",
     function()
    local dev <close> = assert(sim.device(SLEEPER, { cmd_time_out = 30 }))
    local h = dev:submit(vendor(0xC1, 1))
    dev.shard:turn(false)
    assert.is_true(dev:expire(h))
    dev:run(function() return dev:now() == 29 end)
    assert.equal("1", dev:cmd(vendor(0xC2)).data)
    assert.is_false(dev.kernel:broken())
  end)
end)

-- It goes on until our own deadline, and writes that come meanwhile are newer.
it("an UNMAP that the kernel has given up takes nothing that comes after it",
   function()
  local dev <close> = assert(sim.device [[=slow
    local tcmu = require "tcmu"
    return tcmu.handler {
      name = "slow",
      open = function(dev) return { mem = tcmu.store.memory(dev.size) } end,
      read = function(self, cmd, at) self.mem:read(cmd.data, at) end,
      write = function(self, cmd, at) self.mem:write(cmd.data, at) end,
      unmap = function(self, _, at, length)
        tcmu.sleep(50)
        self.mem:discard(at, length)
      end,
    }]])
  local list = string.pack(">I2I2xxxxI8I4xxxxI8I4xxxx", 38, 32, 100, 8, 0, 8)
  local unmap = dev:submit(scsi.cdb.unmap { length = #list }, list)
  dev.shard:turn(false)
  assert.is_true(dev:expire(unmap))
  for _, lba in ipairs { 0, 100 } do
    assert.is.good(dev:cmd(commands.write(lba, 1, "n")))
  end
  dev:run(function() return dev:now() > 1 end)
  for _, lba in ipairs { 0, 100 } do
    assert.equal(("n"):rep(BLOCK), dev:cmd(commands.read(lba)).data)
  end
end)

describe("bytes of a command that ended early", function()
  local path

  before_each(function()
    path = os.tmpname()
    local f = assert(io.open(path, "wb"))
    f:write(("o"):rep(1 << 20))
    f:close()
  end)
  after_each(function() os.remove(path) end)

  -- C1: zeroes the first blocks by way of the store, with a <close> variable
  -- that looks at the file.
  local function handler()
    return [[=late
      local tcmu = require "tcmu"
      local seen
      return tcmu.handler {
        name = "late",
        open = function(dev)
          return { store = tcmu.store.file("]] .. path .. [[", "rw") }
        end,
        on = {
          [0xC1] = function(self)
            local lock <close> = tcmu.lock(self, 0, 4096)
            local look <close> = setmetatable({}, { __close = function()
              local f <close> = assert(io.open("]] .. path .. [[", "rb"))
              seen = f:read(1)
            end })
            self.store:zero(0, 4096, true)
          end,
          [0xC2] = function() return seen end,
        },
      }]]
  end

  it("are no store's business any more when its <close> variables run",
     function()
    local dev <close> = assert(sim.device(handler(), { size = 1 << 20 }))
    -- both places of the store's queue are taken: C1's operation waits there
    for i = 1, 2 do dev:submit(write(i * 16, "n")) end
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    assert.equal(TASK_ABORTED, dev:wait(h).status)
    assert.equal("\0", dev:cmd(vendor(0xC2)).data)
  end)

  it("never land after a newer write to the same place", function()
    local strace = os.execute("strace -o /dev/null true 2>/dev/null")
    if not strace then pending("strace may not trace here") return end
    local script = os.tmpname()
    local f = assert(io.open(script, "w"))
    f:write(([[
      package.path, package.cpath = %q, %q
      local sim, scsi = require "tcmu.sim", require "tcmu.scsi"
      local dev = assert(sim.device(%q, { size = 1 << 20 }))
      local old = dev:submit("\xC1" .. ("\0"):rep(9))
      dev.shard:turn(false)
      dev:abort(old)
      dev:cmd(scsi.cdb.write_10 { lba = 0, length = 8 }, ("n"):rep(4096))
      dev:wait(old)
      dev:close()
      os.exit(true, true)]]):format(package.path, package.cpath, handler()))
    f:close()
    local ok = os.execute(("strace -f -qq -o /dev/null -e trace=fallocate -e "
      .. "inject=fallocate:delay_enter=400000 lua5.4 %s"):format(script))
    os.remove(script)
    assert.is_true(ok)
    f = assert(io.open(path, "rb"))
    local bytes = f:read(4096)
    f:close()
    assert.is_true(bytes == ("n"):rep(4096))
  end)
end)
