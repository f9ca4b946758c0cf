--- The life of a device: opening, refusing, changing, stopping, and what of
--- the handler's own must have ended by then.
local commands = require "spec.commands"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local read <const>, vendor <const> = commands.read, commands.vendor

local BLOCK <const> = 512

local function handler(name, fields)
  return ("=%s\nlocal tcmu = require 'tcmu'\nreturn tcmu.handler { "
          .. "name = %q, %s }"):format(name, name, fields)
end

local function write(lba, byte)
  return scsi.cdb.write_10 { lba = lba, length = 1 }, byte:rep(BLOCK)
end

-- A file that no device has open can be opened by a store.
local function is_free(path)
  local ok, store = pcall(core.store.file, path)
  if ok then store:close() end
  return ok
end

describe("opening a device", function()
  local path

  before_each(function()
    path = os.tmpname()
    local f = assert(io.open(path, "wb"))
    f:write(("\0"):rep(1 << 20))
    f:close()
  end)
  after_each(function() os.remove(path) end)

  it("refuses with what open raises, as one sentence", function()
    local dev, why, errno = sim.device(handler("no", [[
      open = function() error("not today", 0) end]]))
    assert.is_nil(dev)
    assert.equal("not today", why)
    assert.equal(22, errno)
  end)

  it("refuses with the errno of a store that cannot be opened", function()
    local dev, why, errno = sim.device(handler("no", [[
      open = function(dev)
        return { store = tcmu.store.file("/nowhere/at/all", "r", dev.size) }
      end]]))
    assert.is_nil(dev)
    assert.matches("/nowhere/at/all", why)
    assert.equal(2, errno)
  end)

  it("closes the stores that a refusing open had opened", function()
    local dev = sim.device(handler("no", ([[
      open = function(dev)
        local s = tcmu.store.file(%q, "rw")
        error "changed my mind"
      end]]):format(path)))
    assert.is_nil(dev)
    assert.is_true(is_free(path))
  end)

  it("ends what a refusing open had started beside it", function()
    local host <close> = sim.host()
    local keeps = assert(host:device "handlers/ram.lua")
    assert.is_nil((host:device(handler("spawner", [[
      open = function(dev)
        tcmu.spawn(function()
          local store <const> = tcmu.store.memory(4096)
          while true do
            store:write(tcmu.buffer(512), 0)
            tcmu.sleep(1)
          end
        end)
        tcmu.sleep(10)
        error "no"
      end]]))))
    for _ = 1, 100 do keeps.shard:advance() end
    assert.is.good(keeps:cmd(write(0, "a")))
  end)

  it("may take time, and commands come only afterwards", function()
    local dev <close> = assert(sim.device(handler("slow", [[
      open = function(dev)
        tcmu.sleep(5000)
        return { store = tcmu.store.memory(dev.size) }
      end]])))
    assert.equal(5, dev:now())
    assert.is.good(dev:cmd(write(0, "a")))
  end)

  it("is broken off when the device is removed meanwhile", function()
    local shard = core.shard {}
    local kernel = core.raw.sim()
    shard:add(1, kernel, {
      handler = handler("waits", [[
        open = function(dev)
          local s = tcmu.store.file(]] .. ("%q"):format(path) .. [[, "rw")
          tcmu.sleep(1e9)
          return { store = s }
        end]]),
      name = "d", hba = "sim", size = 1 << 20, block_size = 512,
      max_sectors = 128, options_text = "",
    })
    shard:turn(false)
    shard:change(1, "remove")
    shard:turn(false)
    shard:turn(false)
    local verbs = {}
    for _, r in ipairs(shard:receive()) do
      verbs[#verbs + 1] = r.verb .. " " .. (r.status == 0 and "ok" or "failed")
    end
    assert.same({ "add failed", "remove ok" }, verbs)
    assert.is_true(is_free(path))
    assert.is_true(shard:close())
    kernel:close()
  end)

  it("is refused for a store that is smaller than the device", function()
    local dev, why = sim.device(handler("small", [[
      open = function(dev) return { store = tcmu.store.memory(1 << 19) } end]]),
      { size = 1 << 20 })
    assert.is_nil(dev)
    assert.matches("store has 524288 bytes, the device 1048576", why)
  end)

  it("is refused for a store that is none, in words", function()
    for _, value in ipairs { "'a string'", "true", "{}", "42" } do
      local dev, why = sim.device(handler("none", [[
        open = function() return { store = ]] .. value .. " } end"))
      assert.is_nil(dev)
      assert.matches("store.*tcmu%.store", why)
    end
  end)
end)

describe("the end of a device", function()
  it("waits for commands in flight when it is stopped", function()
    local dev = assert(sim.device(handler("slow", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0xC1] = function() tcmu.sleep(3000) return "done" end }]])))
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    assert.equal(0, (dev:close()))
    assert.equal("done", h.result.data)
  end)

  it("flushes what a handler without a store has kept, and then closes it",
    function()
      local out <const> = os.tmpname()
      local dev = assert(sim.device(handler("keeps", ([[
        open = function() return assert(io.open(%q, "w")) end,
        read = function() end,
        write = function(self) self:write "write, " end,
        flush = function(self, cmd, offset, length)
          self:write(("flush %%d+%%d of %%s, "):format(offset, length,
                     cmd.dev.name))
          tcmu.sleep(5)
          error "no"
        end,
        close = function(self) self:write "close" self:close() end]])
        :format(out)), { size = 1 << 20 }))
      assert.is.good(dev:cmd(write(0, "a")))
      assert.equal(0, (dev:close()))
      local f <close> = assert(io.open(out))
      assert.matches("^write, flush 0%+1048576 of %S+, close$", f:read "a")
      os.remove(out)
    end)

  it("answers what has come in before the stop", function()
    local dev = assert(sim.device("handlers/ram.lua", {
      kernel = { ring_size = 1 << 20, data_size = 8 << 20 } }))
    local all = {}
    for i = 1, 600 do all[i] = dev:submit(write(i, "x")) end
    assert.equal(0, (dev:close()))
    for i = 1, 600 do assert.is.good(all[i].result) end
  end)

  it("cancels commands that do not end within ten seconds", function()
    local dev = assert(sim.device(handler("stuck", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0xC1] = function() tcmu.await(function() end) end }]]),
      { cmd_time_out = 0 }))
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    assert.equal(0, (dev:close()))
    assert.equal(0x40, h.result.status)
  end)

  it("does not wait for a close that never ends", function()
    for _, verb in ipairs { "stop", "remove" } do
      local dev = assert(sim.device(handler("stuck", [[
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        close = function() tcmu.await(function() end) end]])))
      assert.equal(0, (dev:close(verb)))
    end
  end)

  it("survives a close that raises", function()
    local dev = assert(sim.device(handler("raises", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      close = function() error "in close" end]])))
    assert.equal(0, (dev:close()))
  end)

  it("ends what close starts beside it", function()
    local host <close> = sim.host()
    local stays = assert(host:device "handlers/ram.lua")
    local dev = assert(host:device(handler("spawns", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      close = function(self)
        tcmu.spawn(function()
          while true do
            self.store:write(tcmu.buffer(512), 0)
            tcmu.sleep(1)
          end
        end)
      end]])))
    assert.equal(0, (dev:close()))
    for _ = 1, 10 do stays.shard:advance() end
    assert.is.good(stays:cmd(write(0, "a")))
  end)

  it("comes although something beside it always has work in flight",
     function()
    local path <const> = os.tmpname()
    local dev = assert(sim.device(handler("scrub", ([[
      open = function(dev)
        local s = tcmu.store.file(%q, "c", dev.size)
        tcmu.spawn(function()
          local b = tcmu.buffer(4096)
          while true do s:write(b, 0, true) end
        end)
        return { store = s }
      end]]):format(path .. ".img")), { size = 1 << 20 }))
    dev.shard:turn(false)
    assert.equal(0, (dev:close()))
    assert.is_true(is_free(path .. ".img"))
    os.remove(path .. ".img")
    os.remove(path)
  end)

  it("answers nothing any more once the kernel has removed it", function()
    local dev = assert(sim.device(handler("slow", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0xC1] = function()
        local g <close> = setmetatable({}, { __close = function() end })
        tcmu.sleep(3000)
      end }]])))
    local h = dev:submit(vendor(0xC1))
    dev.shard:turn(false)
    assert.equal(0, (dev:close("remove")))
    assert.is_nil(h.result)
  end)

  it("waits for the disk when it is removed in the middle of a write",
     function()
    local path <const> = os.tmpname()
    os.remove(path)
    for _, no_fast_path in ipairs { false, true } do
      local host = sim.host { no_fast_path = no_fast_path }
      local dev = assert(host:device("handlers/file.lua", {
        size = 1 << 20, options = "path=" .. path .. ";create=yes",
        write_cache = false,
      }))
      for i = 1, 8 do dev:submit(write(i, "w")) end
      dev.shard:turn(false)
      assert.equal(0, (dev:close("remove")))
      assert.is_true(is_free(path))
      host:close()
    end
    os.remove(path)
  end)

  it("comes once for a stop that a removal overtakes", function()
    local shard = core.shard {}
    local kernel = core.raw.sim()
    shard:add(1, kernel, {
      handler = handler("ram", [[
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        close = function() tcmu.sleep(100) end]]),
      name = "d", hba = "sim", size = 1 << 20, block_size = 512,
      max_sectors = 128, options_text = "",
    })
    shard:turn(false)
    shard:receive()
    shard:change(1, "stop")
    shard:change(1, "remove")
    shard:turn(false)
    shard:change(1, "remove")
    shard:turn(false)
    shard:advance()
    shard:turn(false)
    shard:turn(false)
    local verbs = {}
    for _, r in ipairs(shard:receive()) do
      verbs[#verbs + 1] = r.verb .. " " .. r.status
    end
    assert.same({ "stop -19", "remove -114", "remove 0" }, verbs)
    assert.is_true(shard:close())
    kernel:close()
  end)
end)

describe("a store that two devices serve from", function()
  local SHARED <const> = handler("shared", [[
    open = function(dev)
      _G.shared = _G.shared or tcmu.store.memory(dev.size)
      return { store = _G.shared }
    end]])

  it("stays open for the second when the first has gone", function()
    local host <close> = sim.host()
    local one = assert(host:device(SHARED, { size = 1 << 20 }))
    local two = assert(host:device(SHARED, { size = 1 << 20 }))
    assert.is.good(one:cmd(write(3, "1")))
    one:close("remove")
    local r = two:cmd(read(3))
    assert.is.good(r)
    assert.equal(("1"):rep(BLOCK), r.data)
    assert.is.good(two:cmd(write(3, "2")))
  end)

  it("can be closed by nobody while a device serves from it", function()
    local host <close> = sim.host()
    local source <const> = handler("closer", [[
      open = function(dev)
        _G.shared = _G.shared or tcmu.store.memory(dev.size)
        return { store = _G.shared }
      end,
      on = { [0xC1] = function() _G.shared:close() end }]])
    local one = assert(host:device(source, { size = 1 << 20 }))
    local two = assert(host:device(source, { size = 1 << 20 }))
    one:close("remove")
    assert.has.sense(two:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    assert.is.good(two:cmd(read(0)))
  end)
end)

describe("changing a device", function()
  it("refuses a request that no device knows", function()
    local dev <close> = assert(sim.device "handlers/ram.lua")
    local status, why = dev:change("colour", {})
    assert.equal(-22, status)
    assert.matches("not a request", why)
  end)

  it("happens one after the other, in the order of the requests", function()
    local dev <close> = assert(sim.device("handlers/ram.lua",
                                          { size = 1 << 20 }))
    dev.shard:change(dev.id, "size", { size = 2 << 20 })
    dev.shard:change(dev.id, "size", { size = 3 << 20 })
    dev.shard:change(dev.id, "wwn", { serial = "S" })
    dev.shard:turn(false)
    local verbs = {}
    for _, r in ipairs(dev.shard:receive()) do verbs[#verbs + 1] = r.verb end
    assert.same({ "size", "size", "wwn" }, verbs)
    dev:cmd(scsi.cdb.test_unit_ready())
    local r = dev:cmd(scsi.cdb.read_capacity_10 {})
    assert.equal((3 << 20) // BLOCK - 1, (string.unpack(">I4", r.data)))
  end)

  it("raises CAPACITY DATA HAS CHANGED once after growing", function()
    local dev <close> = assert(sim.device("handlers/ram.lua",
                                          { size = 1 << 20 }))
    assert.equal(0, (dev:change("size", { size = 2 << 20 })))
    assert.has.sense(dev:cmd(scsi.cdb.test_unit_ready()),
                     scsi.CAPACITY_DATA_HAS_CHANGED)
    assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
    assert.is.good(dev:cmd(write((2 << 20) // BLOCK - 1, "e")))
  end)

  it("refuses to shrink, with the way to do it all the same", function()
    local dev <close> = assert(sim.device("handlers/ram.lua",
                                          { size = 2 << 20 }))
    local status, why = dev:change("size", { size = 1 << 20 })
    assert.equal(-22, status)
    assert.matches("%-%-force", why)
    assert.equal(0, (dev:change("size", { size = 1 << 20, force = true })))
  end)

  it("reports what fails with the errno of the store", function()
    local path <const> = os.tmpname()
    local f = assert(io.open(path, "wb"))
    f:write(("\0"):rep(1 << 20))
    f:close()
    local dev <close> = assert(sim.device("handlers/file.lua", {
      size = 1 << 20, options = "path=" .. path .. ";mode=ro" }))
    local status = dev:change("size", { size = 2 << 20 })
    assert.equal(-30, status)                       -- EROFS
    os.remove(path)
  end)
end)

describe("devices of one handler on one shard", function()
  it("share one Lua state, which goes with the last of them", function()
    local host <close> = sim.host()
    local shard = host.shards[1]
    local devs = {}
    for i = 1, 5 do devs[i] = assert(host:device "handlers/ram.lua") end
    assert.equal(1, shard:states())
    for i = 1, 4 do devs[i]:close() end
    assert.equal(1, shard:states())
    devs[5]:close()
    shard:turn(false)
    assert.equal(0, shard:states())
  end)

  it("have one self each", function()
    local host <close> = sim.host()
    local source <const> = handler("own", [[
      open = function(dev)
        return { store = tcmu.store.memory(dev.size), name = dev.name }
      end,
      on = { [0xC1] = function(self, cmd)
        return self.name .. cmd.dev.name
      end }]])
    local a = assert(host:device(source, { name = "a", size = 1 << 20 }))
    local b = assert(host:device(source, { name = "b", size = 1 << 20 }))
    assert.equal("aa", a:cmd(vendor(0xC1)).data)
    assert.equal("bb", b:cmd(vendor(0xC1)).data)
  end)

  it("come and go hundreds of times without leaving anything", function()
    local host <close> = sim.host()
    local stays = assert(host:device "handlers/ram.lua")
    local function round()
      local dev = assert(host:device("handlers/ramdisk.lua",
                                     { size = 1 << 20 }))
      dev:cmd(write(0, "a"))
      dev:submit(vendor(0xC1))
      dev:close(math.random(2) == 1 and "stop" or "remove")
      dev = assert(host:device("handlers/ram.lua", { size = 1 << 20 }))
      dev:cmd(write(0, "a"))
      dev:close()
    end
    -- Between two collections of garbage it grows; the least counts.
    local function least(rounds)
      local least_yet = math.huge
      for _ = 1, rounds do
        round()
        least_yet = math.min(least_yet, stays.shard:memory(stays.id))
      end
      return least_yet
    end
    local before = least(60)
    assert.is_true(least(150) < before + 200000)
    assert.equal(1, stays.shard:states())
  end)
end)

describe("the kernel's own limit of a command", function()
  -- What is logged when a device opens and is used.
  local function logged(max_sectors, block_size)
    local pipe <close> = assert(io.popen(
      ("LUA_PATH='%s' LUA_CPATH='%s' lua5.4 - 2>&1 <<'END'\n%s\nEND"):format(
        package.path, package.cpath, ([[
          local scsi = require "tcmu.scsi"
          local dev <close> = require "tcmu.sim".device("handlers/ram.lua",
            { max_sectors = %d, block_size = %d })
          for _ = 1, 3 do dev:cmd(scsi.cdb.inquiry { length = 96 }) end
          dev:change("wwn", {})]]):format(max_sectors, block_size))))
    return pipe:read "a"
  end

  it("is told once, with what to set for a MiB", function()
    for block_size, sectors in pairs { [512] = 2048, [4096] = 256 } do
      local text, times = logged(128, block_size)
        :gsub("write hw_max_sectors=" .. sectors .. " to", "%0")
      assert.equal(1, times, text)
      assert.equal(1, select(2, text:gsub("\n", "")))
    end
  end)

  it("is not mentioned when somebody has set another", function()
    assert.equal("", logged(2048, 512))
  end)
end)
