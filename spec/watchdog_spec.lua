--- Lua code that computes for too long is stopped, wherever it is.
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

-- C1 runs `body`; C2 tells the log; the device has a write in Lua to see that
-- it still works.
local function device(body, fields)
  return sim.device(([[=loops
    local tcmu = require "tcmu"
    log = {}
    local function forever() while true do end end
    return tcmu.handler {
      name = "loops",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      %s
      on = {
        [0xC1] = function(self, cmd) %s end,
        [0xC2] = function() return table.concat(log, " ") .. "." end,
      },
    }]]):format(fields or "", body))
end

local function stopped(body)
  local dev <close> = assert(device(body))
  local before = os.clock()
  local r = dev:cmd(vendor(0xC1))
  local took = os.clock() - before
  assert.has.sense(r, scsi.INTERNAL_TARGET_FAILURE)
  assert.is_true(took < 1, "it took " .. took .. " s")
  return dev:cmd(vendor(0xC2)).data
end

-- A sanitizer that defers signals, or a budget that somebody has set, would
-- make these specs mean something else.
setup(function() core.budget(50) end)
teardown(function() core.budget(2000) end)

describe("the watchdog stops", function()
  it("a loop", function() stopped "forever()" end)

  it("a loop under pcall, at the first strike", function()
    assert.equal(".", stopped [[
      while true do pcall(forever) log[#log + 1] = "caught" end]])
  end)

  it("a loop under xpcall", function()
    stopped "while true do xpcall(forever, debug.traceback) end"
  end)

  it("a loop in a coroutine", function()
    stopped [[
      local co = coroutine.create(forever)
      while true do coroutine.resume(co) end]]
  end)

  it("a loop in a wrapped coroutine in a coroutine, under pcall", function()
    assert.equal(".", stopped [[
      local outer = coroutine.wrap(function()
        local inner = coroutine.wrap(function()
          while true do pcall(forever) end
        end)
        while true do pcall(inner) log[#log + 1] = "inner" end
      end)
      while true do pcall(outer) log[#log + 1] = "outer" end]])
  end)

  it("a generator that never ends", function()
    stopped [[
      for _ in coroutine.wrap(function()
        while true do coroutine.yield(1) end
      end) do end]]
  end)

  it("a sort that compares for ever", function()
    stopped "table.sort({ 2, 1, 3 }, function() while true do end end)"
  end)

  it("a sort that compares for ever, under pcall in a loop", function()
    stopped [[
      while true do
        pcall(table.sort, { 2, 1, 3 }, function() while true do end end)
      end]]
  end)

  it("a comparison under pcall in a loop of its own", function()
    stopped [[
      table.sort({ 2, 1, 3 }, function()
        while true do pcall(forever) end
      end)]]
  end)

  it("a comparison that catches its end, and what would come after", function()
    stopped [[
      table.sort({ 2, 1 }, function() return pcall(forever) and false end)
      return "good"]]
  end)

  it("a gsub callback that catches its end, and what would come after",
     function()
    stopped [[
      ("x"):gsub("x", function() pcall(forever) end)
      return "good"]]
  end)

  it("a gsub callback", function()
    stopped "(('x'):rep(9)):gsub('x', forever)"
  end)

  it("a metamethod and an iterator", function()
    stopped "return setmetatable({}, { __index = forever }).x"
    stopped "for _ in forever do end"
  end)

  it("a <close> variable of a command that ends", function()
    stopped "local c <close> = setmetatable({}, { __close = forever })"
  end)

  it("a <close> variable of a command that fails", function()
    stopped [[
      local c <close> = setmetatable({}, { __close = forever })
      error "first"]]
  end)

  it("a <close> variable of a loop that was stopped", function()
    stopped [[
      local c <close> = setmetatable({}, { __close = function()
        while true do pcall(forever) end end })
      forever()]]
  end)

  it("coroutine.close with a <close> variable that loops", function()
    stopped [[
      local co = coroutine.create(function()
        local c <close> = setmetatable({}, { __close = forever })
        coroutine.yield()
      end)
      coroutine.resume(co)
      coroutine.close(co)]]
  end)

  it("the <close> variable of a wrapped coroutine that fails", function()
    stopped [[
      coroutine.wrap(function()
        local c <close> = setmetatable({}, { __close = forever })
        error "first"
      end)()]]
  end)

  it("the function given to tcmu.await", function()
    stopped "tcmu.await(function() while true do end end)"
  end)

  it("one of the functions given to tcmu.all", function()
    stopped "tcmu.all(function() tcmu.sleep(1e9) end, forever)"
  end)

  it("a loop after a wait", function() stopped "tcmu.sleep(5) forever()" end)

  it("recursion and string building", function()
    stopped "local function f(n) return f(n + 1) end f(0)"
    stopped "while true do local s = ('x'):rep(1000):upper() end"
    stopped "while true do local s = ('x'):rep(1000000):upper() end"
  end)
end)

describe("the watchdog", function()
  it("runs the <close> variables of what it stops", function()
    assert.equal("closed.", stopped [[
      local c <close> = setmetatable({}, { __close = function()
        log[#log + 1] = "closed" end })
      forever()]])
  end)

  it("gives back the locks of what it stops", function()
    local dev <close> = assert(device "tcmu.lock(self, 0, 512) forever()")
    dev:cmd(vendor(0xC1))
    assert.is.good(dev:cmd(scsi.cdb.write_10 { lba = 0, length = 1 },
                           ("x"):rep(512)))
  end)

  it("stops again and again: nothing is worn out by a strike", function()
    local dev <close> = assert(device [[
      if #log % 2 == 0 then
        log[#log + 1] = "loop"
        forever()
      end
      log[#log + 1] = "fine"
      table.sort({ 2, 1, 3 }, function() while true do end end)]])
    for _ = 1, 6 do
      assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    end
    assert.equal("loop fine loop fine loop fine.", dev:cmd(vendor(0xC2)).data)
  end)

  it("lets a step come to its end that was only held up", function()
    local dev <close> = assert(device [[
      repeat until debug.gethook()
      return "fine"]])
    for _ = 1, 3 do
      assert.equal("fine", dev:cmd(vendor(0xC1)).data)
    end
  end)

  it("leaves a command alone that sleeps, however often", function()
    local dev <close> = assert(device [[
      for _ = 1, 30 do
        local t = os.clock()
        while os.clock() - t < 0.01 do end
        tcmu.sleep(100)
      end
      return "fine"]])
    assert.equal("fine", dev:cmd(vendor(0xC1)).data)
  end)

  it("leaves the next command alone: each step has a budget of its own",
     function()
    local dev <close> = assert(device [[
      local t = os.clock()
      while os.clock() - t < 0.03 do end
      return "fine"]])
    for _ = 1, 10 do
      assert.equal("fine", dev:cmd(vendor(0xC1)).data)
    end
  end)

  it("allows more while a handler is opened, but not for ever", function()
    local dev = assert(sim.device [[=opens
      local tcmu = require "tcmu"
      return tcmu.handler { name = "opens", open = function(dev)
        local t = os.clock()
        while os.clock() - t < 0.2 do end
        return { store = tcmu.store.memory(dev.size) }
      end }]])
    dev:close()
    core.budget(2)
    local none, why = sim.device [[=opens
      local tcmu = require "tcmu"
      return tcmu.handler { name = "opens", open = function()
        while true do end end }]]
    core.budget(50)
    assert.is_nil(none)
    assert.matches("stopped: more than %d+ ms of CPU time", why)
  end)

  it("stops a check, a handler's file, and a close", function()
    core.budget(2)
    local a, why_a = sim.device [[=check
      local tcmu = require "tcmu"
      return tcmu.handler { name = "check", check = function()
        while true do end end }]]
    local b, why_b = sim.device "=file\nwhile true do end"
    local c = device("return 'x'", "close = function() while true do end end,")
    core.budget(50)
    assert.is_nil(a)
    assert.is_nil(b)
    assert.matches("stopped", why_a)
    assert.matches("stopped", why_b)
    assert.equal(0, (assert(c):close()))
  end)

  it("stops a callback of luv, and the device goes on", function()
    if not pcall(require, "luv") then pending "luv is not installed" return end
    local dev <close> = assert(device [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(1, 0, function() log[#log + 1] = "in" forever() end)
      local after = uv.new_timer()
      return tcmu.await(function(done)
        after:start(5, 0, function()
          timer:close() after:close() done("later") end)
      end)]])
    assert.equal("later", dev:cmd(vendor(0xC1)).data)
    assert.equal("in.", dev:cmd(vendor(0xC2)).data)
  end)

  it("does not take a nested coroutine for guilty later on", function()
    local dev <close> = assert(device [[
      gen = gen or coroutine.wrap(function()
        local n = 0
        while true do
          n = n + 1
          for _ = 1, 1e4 do end
          coroutine.yield(n)
        end
      end)
      if #log == 0 then
        log[1] = "x"
        while true do last = gen() end
      end
      local a, b = gen(), gen()
      -- The strike may have come before the last value was kept.
      return (a == last + 1 or a == last + 2) and b == a + 1 and "steady"
             or ("%s %s %s"):format(last, a, b)]])
    assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    local r = dev:cmd(vendor(0xC1))
    -- stopped inside the generator, it is dead; between two calls, it goes on
    if r.status == 0 then assert.equal("steady", r.data) end
  end)
end)
