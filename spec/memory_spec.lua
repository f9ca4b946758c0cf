--- The memory limit of a Lua state: every kind of hog is stopped, the host and
--- the devices live on.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local vendor = require "spec.commands".vendor

local MIB <const> = 1 << 20
local LIMIT <const> = 8 * MIB

local function device(body, options)
  options = options or {}
  options.memory_limit = options.memory_limit or LIMIT
  return assert(sim.device(([[=hog
    local tcmu = require "tcmu"
    return tcmu.handler {
      name = "hog",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = {
        [0xC1] = function(self, cmd) %s end,
        [0xC2] = function()
          collectgarbage()
          return ("fine %%d"):format(collectgarbage "count" // 1024)
        end,
      },
    }]]):format(body), options))
end

local HOGS <const> = {
  ["fills a table"] = "local t = {} for i = 1, 1e12 do t[i] = i end",
  ["keeps small strings"] = [[
    local t = {} for i = 1, 1e12 do t[#t + 1] = "string " .. i end]],
  ["doubles a string"] = "local s = 'x' while true do s = s .. s end",
  ["asks for one enormous string"] = "local s = ('x'):rep(1 << 40)",
  ["keeps buffers"] = [[
    local t = {} while true do t[#t + 1] = tcmu.buffer(4096) end]],
  ["asks for one large buffer"] = "local b = tcmu.buffer(1 << 30)",
  ["makes closures"] = [[
    local f = function() end
    while true do local g = f f = function() return g() end end]],
  ["makes coroutines"] = [[
    local t = {} while true do
      local co = coroutine.create(function() coroutine.yield() end)
      coroutine.resume(co)
      t[#t + 1] = co
    end]],
  ["recurses"] = "local function f() local a, b = 1, 2 return 1 + f() end f()",
  ["spawns"] = [[
    while true do tcmu.spawn(function() tcmu.sleep(1e9) end) end]],
  ["catches what stops it"] = [[
    local t = {}
    while true do
      pcall(function() while true do t[#t + 1] = ("x"):rep(1000) end end)
    end]],
  ["hides in a coroutine"] = [[
    coroutine.wrap(function()
      local t = {} while true do t[#t + 1] = { {}, {}, {} } end
    end)()]],
  ["hides in a comparison"] = [[
    local t = {}
    table.sort({ 3, 1, 2 }, function()
      while true do t[#t + 1] = {} end
    end)]],
  ["hides in a <close> variable"] = [[
    local t = {}
    local c <close> = setmetatable({}, { __close = function()
      while true do t[#t + 1] = {} end end })
    error "x"]],
  ["hogs after a wait"] = [[
    tcmu.sleep(1) local t = {} while true do t[#t + 1] = {} end]],
  ["hogs in one of several"] = [[
    tcmu.all(function() tcmu.sleep(1e9) end,
             function() local t = {} while true do t[#t + 1] = {} end end)]],
}

for what, body in pairs(HOGS) do
  it("a command that " .. what .. " is stopped, and the device goes on",
     function()
    local dev <close> = device(body)
    local r = dev:cmd(vendor(0xC1))
    assert.has.sense(r, scsi.INTERNAL_TARGET_FAILURE)
    local most = 3 * LIMIT
    assert.is_true(dev.shard:memory(dev.id) < most,
                   dev.shard:memory(dev.id) .. " bytes")
    assert.is.good(dev:cmd(scsi.cdb.write_10 { lba = 0, length = 1 },
                           ("x"):rep(512)))
  end)
end

it("what a stopped command had is given back", function()
  local dev <close> = device "local t = {} while true do t[#t + 1] = {} end"
  for _ = 1, 3 do
    assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    local r = dev:cmd(vendor(0xC2))
    assert.is.good(r)
    assert.is_true(tonumber(r.data:match("%d+")) < 8)
  end
end)

it("garbage does not count: a command may go through much more", function()
  local dev <close> = device [[
    for i = 1, 200 do
      local s = ("x"):rep(100000 + i)
      tcmu.sleep(0)
    end
    return "done"]]
  assert.equal("done", dev:cmd(vendor(0xC1)).data)
end)

it("a hog in a luv callback is stopped", function()
  if not pcall(require, "luv") then pending "luv is not installed" return end
  local dev <close> = device [[
    local uv = require "luv"
    local timer = uv.new_timer()
    return tcmu.await(function(done)
      timer:start(1, 1, function()
        timer:stop()
        timer:start(1, 0, function() timer:close() done("stopped") end)
        local t = {} while true do t[#t + 1] = {} end
      end)
    end)]]
  assert.equal("stopped", dev:cmd(vendor(0xC1)).data)
end)

it("a handler that is too large for the limit is refused with a sentence",
   function()
  local dev, why = sim.device([[=large
    local tcmu = require "tcmu"
    local t = {} while true do t[#t + 1] = { {} } end
    return tcmu.handler { name = "large" }]], { memory_limit = LIMIT })
  assert.is_nil(dev)
  assert.matches("memory", why)
end)

it("one handler at its limit leaves the others alone", function()
  local host <close> = sim.host { memory_limit = LIMIT }
  local hog = assert(host:device [[=hog
    local tcmu = require "tcmu"
    local t = {}
    return tcmu.handler {
      name = "hog",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0xC1] = function() while true do t[#t + 1] = {} end end },
    }]])
  local other = assert(host:device("handlers/ramdisk.lua", { size = MIB }))
  for i = 1, 10 do
    assert.has.sense(hog:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    assert.is.good(other:cmd(scsi.cdb.write_10 { lba = i, length = 8 },
                             ("x"):rep(8 * 512)))
  end
end)

it("a disk in Lua that is full says so, and what it has can be read",
   function()
  local dev <close> = assert(sim.device("handlers/ramdisk.lua", {
    size = 64 * MIB, memory_limit = LIMIT }))
  local blocks <const> = 2048
  local full
  for i = 0, 63 do
    local r = dev:cmd(scsi.cdb.write_10 { lba = i * blocks, length = blocks },
                      string.char(65 + i % 26):rep(MIB))
    if r.status ~= 0 then full = i break end
  end
  assert.is_not_nil(full)
  assert.is_true(full >= 4)
  for i = 0, full - 1 do
    local r = dev:cmd(scsi.cdb.read_10 { lba = i * blocks, length = blocks })
    assert.is.good(r)
    assert.is_true(r.data == string.char(65 + i % 26):rep(MIB))
  end
end)
