--- Shards: two without threads in the simulator, and real threads as control
--- talks to them.
local core = require "tcmu.core"
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local MAP <const> = 1 << 16

-- A file that looks like an idle mailbox: a shard maps it and loads the
-- handler, but a file cannot be polled as /dev/uioN can.
local function mailbox()
  local path <const> = os.tmpname()
  local f = assert(io.open(path, "wb"))
  local head = string.pack("<I2I2I4I4I4", 2, 0xF, 128, (MAP >> 1) - 128, 0)
  f:write(head, ("\0"):rep(MAP - #head))
  f:close()
  return path
end

local function fields(more)
  local all = {
    handler = "handlers/ram.lua", uio = "/nowhere/uio7", map_size = MAP,
    name = "d", hba = "user_0", config = "ram/", options_text = "",
    size = 1 << 20, block_size = 512, max_sectors = 128,
  }
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

-- Collects reports until there are n of them.
local function collect(shards, n)
  local all = {}
  for _ = 1, 1000 do
    for _, report in ipairs(shards:receive()) do all[#all + 1] = report end
    if #all >= n then return all end
    os.execute "sleep 0.01"
  end
  error(("only %d of %d reports came"):format(#all, n))
end

describe("shards with threads", function()
  it("start and stop, as many as asked for", function()
    for count = 1, 4 do
      local shards = core.shards { count = count }
      assert.equal(count, shards:count())
      assert.is_true(shards:stop())
      assert.has_error(function() shards:count() end)
    end
  end)

  it("refuse a number of threads that makes no sense", function()
    for _, count in ipairs { 0, -1, 257, 1 << 40 } do
      assert.has_error(function() core.shards { count = count } end)
    end
  end)

  it("refuse to add what cannot be opened, with a sentence", function()
    local shards = core.shards { count = 2 }
    shards:send(1, 17, "add", fields())
    shards:send(2, 18, "add", fields { uio = "/tmp" })
    local all = collect(shards, 2)
    table.sort(all, function(a, b) return a.device < b.device end)
    assert.equal(17, all[1].device)
    assert.equal("add", all[1].verb)
    assert.equal(-2, all[1].status)
    assert.matches("^/nowhere/uio7 cannot be opened: No such file", all[1].why)
    assert.equal(18, all[2].device)
    assert.is_true(all[2].status < 0)
    assert.is_true(shards:stop())
  end)

  it("refuse a mapping that is no mailbox", function()
    local shards = core.shards { count = 1 }
    shards:send(1, 1, "add", fields { uio = "/dev/zero" })
    local report = collect(shards, 1)[1]
    assert.equal(-71, report.status)
    assert.is_string(report.why)
    assert.is_true(shards:stop())
  end)

  it("refuse requests for devices that they do not have", function()
    local shards = core.shards { count = 1 }
    for _, verb in ipairs { "remove", "stop", "size", "wwn" } do
      shards:send(1, 5, verb, {})
    end
    for i, report in ipairs(collect(shards, 4)) do
      assert.equal(({ "remove", "stop", "size", "wwn" })[i], report.verb)
      assert.equal(-19, report.status)
      assert.equal("there is no such device", report.why)
    end
    assert.is_true(shards:stop())
  end)

  it("refuse a handler that does not load, with its own words", function()
    local path <const> = mailbox()
    local shards = core.shards { count = 1 }
    shards:send(1, 1, "add", fields { uio = path, handler = "=x\nerror('no', 0)" })
    local report = collect(shards, 1)[1]
    assert.equal(-22, report.status)
    assert.equal("no", report.why)
    assert.is_true(shards:stop())
    os.remove(path)
  end)

  it("load handlers side by side, and luv with them", function()
    local path <const> = mailbox()
    local shards = core.shards { count = 4, memory_limit = 64 << 20 }
    local source <const> = "=many%d\n" .. (pcall(require, "luv") and
      "local uv = require 'luv' uv.new_timer():start(1, 1, print)\n" or "") ..
      [[local tcmu = require "tcmu"
        return tcmu.handler { name = "many", open = function(dev)
          return { store = tcmu.store.memory(dev.size) } end }]]
    local n = 0
    for round = 1, 5 do
      for shard = 1, 4 do
        n = n + 1
        shards:send(shard, n, "add", fields {
          uio = path, handler = source:format(round) })
      end
    end
    local seen = {}
    for _, report in ipairs(collect(shards, n)) do
      assert.matches("cannot be polled", report.why)
      seen[report.device] = true
    end
    assert.equal(n, #seen)
    assert.is_true(shards:stop())
    os.remove(path)
  end)

  it("stop although a request of luv is stuck", function()
    if not pcall(require, "luv") then pending "luv is not installed" return end
    local path <const>, fifo <const> = mailbox(), os.tmpname()
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo))
    local shards = core.shards { count = 1 }
    shards:send(1, 1, "add", fields { uio = path, handler = ([[=stuck
      require "luv".fs_open(%q, "r", 0, function() end)
      local tcmu = require "tcmu"
      return tcmu.handler { name = "stuck" }]]):format(fifo) })
    assert.matches("cannot be polled", collect(shards, 1)[1].why)
    finally(function()
      -- Waits for the worker to come; without this the process cannot end.
      assert(io.open(fifo, "w")):close()
      os.remove(fifo)
      os.remove(path)
    end)
    assert.is_true(shards:stop())
  end)

  it("make the descriptor readable that control waits on", function()
    local shards = core.shards { count = 1 }
    assert.is_true(math.type(shards:fd()) == "integer")
    shards:send(1, 1, "remove", {})
    collect(shards, 1)
    assert.same({}, shards:receive())
    assert.is_true(shards:stop())
  end)

  it("take hundreds of messages from control without losing one", function()
    local shards = core.shards { count = 3 }
    for i = 1, 900 do
      shards:send(i % 3 + 1, i, "size", { size = i, text = ("x"):rep(i) })
    end
    local seen = {}
    for _, report in ipairs(collect(shards, 900)) do
      seen[report.device] = true
    end
    assert.equal(900, #seen)
    assert.is_true(shards:stop())
  end)

  it("refuse messages that cannot be sent", function()
    local shards = core.shards { count = 1 }
    assert.has_error(function() shards:send(2, 1, "add", {}) end)
    assert.has_error(function() shards:send(0, 1, "add", {}) end)
    assert.has_error(function() shards:send(1, 1, "add", { t = {} }) end)
    assert.has_error(function() shards:send(1, 1, "add", { "x" }) end)
    assert.has_error(function() shards:send(1, 1, "add", { x = 1.5 }) end)
    assert.is_true(shards:stop())
  end)
end)

-- Real threads on simulated kernels, whose initiators are here.
describe("devices of several threads", function()
  local BLOCK <const> = 512
  local make <const> = scsi.cdb
  local shards, kernels, ended

  -- Polls until over() gives something.
  local function wait(over)
    for _ = 1, 3000 do
      for _, report in ipairs(shards:receive()) do
        ended[report.device .. report.verb] = report
      end
      for _, kernel in pairs(kernels) do
        for _, done in ipairs(kernel.sim:collect()) do
          kernel.done[done.tag] = done
        end
      end
      local result = over()
      if result then return result end
      os.execute "sleep 0.01"
    end
    error "that does not end"
  end

  local function reported(id, verb)
    local report = wait(function() return ended[id .. verb] end)
    ended[id .. verb] = nil
    return report
  end

  local function add(shard, id, more)
    kernels[id] = { sim = core.raw.sim(), done = {} }
    local all <const> = fields { write_cache = true, cmd_time_out = 30,
                                 serial = ("%08x"):format(id),
                                 size = 8 << 20, max_sectors = 2048 }
    for key, value in pairs(more or {}) do all[key] = value end
    shards:add(shard, id, kernels[id].sim, all)
    local report = reported(id, "add")
    assert.equal(0, report.status, report.why)
  end

  local function submit(id, cdb, what)
    return kernels[id].sim:submit(cdb, what)
  end

  local function result(id, tag)
    return wait(function() return kernels[id].done[tag] end)
  end

  local function cmd(id, cdb, what) return result(id, submit(id, cdb, what)) end

  local function target(id)
    local page = cmd(id, make.inquiry { evpd = true, page_code = 0x83,
                                        length = 255 }, { data_in = 255 }).data
    return lists.target(lists.designators(page)[2])
  end

  local function copy(asked, from, to, blocks, id)
    local list = lists.lid1(target(from) .. target(to),
                            lists.segment(0, 1, blocks, 0, 0), id)
    return submit(asked, make.extended_copy_lid1 { length = #list },
                  { data_out = list })
  end

  local function start(count)
    kernels, ended = {}, {}
    shards = core.shards { count = count, third_party = true }
  end

  local function stop()
    for id in pairs(kernels) do shards:send((id - 1) % shards:count() + 1, id,
                                            "stop") end
    for id in pairs(kernels) do reported(id, "stop") end
    assert.is_true(shards:stop())
    for _, kernel in pairs(kernels) do kernel.sim:close() end
  end

  it("copy to each other, all at the same time", function()
    start(3)
    for id = 1, 6 do
      add((id - 1) % 3 + 1, id,
          { handler = id % 2 == 0 and "handlers/ramdisk.lua" or nil })
      local tag = submit(id, make.write_16 { lba = 0, blocks = 2000 },
                         { data_out = lists.numbered(2000, BLOCK, id) })
      assert.equal(0, result(id, tag).status)
    end
    local running = {}
    for id = 1, 6 do
      for n = 1, 3 do
        running[#running + 1] = { id, copy(id, id, (id + n) % 6 + 1, 5000, n) }
      end
    end
    for _, r in ipairs(running) do
      assert.equal(0, result(r[1], r[2]).status)
    end
    assert.equal(0, result(4, copy(4, 6, 1, 2000, 9)).status)
    local function content(id)
      return cmd(id, make.read_16 { lba = 0, blocks = 2000 },
                 { data_in = 2000 * BLOCK }).data
    end
    assert.is_true(content(6) == content(1))
    stop()
  end)

  it("use each other's tokens while somebody writes", function()
    start(3)
    for id = 1, 3 do add(id, id) end
    local good, revoked = 0, 0
    for round = 1, 20 do
      local data = lists.numbered(2000, BLOCK, round)
      assert.equal(0, cmd(1, make.write_16 { lba = 0, blocks = 2000 },
                          { data_out = data }).status)
      local list = string.pack(">s2", string.pack(">BxI4I4xxs2", 0, 0, 0,
                               string.pack(">I8I4xxxx", 0, 2000)))
      assert.equal(0, cmd(1, make.populate_token {
        list_identifier = 1, length = #list }, { data_out = list }).status)
      local token = cmd(1, make.receive_rod_token_information {
        list_identifier = 1, length = 1024 }, { data_in = 1024 }).data:sub(39)
      local running = {}
      for id = 2, 3 do
        list = string.pack(">s2", string.pack(">BxxxxxI8c512xxxxxxs2", 0, 0,
                 token, string.pack(">I8I4xxxx", 0, 2000)))
        running[id] = submit(id, make.write_using_token {
          list_identifier = 1, length = #list }, { data_out = list })
      end
      local late = submit(1, make.write_16 { lba = 1999, blocks = 1 },
                          { data_out = ("x"):rep(BLOCK) })
      for id = 2, 3 do
        if result(id, running[id]).status == 0 then
          good = good + 1
          assert.is_true(data == cmd(id, make.read_16 { lba = 0, blocks = 2000 },
                                     { data_in = 2000 * BLOCK }).data)
        else
          revoked = revoked + 1
        end
      end
      assert.equal(0, result(1, late).status)
    end
    assert.equal(40, good + revoked)
    stop()
  end)

  it("come and go while they are copied to", function()
    start(2)
    add(1, 1)
    add(2, 2)
    local list = target(1) .. target(2)
    local good, bad = 0, 0
    for round = 1, 12 do
      local tags = {}
      for n = 1, 4 do
        local one = lists.lid1(list, lists.segment(0, 1, 16000, 0, 0), n)
        tags[n] = submit(1, make.extended_copy_lid1 { length = #one },
                         { data_out = one })
      end
      if round % 3 == 0 then kernels[1].sim:tmr(5) end
      shards:send(2, 2, round % 2 == 0 and "remove" or "stop")
      reported(2, round % 2 == 0 and "remove" or "stop")
      for _, tag in ipairs(tags) do
        local status = result(1, tag).status
        if status == 0 then good = good + 1 else bad = bad + 1 end
      end
      kernels[2].sim:close()
      add(2, 2)
    end
    assert.equal(48, good + bad)
    assert.is_true(bad > 0)
    stop()
  end)
end)

describe("two shards", function()
  it("have a state each for the same handler", function()
    local host <close> = sim.host { shards = 2 }
    local source <const> = [[=count
      local tcmu = require "tcmu"
      local n = 0
      return tcmu.handler {
        name = "count",
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        on = { [0xC1] = function() n = n + 1 return tostring(n) end },
      }]]
    local cdb <const> = "\xC1" .. ("\0"):rep(9)
    local a, b = assert(host:device(source)), assert(host:device(source))
    local c = assert(host:device(source))           -- beside a
    assert.equal("1", a:cmd(cdb).data)
    assert.equal("1", b:cmd(cdb).data)
    assert.equal("2", c:cmd(cdb).data)
    assert.equal(1, host.shards[1]:states())
    assert.equal(1, host.shards[2]:states())
  end)

  it("wait apart: one sleeps while the other answers", function()
    local host <close> = sim.host { shards = 2 }
    local slow = assert(host:device "handlers/whoami.lua")
    local quick = assert(host:device "handlers/whoami.lua")
    local h = slow:submit("\xC1" .. ("\0"):rep(9))
    slow.shard:turn(false)
    assert.is.good(quick:cmd(scsi.cdb.test_unit_ready()))
    assert.is_nil(h.result)
    assert.equal("asked nicely\0", slow:wait(h).data)
  end)

  it("survive each other's hog", function()
    local host <close> = sim.host { shards = 2, memory_limit = 8 << 20 }
    local source <const> = [[=hog
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "hog",
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        on = { [0xC1] = function()
          local t = {} while true do t[#t + 1] = {} end end },
      }]]
    local a, b = assert(host:device(source)), assert(host:device(source))
    assert.has.sense(a:cmd("\xC1" .. ("\0"):rep(9)),
                     scsi.INTERNAL_TARGET_FAILURE)
    assert.is.good(b:cmd(scsi.cdb.test_unit_ready()))
  end)
end)
