--- A command as a coroutine: what may be raised, kept and resumed.
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

local function source(body)
  return ([[=tasks
    local tcmu = require "tcmu"
    local scsi = require "tcmu.scsi"
    kept = {}
    return tcmu.handler {
      name = "tasks",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = {
        [0xC1] = function(self, cmd) %s end,
        [0xC2] = function(self, cmd)
          local ok, why = pcall(kept.use, cmd)
          return ok and "worked" or tostring(why)
        end,
      },
    }]]):format(body)
end

local function device(body, options)
  return assert(sim.device(source(body), options))
end

local function run(body)
  local dev <close> = device(body)
  return dev:cmd(vendor(0xC1))
end

local function answer(body)
  local r = run(body)
  assert.is.good(r)
  return r.data
end

describe("an error", function()
  local BUGS <const> = {
    "error 'text'", "error()", "error(nil)", "error(42)", "error(true)",
    "error({})", "error({ message = 'x' })", "error(print)", "nothing.x = 1",
    "error(setmetatable({}, { __tostring = function() error 'again' end }))",
    "error(setmetatable({}, { __tostring = function() return 1 end }))",
    "error(setmetatable({}, { __index = function() error 'again' end }))",
    "error(setmetatable({}, { __metatable = false }))",
    "error(setmetatable({}, { __name = 42 }))",
    "error(coroutine.create(print))", "error(cmd)", "error(cmd.data)",
    "error(('x'):rep(1 << 20))", "error('\\0\\1\\255')",
    "error(setmetatable({ status = 'x' }, getmetatable(scsi.status.BUSY)))",
  }

  for _, body in ipairs(BUGS) do
    it("such as " .. body:gsub("%c", "?") .. " fails that command only",
       function()
      local dev <close> = device(body)
      for _ = 1, 3 do
        assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
      end
      assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
    end)
  end

  it("that is a stack overflow fails that command only", function()
    local dev <close> = device [[
      local function f() return f() + 1 end
      if cmd:u8(1) == 1 then return "fine" end
      f()]]
    assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    assert.equal("fine", dev:cmd(vendor(0xC1, 1)).data)
  end)

  it("is seen by the <close> variables that it passes", function()
    local dev <close> = device [[
      if cmd:u8(1) == 1 then return tostring(kept.seen) end
      local c <close> = setmetatable({}, { __close = function(_, why)
        kept.seen = why end })
      error("this one", 0)]]
    dev:cmd(vendor(0xC1))
    assert.equal("this one", dev:cmd(vendor(0xC1, 1)).data)
  end)

  it("may be anything in open, which says a sentence", function()
    for _, body in ipairs {
      "error()", "error({})", "error(setmetatable({}, "
        .. "{ __tostring = function() error 'x' end }))", "error(print)",
    } do
      local dev, why = sim.device("=open\nlocal tcmu = require 'tcmu'\n"
        .. "return tcmu.handler { name = 'open', open = function() " .. body
        .. " end }")
      assert.is_nil(dev)
      assert.is_string(why)
      assert.is_true(#why > 0)
    end
  end)
end)

describe("a command's object", function()
  it("kept beyond its command answers nobody else's questions", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then
        kept.cmd, kept.data = cmd, cmd.data
        kept.use = function() return kept.cmd.opcode end
        tcmu.sleep(100)
      elseif cmd:u8(1) == 1 then
        return select(2, pcall(kept.use))
      elseif cmd:u8(1) == 2 then
        return select(2, pcall(function() kept.data:put(0, "x") end))
      elseif cmd:u8(1) == 3 then
        return select(2, pcall(function() return #kept.data end))
      end]]
    local h = dev:submit(vendor(0xC1, 0))
    dev.shard:turn(false)
    for i = 1, 3 do
      assert.matches("belongs to another command",
                     dev:cmd(vendor(0xC1, i)).data)
    end
    assert.is.good(dev:wait(h))
  end)

  it("cannot be used in a spawned job", function()
    local dev <close> = device [[
      tcmu.spawn(function()
        kept.why = select(2, pcall(function() return cmd.lba end)) end)
      tcmu.sleep(1)
      return kept.why]]
    assert.matches("belongs to another command", dev:cmd(vendor(0xC1)).data)
  end)

  it("of one device cannot be used in another's command", function()
    local host <close> = sim.host()
    local body <const> = source [[
      if cmd:u8(1) == 0 then kept.cmd = cmd tcmu.sleep(100) return "slept" end
      return select(2, pcall(function() return kept.cmd.data end))]]
    local a = assert(host:device(body))
    local b = assert(host:device(body))
    local h = a:submit(vendor(0xC1, 0))
    a.shard:turn(false)
    assert.matches("belongs to another command", b:cmd(vendor(0xC1, 1)).data)
    assert.equal("slept", a:wait(h).data)
  end)

  it("of a device that is gone cannot be used", function()
    local host <close> = sim.host()
    local body <const> = source [[
      if cmd:u8(1) == 0 then kept.cmd, kept.data = cmd, cmd.data return "x" end
      local _, a = pcall(function() return kept.cmd.opcode end)
      local _, b = pcall(function() return kept.data:get() end)
      return a .. b .. tostring(kept.cmd)]]
    local stays <const> = assert(host:device(body))
    -- often: a later command may come to lie where the old one was
    for _ = 1, 20 do
      local a = assert(host:device(body))
      a:cmd(vendor(0xC1, 0))
      a:close()
      local b = assert(host:device(body))
      assert.matches("another command.*another command.*command that is over",
                     b:cmd(vendor(0xC1, 1)).data)
      b:close()
    end
    assert.is.good(stays:cmd(scsi.cdb.test_unit_ready()))
  end)

  it("is refused to a reply of another command", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then kept.data = cmd.data tcmu.sleep(100) return "x" end
      return kept.data]]
    local h = dev:submit(vendor(0xC1, 0))
    dev.shard:turn(false)
    assert.has.sense(dev:cmd(vendor(0xC1, 1)), scsi.INTERNAL_TARGET_FAILURE)
    dev:wait(h)
  end)

  it("is refused to a store operation of another command", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then kept.data = cmd.data tcmu.sleep(100) return "x" end
      return select(2, pcall(self.store.read, self.store, kept.data, 0))]]
    local h = dev:submit(vendor(0xC1, 0))
    dev.shard:turn(false)
    assert.matches("belongs to another command", dev:cmd(vendor(0xC1, 1)).data)
    dev:wait(h)
  end)
end)

describe("a coroutine of a command", function()
  it("can neither be resumed nor closed by another command", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then
        kept.co = coroutine.running()
        tcmu.sleep(100)
        return "slept"
      elseif cmd:u8(1) == 1 then
        return select(2, pcall(coroutine.resume, kept.co))
      end
      return select(2, pcall(coroutine.close, kept.co))]]
    local h = dev:submit(vendor(0xC1, 0))
    dev.shard:turn(false)
    assert.matches("belongs to a command", dev:cmd(vendor(0xC1, 1)).data)
    assert.matches("belongs to a command", dev:cmd(vendor(0xC1, 2)).data)
    assert.equal("slept", dev:wait(h).data)
    assert.equal(0.1, dev:now())
  end)

  it("can neither be resumed nor closed after its command", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then
        kept.co = coroutine.running()
        error "ended"
      end
      return select(2, pcall(coroutine.resume, kept.co, 1))]]
    dev:cmd(vendor(0xC1, 0))
    assert.matches("belongs to a command", dev:cmd(vendor(0xC1, 1)).data)
  end)

  it("is a coroutine that may yield, running, and not the main one", function()
    assert.equal("true running false", answer [[
      local co, main = coroutine.running()
      return ("%s %s %s"):format(coroutine.isyieldable(),
                                 coroutine.status(co), main)]])
  end)
end)

-- A coroutine that has served a command keeps what the next one of the same
-- slot will need.
describe("a coroutine that serves one command after the other", function()
  local function opened(body)
    local host <const> = sim.host()
    local function add(name)
      return assert(host:device(source(body), { name = name }))
    end
    return host, add
  end

  it("has self and cmd of the device that is asked", function()
    local _ <close>, add = opened [[
      return cmd.dev.name .. (self.n or "") .. cmd:u8(1)]]
    local a <const>, b <const> = add "a", add "b"
    for i = 1, 5 do
      assert.equal("a" .. i, a:cmd(vendor(0xC1, i)).data)
      assert.equal("b" .. i, b:cmd(vendor(0xC1, i)).data)
      assert.equal("b" .. i, b:cmd(vendor(0xC1, i)).data)
    end
  end)

  it("has the cmd that is asked, whichever has waited before", function()
    local dev <close> = device [[
      if cmd:u8(1) % 3 > 0 then tcmu.sleep(cmd:u8(1) % 5) end
      return tostring(cmd:u8(1))]]
    for round = 0, 2 do
      local asked <const> = {}
      for i = 1, 40 do asked[i] = dev:submit(vendor(0xC1, round * 40 + i)) end
      for i = 40, 1, -1 do
        assert.equal(tostring(round * 40 + i), dev:wait(asked[i]).data)
      end
    end
  end)

  it("takes nothing of a reply along", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then return "old", "older", "oldest" end
      if cmd:u8(1) == 1 then return nil, "not meant" end]]
    for _ = 1, 3 do
      assert.equal("old", dev:cmd(vendor(0xC1, 0)).data)
      for i = 1, 2 do
        local r <const> = dev:cmd(vendor(0xC1, i), { data_in = 8 })
        assert.is.good(r)
        assert.equal(("\0"):rep(8), r.data)
      end
    end
  end)

  it("goes on after an error and after a cancellation", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then error "wrong" end
      if cmd:u8(1) == 1 then tcmu.sleep(1e6) end
      return "fine"]]
    for _ = 1, 3 do
      assert.has.sense(dev:cmd(vendor(0xC1, 0)), scsi.INTERNAL_TARGET_FAILURE)
      assert.has.sense(dev:cmd(vendor(0xC1, 1)),
                       scsi.LOGICAL_UNIT_COMMUNICATION_TIME_OUT)
      assert.equal("fine", dev:cmd(vendor(0xC1, 2)).data)
    end
  end)

  it("lets go of self when its device is gone", function()
    local _ <close>, add = opened [[
      kept.selves = kept.selves or setmetatable({}, { __mode = "k" })
      kept.selves[self] = true
      tcmu.sleep(1)
      collectgarbage()
      local n = 0
      for _ in pairs(kept.selves) do n = n + 1 end
      return tostring(n)]]
    local stays <const>, goes <const> = add "stays", add "goes"
    local asked <const> = {}
    for i = 1, 4 do asked[i] = goes:submit(vendor(0xC1)) end
    for i = 1, 4 do assert.equal("1", goes:wait(asked[i]).data) end
    goes:close()
    assert.equal("1", stays:cmd(vendor(0xC1)).data)
  end)
end)

-- Each body runs in a plain interpreter and in a handler: the results have to
-- be the same.
describe("the coroutine library of a handler", function()
  local SAME <const> = {
    ["passes values"] = [[
      local co = coroutine.create(function(a, b)
        local c = coroutine.yield(a + b)
        local d, e = coroutine.yield(c * 2)
        return d .. e
      end)
      return coroutine.resume(co, 1, 2), select(2, coroutine.resume(co, 10)),
             select(2, coroutine.resume(co, "x", "y")), coroutine.status(co)]],
    ["says that a coroutine is dead"] = [[
      local co = coroutine.create(function() end)
      coroutine.resume(co)
      return coroutine.resume(co)]],
    ["says so of one that failed"] = [[
      local co = coroutine.create(function() error("x", 0) end)
      local a, b = coroutine.resume(co)
      local c, d = coroutine.resume(co)
      return a, b, c, d, coroutine.status(co)]],
    ["refuses to resume what runs"] = [[
      return coroutine.resume((coroutine.running()))]],
    ["refuses to resume its resumer"] = [[
      local outer
      outer = coroutine.create(function()
        local inner = coroutine.create(function()
          return coroutine.resume(outer) end)
        return coroutine.resume(inner)
      end)
      return coroutine.resume(outer)]],
    ["makes generators"] = [[
      local function range(n)
        return coroutine.wrap(function()
          for i = 1, n do coroutine.yield(i) end
        end)
      end
      local sum = 0
      for i in range(100) do sum = sum + i end
      return sum]],
    ["wraps with the place of an error"] = [[
      local ok, why = pcall(coroutine.wrap(function() error("x", 0) end))
      return ok, (why:gsub("^.-:%d+: ", ""))]],
    ["wraps errors that are no strings"] = [[
      local mark = {}
      local ok, why = pcall(coroutine.wrap(function() error(mark) end))
      return ok, why == mark]],
    ["refuses a wrapped one that is dead"] = [[
      local f = coroutine.wrap(function() end)
      f()
      local ok, why = pcall(f)
      return ok, (why:gsub("^.-:%d+: ", ""))]],
    ["closes <close> variables of a wrapped one that fails"] = [[
      local seen
      pcall(coroutine.wrap(function()
        local c <close> = setmetatable({}, { __close = function(_, why)
          seen = why end })
        error("x", 0)
      end))
      return seen]],
    ["raises what such a <close> variable raises"] = [[
      local ok, why = pcall(coroutine.wrap(function()
        local c <close> = setmetatable({}, { __close = function()
          error("second", 0) end })
        error("first", 0)
      end))
      return ok, (why:gsub("^.-:%d+: ", ""))]],
    ["yields across pcall"] = [[
      local co = coroutine.wrap(function()
        local ok, v = pcall(function() return coroutine.yield(1) + 1 end)
        local bad, why = pcall(function() coroutine.yield(2) error("e", 0) end)
        return ok, v, bad, why
      end)
      co() co(41)
      return co()]],
    ["closes what is suspended"] = [[
      local seen
      local co = coroutine.create(function()
        local c <close> = setmetatable({}, { __close = function(_, why)
          seen = tostring(why) end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      return coroutine.close(co), seen, coroutine.status(co)]],
    ["tells how a close failed"] = [[
      local co = coroutine.create(function()
        local c <close> = setmetatable({}, { __close = function()
          error("in close", 0) end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      return coroutine.close(co)]],
    ["closes what is dead or has never run"] = [[
      local a = coroutine.create(function() end)
      local b = coroutine.create(function() error("x", 0) end)
      coroutine.resume(b)
      local x, y = coroutine.close(b)
      return coroutine.close(a), x, y, coroutine.close(b)]],
    ["refuses to close what runs"] = [[
      return select(2, pcall(function()
        coroutine.close((coroutine.running())) end)):gsub("^.-:%d+: ", "")]],
    ["refuses to close its resumer"] = [[
      local outer
      outer = coroutine.wrap(function()
        return coroutine.wrap(function(co)
          local ok, why = pcall(coroutine.close, co)
          return ok, why
        end)((coroutine.running()))
      end)
      return outer()]],
    ["knows what may yield"] = [[
      local inside
      local co = coroutine.create(function()
        inside = coroutine.isyieldable()
        return coroutine.status((coroutine.running()))
      end)
      return select(2, coroutine.resume(co)), inside]],
    ["checks its arguments"] = [[
      local function why(f, ...)
        return (select(2, pcall(f, ...)):gsub("^.-:%d+: ", ""))
      end
      return why(coroutine.resume), why(coroutine.resume, 1),
             why(coroutine.close, {}), why(coroutine.wrap),
             why(coroutine.wrap, 1)]],
    ["passes many values"] = [[
      local many = {}
      for i = 1, 5000 do many[i] = i end
      local co = coroutine.wrap(function(...)
        return select("#", coroutine.yield(...)) end)
      local n = select("#", co(table.unpack(many)))
      return n, co(table.unpack(many))]],
    ["overflows as an error"] = [[
      local function deep(n)
        return coroutine.wrap(function() return deep(n + 1) end)()
      end
      local ok, why = pcall(deep, 1)
      return ok, why:match("C stack overflow")]],
  }

  for what, body in pairs(SAME) do
    it(what .. " as Lua's own does", function()
      local function text(...)
        local all = table.pack(...)
        for i = 1, all.n do all[i] = tostring(all[i]) end
        return table.concat(all, "|")
      end
      local plain = coroutine.wrap(function()
        return text(load(body)())
      end)()
      assert.equal(plain, answer([[
        local function text(...)
          local all = table.pack(...)
          for i = 1, all.n do all[i] = tostring(all[i]) end
          return table.concat(all, "|")
        end
        return text((function() ]] .. body .. " end)())"))
    end)
  end

  it("is about as fast", function()
    local body <const> = [[
      local co = coroutine.wrap(function()
        while true do coroutine.yield() end end)
      local t = os.clock()
      for _ = 1, 5000 do co() end
      return os.clock() - t]]
    local plain = math.huge
    for _ = 1, 9 do plain = math.min(plain, load(body)()) end
    local ours = math.huge
    core.budget(0)                      -- instrumented code is slow
    finally(function() core.budget(2000) end)
    for _ = 1, 9 do
      ours = math.min(ours, tonumber(answer("return tostring((function() "
                                            .. body .. " end)())")))
    end
    local slow <const> = os.getenv "LD_PRELOAD" and 100 or 3
    assert.is_true(ours < slow * plain + 0.002, ours .. " to " .. plain)
  end)
end)

describe("a handler's libraries", function()
  it("lack what would end or change the whole process", function()
    assert.equal("nil nil nil nil", answer [[
      return ("%s %s %s %s"):format(os.exit, os.setlocale, debug.sethook,
                                    io.stdin)]])
  end)

  it("say what to use instead of what blocks", function()
    for _, call in ipairs { "os.execute('true')", "io.popen('true')",
                            "io.read()", "io.lines()", "io.input()" } do
      assert.matches("blocks every device",
        answer("return select(2, pcall(function() " .. call .. " end))"))
    end
  end)

  it("still read files", function()
    local path <const> = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write("one\ntwo\n")
    f:close()
    assert.equal("one two", answer(([[
      local all = {}
      for line in io.lines(%q) do all[#all + 1] = line end
      io.input(%q)
      return table.concat(all, " ")]]):format(path, path)))
    os.remove(path)
  end)
end)
