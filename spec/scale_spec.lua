--- A thousand idle devices: they cost neither a thousand states nor threads,
--- the last of them is made as the first was, and nobody waits for a slow one.
local core = require "tcmu.core"
local devices = require "tcmu.devices"
local events = require "tcmu.events"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local scsi = require "tcmu.scsi"
local tree = require "spec.tree"
local uv = require "luv"

local MANY <const>, SHARDS <const> = 1000, 4
local MIB <const> = 1 << 20

local function fields(handler)
  return {
    handler = handler, hba = "sim", name = "d", config = "sim/",
    options_text = "", size = MIB, block_size = 512, max_sectors = 2048,
  }
end

-- Adds a device to a shard of the simulator; does not wait.
local function add(shard, id, handler)
  local kernel = core.raw.sim { ring_size = 1 << 16, data_size = 1 << 16 }
  shard:add(id, kernel, fields(handler))
  return kernel
end

-- Turns the shard until it has reported the device; returns how often, and the
-- status.
local function await(shard, id)
  for turns = 1, 1000 do
    for _, report in ipairs(shard:receive()) do
      if report.device == id then return turns, report.status end
    end
    shard:turn(false)
  end
  error(("device %d was never reported"):format(id))
end

local function remove(shard, id, kernel)
  shard:change(id, "stop")
  await(shard, id)
  shard:turn(false)
  kernel:close()
end

describe("a thousand devices of one handler", function()
  local shards, kernels, turns, memory, threads

  local function shard_of(id) return shards[id % SHARDS + 1] end

  setup(function()
    core.raise_nofile()
    shards, kernels, turns, memory = {}, {}, {}, {}
    for i = 1, SHARDS do shards[i] = core.shard {} end
    for id = 1, MANY do
      local shard <const> = shard_of(id)
      kernels[id] = add(shard, id, "handlers/ram.lua")
      local status
      turns[id], status = await(shard, id)
      assert.equal(0, status)
      memory[id] = shard:memory(id)
      threads = threads or #files.list "/proc/self/task"
    end
  end)
  teardown(function()
    for id, kernel in ipairs(kernels) do remove(shard_of(id), id, kernel) end
    for _, shard in ipairs(shards) do
      for _ = 1, 100 do shard:turn(false) end
      assert.equal(0, shard:states())
      assert.is_true(shard:close())
    end
  end)

  it("share a Lua state on each shard", function()
    for _, shard in ipairs(shards) do assert.equal(1, shard:states()) end
  end)

  it("have no threads of their own", function()
    -- Fewer is no fault: the kernel's, for other specs' I/O, end when idle.
    assert.is_true(#files.list "/proc/self/task" <= threads)
  end)

  it("are added in as many turns of the loop, the last as the first",
     function()
    -- The first of a shard loads the handler, which takes no more turns either.
    assert.equal(turns[1], turns[MANY])
  end)

  it("cost kilobytes each of their state", function()
    local last <const> = MANY - SHARDS
    local each = (memory[MANY] - memory[MANY - last]) * SHARDS / last
    assert.is_true(each < 32 << 10, each .. " bytes each")
  end)

  it("answer, the last as the first", function()
    for _, id in ipairs { 1, MANY } do
      kernels[id]:submit(scsi.cdb.test_unit_ready(), { data_in = 0 })
      local done
      for _ = 1, 100 do
        shard_of(id):turn(false)
        done = kernels[id]:collect()[1]
        if done then break end
      end
      assert.equal(0, done.status)
    end
  end)
end)

describe("a slow open", function()
  local SLOW <const> = [[=slow
    local tcmu = require "tcmu"
    return tcmu.handler { name = "slow",
      open = function(dev)
        tcmu.sleep(3600000)
        return { store = tcmu.store.memory(dev.size) }
      end }]]

  it("delays no other device of its shard, nor one of its handler", function()
    local shard = core.shard {}
    local slow, also = add(shard, 1, SLOW), add(shard, 2, SLOW)
    local quick = add(shard, 3, "handlers/ram.lua")
    -- The clock is virtual: it does not move by itself.
    local _, status = await(shard, 3)
    assert.equal(0, status)
    assert.is_true(shard:advance())
    local opened = 0
    for _ = 1, 100 do
      opened = opened + #shard:receive()
      shard:turn(false)
    end
    assert.equal(2, opened)
    for id, kernel in ipairs { slow, also, quick } do
      remove(shard, id, kernel)
    end
    assert.is_true(shard:close())
  end)
end)

describe("control", function()
  local root, held, replies, told, answers

  local function take(minor)
    jobs.start(held.log, events.take, held, {
      command = "added", minor = minor, device_id = minor + 100,
      device = ("tcm-user/%d/d/ram/"):format(minor),
    })
  end

  -- What the kernel has of a device.
  local function backstore(minor)
    tree.add(root, tree.backstore(("user_%d/d"):format(minor)))
    tree.add(root, {
      [("uio/uio%d/name"):format(minor)] =
        ("tcm-user/%d/d/ram/\n"):format(minor),
      [("uio/uio%d/maps/map0/size"):format(minor)] = "0x40800000\n",
      [("dev/uio%d"):format(minor)] = "",
    })
  end

  before_each(function()
    root = tree.make { ["proc/net/netlink"] = "" }
    replies, told, answers = 0, {}, true
    held = devices.new {
      netlink = { done = function() replies = replies + 1 return true end },
      pool = {
        count = function() return SHARDS end,
        send = function(_, shard, device, verb)
          table.insert(told, shard)
          if not answers then return end
          held:message { device = device, verb = verb, status = 0 }
        end,
      },
      log = function() end,
      io = files,
      handlers = { ram = "/handlers/ram.lua" },
      roots = {
        configfs = root, uio = root .. "/uio", dev = root .. "/dev",
        proc = root .. "/proc",
      },
    }
  end)
  after_each(function()
    for _, record in pairs(held.by_id) do held:forget(record) end
    uv.run()
    tree.remove(root)
  end)

  it("calls as many functions for the thousandth device as for the second",
     function()
    local function calls(minor)
      local n = 0
      local hook <const> = function() n = n + 1 end
      -- Jobs are coroutines, which have a hook each.
      local create <const> = coroutine.create
      coroutine.create = function(fn) -- luacheck: ignore
        local co = create(fn)
        debug.sethook(co, hook, "c")
        return co
      end
      take(minor)
      coroutine.create = create -- luacheck: ignore
      return n
    end

    backstore(0)
    take(0)
    backstore(1)
    local second <const> = calls(1)
    assert.is_true(second > 100)
    for minor = 2, MANY - 2 do
      held:remember { hba = "user_" .. minor, name = "d", minor = minor,
                      subtype = "ram", config = "ram/" }
    end
    backstore(MANY - 1)
    assert.equal(second, calls(MANY - 1))
    assert.equal(3, replies)
    assert.equal(3, #told)
  end)

  it("answers for a device while another one's open lasts", function()
    backstore(0)
    backstore(1)
    answers = false
    take(0)
    answers = true
    take(1)
    assert.equal(1, replies)
    assert.equal(2, #told)
    held:message { device = 1, verb = "add", status = 0 }
    assert.equal(2, replies)
  end)
end)
