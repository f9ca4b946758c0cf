--- What a handler can wait for: sleep, await, all, spawn.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

-- A device whose vendor command C1 runs `body` (with self, cmd, and a global
-- `log` table) and returns its result as text.
local function device(body, options)
  return assert(sim.device(([[=waits
    local tcmu = require "tcmu"
    log = {}
    return tcmu.handler {
      name = "waits",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = {
        [0xC1] = function(self, cmd)
          %s
        end,
        [0xC2] = function() return table.concat(log, " ") .. "." end,
      },
    }]]):format(body), options))
end

local function run(body)
  local dev <close> = device(body)
  local r = dev:cmd(vendor(0xC1))
  return r, dev:now()
end

local function answer(body)
  local r, now = run(body)
  assert.is.good(r)
  return r.data, now
end

describe("tcmu.sleep", function()
  it("takes the time it says", function()
    local _, now = answer "tcmu.sleep(1500)"
    assert.equal(1.5, now)
  end)

  it("takes fractions of a millisecond, and nothing", function()
    local _, now = answer "tcmu.sleep(0.25) tcmu.sleep(0)"
    assert.near(0.00025, now, 1e-9)
  end)

  it("refuses what is no time", function()
    for _, value in ipairs { "-1", "'x'", "0/0", "math.huge", "nil" } do
      assert.has.sense(run("tcmu.sleep(" .. value .. ")"),
                       scsi.INTERNAL_TARGET_FAILURE)
    end
  end)

  it("wakes in the order of the times", function()
    local dev <close> = device "tcmu.sleep(cmd:u8(1)) log[#log + 1] = cmd:u8(1)"
    for _, n in ipairs { 30, 10, 20, 10 } do dev:submit(vendor(0xC1, n)) end
    dev:run(function() return #dev.done == 4 end)
    assert.equal("10 10 20 30.", dev:cmd(vendor(0xC2)).data)
  end)
end)

describe("waiting", function()
  it("works under pcall, in metamethods, iterators and <close>", function()
    assert.equal("1 2 3 4", (answer [[
      local seen = {}
      assert(pcall(function() tcmu.sleep(1) seen[#seen + 1] = 1 end))
      local t = setmetatable({}, { __index = function()
        tcmu.sleep(1) return 2 end })
      seen[#seen + 1] = t.x
      for i in function(_, i) tcmu.sleep(1) return not i and 3 or nil end do
        seen[#seen + 1] = i
      end
      do
        local c <close> = setmetatable({}, { __close = function()
          tcmu.sleep(1) seen[#seen + 1] = 4 end })
      end
      return table.concat(seen, " ")]]))
  end)

  it("is refused where it cannot work, and says where that is", function()
    for _, body in ipairs {
      "table.sort({ 2, 1, 3 }, function(a, b) tcmu.sleep(1) return a < b end)",
      "(('x'):gsub('x', function() tcmu.sleep(1) end))",
      "tcmu.await(function(done) tcmu.sleep(1) done() end)",
    } do
      assert.matches("may not wait where C calls Lua",
        (answer("local ok, why = pcall(function() return "
                .. body .. " end) return why")))
    end
  end)

  it("is refused in a coroutine of the handler's own", function()
    assert.matches("not in a coroutine of your own", (answer [[
      local co = coroutine.create(function() tcmu.sleep(1) end)
      local _, why = coroutine.resume(co)
      return why]]))
  end)

  it("is refused while the handler is loaded", function()
    local dev, why = sim.device [[=loads
      local tcmu = require "tcmu"
      tcmu.sleep(1)
      return tcmu.handler { name = "loads" }]]
    assert.is_nil(dev)
    assert.matches("may wait only inside a command", why)
    assert.is_nil(why:find("traceback", 1, true))
  end)

  it("for a store is refused there as well", function()
    local dev, why = sim.device [[=loads
      local tcmu = require "tcmu"
      local store = tcmu.store.memory(4096)
      store:write(tcmu.buffer(512), 0)
      return tcmu.handler { name = "loads" }]]
    assert.is_nil(dev)
    assert.matches("write: may wait only inside a command", why)
  end)

  it("means a yield of ours: any other fails the command", function()
    for _, body in ipairs { "coroutine.yield()", "coroutine.yield(1, 2, 3)",
                            "pcall(coroutine.yield)" } do
      assert.has.sense(run(body), scsi.INTERNAL_TARGET_FAILURE)
    end
  end)
end)

describe("tcmu.await", function()
  it("returns what done is given at once", function()
    assert.equal("a nil 3", (answer [[
      local a, b, c = tcmu.await(function(done) done("a", nil, 3) end)
      return a .. " " .. tostring(b) .. " " .. c]]))
  end)

  it("returns what done is given later", function()
    local data, now = answer [[
      local a, b, c, d = tcmu.await(function(done)
        tcmu.spawn(function() tcmu.sleep(100) done("late", nil, 7) end)
      end)
      return a .. tostring(b) .. c .. tostring(d)]]
    assert.equal("latenil7nil", data)
    assert.equal(0.1, now)
  end)

  it("counts the first call of done only", function()
    assert.equal("1 3", (answer [[
      local first
      local a = tcmu.await(function(done) first = done done(1) done(2) end)
      first(9)
      local b = tcmu.await(function(done)
        tcmu.spawn(function() done(3) done(4) first(5) end)
      end)
      return a .. " " .. b]]))
  end)

  it("raises what its function raises; a late done is harmless then", function()
    local dev <close> = device [[
      local ok, why = pcall(tcmu.await, function(done)
        log.done = done
        error("no", 0)
      end)
      tcmu.spawn(function() tcmu.sleep(1) log.done(1) end)
      tcmu.sleep(10)
      return why]]
    assert.equal("no", dev:cmd(vendor(0xC1)).data)
  end)

  it("is deaf to a done that comes after its command was cancelled", function()
    local dev <close> = device [[
      if cmd:u8(1) == 1 then log.done(1) return "called" end
      tcmu.await(function(done) log.done = done end)
      log[#log + 1] = "woken"]]
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    dev:wait(h)
    assert.equal("called", dev:cmd(vendor(0xC1, 1)).data)
    assert.equal("called", dev:cmd(vendor(0xC1, 1)).data)
    assert.equal(".", dev:cmd(vendor(0xC2)).data)
  end)

  it("takes many values", function()
    assert.equal("5000", (answer [[
      local many = {}
      for i = 1, 5000 do many[i] = i end
      return tostring(select("#", tcmu.await(function(done)
        tcmu.spawn(function() done(table.unpack(many)) end)
      end)))]]))
  end)

  it("needs a function", function()
    assert.has.sense(run "tcmu.await(1)", scsi.INTERNAL_TARGET_FAILURE)
  end)
end)

describe("tcmu.all", function()
  it("runs functions side by side", function()
    local data, now = answer [[
      local seen = {}
      tcmu.all(function() tcmu.sleep(30) seen[#seen + 1] = "a" end,
               function() tcmu.sleep(10) seen[#seen + 1] = "b" end,
               function() seen[#seen + 1] = "c" end)
      return table.concat(seen)]]
    assert.equal("cba", data)
    assert.near(0.03, now, 1e-9)
  end)

  it("returns at once without functions, and refuses anything else", function()
    assert.equal("ok", (answer "tcmu.all() return 'ok'"))
    assert.has.sense(run "tcmu.all(1)", scsi.INTERNAL_TARGET_FAILURE)
  end)

  it("raises the first error, once the others have ended", function()
    local data, now = answer [[
      local seen = {}
      local function child(n, body)
        return function()
          local c <close> = setmetatable({}, { __close = function()
            seen[#seen + 1] = n end })
          body()
        end
      end
      local ok, why = pcall(tcmu.all,
        child("a", function() tcmu.sleep(1000) end),
        child("b", function() tcmu.sleep(10) error("first", 0) end),
        child("c", function() tcmu.sleep(20) error("second", 0) end))
      table.sort(seen)
      return tostring(ok) .. why .. table.concat(seen)]]
    assert.equal("falsefirstabc", data)
    assert.near(0.01, now, 1e-9)
  end)

  it("passes a sense value on as it is", function()
    assert.has.sense(run [[
      tcmu.all(function() tcmu.sleep(1) end,
               function() error(require "tcmu.scsi".MEDIUM_NOT_PRESENT) end)]],
      scsi.MEDIUM_NOT_PRESENT)
  end)

  it("passes on an error without a value", function()
    assert.equal("false nil", (answer [[
      local ok, why = pcall(tcmu.all, function() error() end)
      return tostring(ok) .. " " .. tostring(why)]]))
  end)

  it("nests", function()
    local data, now = answer [[
      local n = 0
      local function leaf() tcmu.sleep(5) n = n + 1 end
      local function branch() tcmu.all(leaf, leaf) tcmu.all(leaf, leaf) end
      tcmu.all(branch, branch, leaf)
      return tostring(n)]]
    assert.equal("9", data)
    assert.near(0.01, now, 1e-9)
  end)

  it("ends with the command, children first", function()
    local dev <close> = device [[
      local function closing(name)
        return setmetatable({}, { __close = function()
          log[#log + 1] = name end })
      end
      local outer <close> = closing "outer"
      tcmu.all(function()
        local middle <close> = closing "middle"
        tcmu.all(function()
          local inner <close> = closing "inner"
          tcmu.sleep(1e9)
        end)
      end)]]
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    assert.equal(0x40, dev:wait(h).status)
    assert.equal("inner middle outer.", dev:cmd(vendor(0xC2)).data)
  end)

  it("ends with the command before its children have begun", function()
    local dev <close> = device [[
      if cmd:u8(1) == 1 then return "x" end
      tcmu.all(function() log[#log + 1] = "ran" tcmu.sleep(1e9) end)]]
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    dev:wait(h)
    assert.equal("ran.", dev:cmd(vendor(0xC2)).data)
  end)

  it("may use the command's data in each of its functions", function()
    assert.equal("ab", (answer [[
      cmd.data:fill(0)
      tcmu.all(function() tcmu.sleep(2) cmd.data:put(0, "a") end,
               function() tcmu.sleep(1) cmd.data:put(1, "b") end)
      return cmd.data:get(0, 2)]]))
  end)

  it("runs thousands", function()
    assert.equal("3000", (answer [[
      local n, all = 0, {}
      for i = 1, 3000 do
        all[i] = function() tcmu.sleep(i % 7) n = n + 1 end
      end
      tcmu.all(table.unpack(all))
      return tostring(n)]]))
  end)
end)

describe("tcmu.spawn", function()
  it("goes on beside the command, with its arguments", function()
    local dev <close> = device [[
      tcmu.spawn(function(a, b)
        tcmu.sleep(50)
        log[#log + 1] = a .. b
      end, "x", "y")
      return "at once"]]
    assert.equal("at once", dev:cmd(vendor(0xC1)).data)
    assert.equal(".", dev:cmd(vendor(0xC2)).data)
    dev:run(function() return false end)
    assert.equal("xy.", dev:cmd(vendor(0xC2)).data)
  end)

  it("has no command: the one that started it is not its own", function()
    local dev <close> = device [[
      tcmu.spawn(function()
        local ok, why = pcall(function() return cmd.opcode end)
        log[#log + 1] = why:match("belongs to another command")
        ok, why = pcall(function() cmd.data:put(0, "x") end)
        log[#log + 1] = why:match("belongs to another command")
      end)
      tcmu.sleep(10)]]
    dev:cmd(vendor(0xC1))
    assert.equal("belongs to another command belongs to another command.",
                 dev:cmd(vendor(0xC2)).data)
  end)

  it("costs the device nothing when it fails", function()
    local dev <close> = device "tcmu.spawn(function() error 'oops' end)"
    assert.is.good(dev:cmd(vendor(0xC1)))
    assert.is.good(dev:cmd(vendor(0xC2)))
  end)

  it("ends with the device", function()
    local host <close> = sim.host()
    local path <const> = [[=spawner
      local tcmu = require "tcmu"
      ended = 0
      return tcmu.handler {
        name = "spawner",
        open = function(dev)
          if dev.name == "a" then
            tcmu.spawn(function()
              local c <close> = setmetatable({}, { __close = function()
                ended = ended + 1 end })
              tcmu.sleep(1e9)
            end)
          end
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = { [0xC1] = function() return tostring(ended) end },
      }]]
    local a = assert(host:device(path, { name = "a" }))
    local b = assert(host:device(path, { name = "b" }))
    assert.equal("0", b:cmd(vendor(0xC1)).data)
    a:close()
    assert.equal("1", b:cmd(vendor(0xC1)).data)
  end)

  it("is refused where there is no device", function()
    local dev, why = sim.device [[=loads
      local tcmu = require "tcmu"
      tcmu.spawn(function() end)
      return tcmu.handler { name = "loads" }]]
    assert.is_nil(dev)
    assert.matches("spawn: only inside", why)
  end)
end)
