--- luv in a handler: a loop of its own for each state, and the end of it.
local luv = require "spec.luv_it"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

local function source(body, top)
  return ([[=luv
    local tcmu = require "tcmu"
    log = {}
    %s
    return tcmu.handler {
      name = "luv",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = {
        [0xC1] = function(self, cmd) local uv = require "luv" %s end,
        [0xC2] = function() return table.concat(log, " ") .. "." end,
      },
    }]]):format(top or "", body)
end

local function device(body, top) return assert(sim.device(source(body, top))) end

local function answer(body, top)
  local dev <close> = device(body, top)
  local r = dev:cmd(vendor(0xC1))
  assert.is.good(r)
  return r.data
end

describe("luv in a handler", function()
  luv("calls back while a command waits", function()
    assert.equal("late", answer [[
      local t = uv.new_timer()
      return tcmu.await(function(done)
        t:start(5, 0, function() t:close() done("late") end)
      end)]])
  end)

  luv("may be required where the file is loaded", function()
    assert.equal("late", answer([[
      return tcmu.await(function(done)
        timer:start(1, 0, function() done("late") end)
      end)]], "local uv = require 'luv' timer = uv.new_timer()"))
  end)

  luv("goes on calling after the command that required it", function()
    local dev <close> = device [[
      if cmd:u8(1) == 0 then
        local t = uv.new_timer()
        t:start(1, 1, function()
          log[#log + 1] = "tick"
          if #log == 5 then t:close() end
        end)
        error "the command fails"
      end
      return tcmu.await(function(done)
        local t = uv.new_timer()
        t:start(1, 1, function()
          if #log == 5 then t:close() done("five") end
        end)
      end)]]
    dev:cmd(vendor(0xC1, 0))
    collectgarbage()
    assert.equal("five", dev:cmd(vendor(0xC1, 1)).data)
  end)

  luv("survives errors in its callbacks, whatever they raise", function()
    assert.equal("still here", answer [[
      local bad = { "text", {}, false, setmetatable({}, { __tostring =
        function() error "again" end }), print }
      for _, what in ipairs(bad) do
        local t = uv.new_timer()
        t:start(1, 0, function() t:close() error(what) end)
      end
      local nothing = uv.new_timer()
      nothing:start(1, 0, function() nothing:close() error() end)
      return tcmu.await(function(done)
        local t = uv.new_timer()
        t:start(10, 0, function() t:close() done("still here") end)
      end)]])
  end)

  luv("has no command in its callbacks", function()
    assert.equal("belongs to another command may wait only", answer [[
      local t = uv.new_timer()
      return tcmu.await(function(done)
        t:start(1, 0, function()
          t:close()
          local _, a = pcall(function() return cmd.opcode end)
          local _, b = pcall(tcmu.sleep, 1)
          done(a:match("belongs to another command") .. " "
               .. b:match("may wait only"))
        end)
      end)]])
  end)

  luv("may not wait for a store in its callbacks", function()
    assert.matches("may wait only", answer [[
      local t, store = uv.new_timer(), self.store
      return tcmu.await(function(done)
        t:start(1, 0, function()
          t:close()
          local _, why = pcall(store.read, store, tcmu.buffer(512), 0)
          done(why)
        end)
      end)]])
  end)

  luv("lacks what would stop the shard or change the process", function()
    assert.equal("none", answer [[
      local there = {}
      for _, name in ipairs { "run", "stop", "loop_close", "new_thread",
          "new_work", "queue_work", "kill", "sleep", "chdir", "os_setenv",
          "setuid", "walk", "new_signal" } do
        if uv[name] then there[#there + 1] = name end
      end
      return #there == 0 and "none" or table.concat(there, " ")]])
  end)

  luv("can read a file in the pool", function()
    local path <const> = os.tmpname()
    local f = assert(io.open(path, "w"))
    f:write "from the pool"
    f:close()
    assert.equal("from the pool", answer(([[
      local fd = tcmu.await(function(done)
        uv.fs_open(%q, "r", 0, function(_, fd) done(fd) end)
      end)
      local text = tcmu.await(function(done)
        uv.fs_read(fd, 100, 0, function(_, text) done(text) end)
      end)
      tcmu.await(function(done) uv.fs_close(fd, done) end)
      return text]]):format(path)))
    os.remove(path)
  end)

  luv("can run a program", function()
    assert.equal("hello", answer [[
      local out = uv.new_pipe()
      local text = ""
      tcmu.await(function(done)
        local left = 2
        local function one() left = left - 1 if left == 0 then done() end end
        local child
        child = uv.spawn("echo", { args = { "-n", "hello" },
                                   stdio = { nil, out } },
                         function() child:close() one() end)
        out:read_start(function(_, more)
          if more then text = text .. more else out:close() one() end
        end)
      end)
      return text]])
  end)

  luv("works in many commands at once", function()
    local dev <close> = device [[
      local t = uv.new_timer()
      return tcmu.await(function(done)
        t:start(cmd:u8(1) % 5, 0, function() t:close() done("x") end)
      end)]]
    local all = {}
    for i = 1, 100 do all[i] = dev:submit(vendor(0xC1, i)) end
    for i = 1, 100 do assert.equal("x", dev:wait(all[i]).data) end
  end)
end)

describe("getaddrinfo in a handler", function()
  luv("gives addresses as luv's own does", function()
    local body <const> = [[
      local err, list = tcmu.await(function(done)
        assert(uv.getaddrinfo("127.0.0.1", "3260", { socktype = "stream",
          family = "inet", numerichost = true }, done))
      end)
      assert(not err, err)
      local a = list[1]
      return ("%s %d %s %s %s"):format(a.addr, a.port, a.family, a.socktype,
                                       a.protocol)]]
    assert.equal("127.0.0.1 3260 inet stream tcp", answer(body))
  end)

  luv("takes numbers, and addresses of both families", function()
    assert.equal("::1 inet6 80", answer [[
      local _, list = tcmu.await(function(done)
        assert(uv.getaddrinfo("::1", 80, { socktype = 1, protocol = "tcp" },
                              done))
      end)
      return ("%s %s %d"):format(list[1].addr, list[1].family, list[1].port)]])
  end)

  luv("tells an error by its name", function()
    assert.matches("^EAI_", answer [[
      local err = tcmu.await(function(done)
        uv.getaddrinfo("not an address", nil, { numerichost = true }, done)
      end)
      return err]])
  end)

  luv("refuses what is no hint, and a call that would block", function()
    assert.matches("'sctp' is no protocol", answer [[
      return select(2, pcall(uv.getaddrinfo, "::1", nil,
                             { protocol = "sctp" }, print))]])
    assert.matches("blocks every device", answer [[
      return select(2, pcall(uv.getaddrinfo, "::1"))]])
  end)
end)

describe("the end of a state with luv", function()
  luv("closes what the handler left open", function()
    local host <close> = sim.host()
    local dev = assert(host:device(source [[
      for _ = 1, 10 do
        uv.new_timer():start(1, 1, function() log[#log + 1] = "x" end)
      end
      uv.new_timer()
      uv.new_async(print)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(5, print)
      uv.new_idle():start(function() end)
      uv.new_pipe()
      return "left open"]]))
    assert.equal("left open", dev:cmd(vendor(0xC1)).data)
    dev:close()
    local shard = host.shards[1]
    for _ = 1, 20 do shard:turn(false) end
    assert.equal(0, shard:states())
  end)

  luv("closes what a __gc opens while the state is closed", function()
    local dev = device [[
      setmetatable({}, { __gc = function()
        uv.new_timer():start(1, 1, print)
        uv.fs_stat("/", print)
      end })
      return "x"]]
    dev:cmd(vendor(0xC1))
    dev:close()
  end)

  luv("waits for a request that is stuck in the pool, off the device",
     function()
    local fifo = os.tmpname()
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo))
    -- Waits for the worker to come; without this the process cannot end.
    local function release()
      if not fifo then return end
      assert(io.open(fifo, "w")):close()
      os.remove(fifo)
      fifo = nil
    end
    local host = sim.host()
    local shard = host.shards[1]
    local dev = assert(host:device(source(([[
      uv.fs_open(%q, "r", 0, function() log[#log + 1] = "opened" end)
      return "stuck"]]):format(fifo))))
    local other = assert(host:device "handlers/ram.lua")
    assert.equal("stuck", dev:cmd(vendor(0xC1)).data)
    finally(release)
    assert.equal(0, (dev:close("remove")))
    for _ = 1, 50 do shard:turn(false) end
    assert.equal(2, shard:states())             -- one of them a zombie
    assert.is.good(other:cmd(scsi.cdb.test_unit_ready()))
    release()
    for _ = 1, 1000 do
      shard:turn(true)
      if shard:states() == 1 then break end
    end
    assert.equal(1, shard:states())
    host:close()
  end)

  luv("drops callbacks of a command that was cancelled", function()
    local dev <close> = device [[
      local t = uv.new_timer()
      tcmu.await(function(done)
        t:start(20, 0, function() t:close() done(1) end)
      end)
      log[#log + 1] = "woken"]]
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    dev:abort(h)
    assert.equal(0x40, dev:wait(h).status)
    dev:run(function() return false end)
    assert.equal(".", dev:cmd(vendor(0xC2)).data)
  end)

  luv("comes and goes many times without a leak of descriptors", function()
    local function open_files()
      local n = 0
      for fd = 0, 200 do
        local f = io.open("/proc/self/fdinfo/" .. fd)
        if f then n = n + 1 f:close() end
      end
      return n
    end
    local host <close> = sim.host()
    local keep = assert(host:device "handlers/ram.lua")
    local function round()
      local dev = assert(host:device(source [[
        return tcmu.await(function(done)
          local t = uv.new_timer()
          t:start(0, 0, function() done("x") end)
        end)]]))
      dev:cmd(vendor(0xC1))
      dev:close()
      host.shards[1]:turn(false)
    end
    for _ = 1, 3 do round() end
    collectgarbage()
    local before = open_files()
    for _ = 1, 30 do round() end
    collectgarbage()
    assert.is_true(open_files() <= before)
    assert.is.good(keep:cmd(scsi.cdb.test_unit_ready()))
  end)
end)

describe("two states with luv", function()
  luv("live and end apart", function()
    local host <close> = sim.host { shards = 2 }
    local body <const> = [[
      if cmd:u8(1) == 1 then
        uv.new_timer():start(1, 1, function() end)
        return "left"
      end
      return tcmu.await(function(done)
        local t = uv.new_timer()
        t:start(1, 0, function() t:close() done("x") end)
      end)]]
    local all = {}
    for i = 1, 6 do
      all[i] = assert(host:device((source(body):gsub("=luv", "=luv" .. i))))
    end
    for i = 1, 6 do assert.equal("left", all[i]:cmd(vendor(0xC1, 1)).data) end
    for i = 1, 5 do
      all[i]:close()
      assert.equal("x", all[6]:cmd(vendor(0xC1, 0)).data)
    end
  end)
end)
