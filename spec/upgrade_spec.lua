--- Reload with commands in flight: what ends on the old functions, what waits,
--- and the handler's upgrade in between.
local commands = require "spec.commands"
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512

local ask <const>, read <const>, write <const> = edited.ask, commands.read,
  commands.write
local told <const>, refusal <const> = edited.told, edited.refusal
local put <const>, says <const> = edited.put, edited.says

describe("a reload", function()
  local host

  before_each(function()
    edited.make()
    host = sim.host { memory_limit = 64 << 20 }
  end)
  after_each(function()
    host:close()
    edited.clean()
  end)

  local function open(options) return edited.open(host, options) end

  -- Lets happen what takes no time.
  local function turns(dev)
    for _ = 1, 5 do dev:run(function() return true end) end
  end

  -- Begins a reload; returns what waits for its end.
  local turn = 1000
  local function begin(dev)
    turn = turn + 1
    assert.equal(0, dev:change("prepare", { turn = turn }))
    dev.shard:change(dev.id, "reload", { turn = turn })
    turns(dev)
    return function()
      local key <const> = dev.id .. "reload"
      dev:run(function() return host.reports[key] end)
      local report = host.reports[key]
      host.reports[key] = nil
      return report.status, report.why
    end
  end

  describe("with commands in flight", function()
    it("lets them end on the old functions", function()
      local body <const> = [[
        on = { [0xC1] = function(self, cmd)
          local page = "%s"
          if cmd:u8(1) == 1 then tcmu.sleep(1000) end
          return page .. helper()
        end }]]
      put(body:format "old", "local function helper() return ' old' end")
      local dev = open()
      local slow = dev:submit(ask(1))
      put(body:format "new", "local function helper() return ' new' end")
      assert.is_true(dev:reload())
      assert.equal("old old", dev:wait(slow).data)
      assert.equal("new new", told(dev))
    end)

    it("has cmd:default() and the device's data come from the old ones too",
       function()
      local body <const> = [[
        read = function(_, cmd) cmd.data:fill(%d, 0, #cmd.data) end,
        inquiry = { product = %q },
        on = { [0xC1] = function(_, cmd)
            tcmu.sleep(1000)
            local buffer = tcmu.buffer(512)
            cmd.dev:read(buffer, 0)
            return buffer
          end,
          [scsi.INQUIRY] = function(_, cmd)
            tcmu.sleep(1000)
            return cmd:default()
          end }]]
      put(body:format(("o"):byte(), "old"))
      local dev = open()
      local inquiry <const> = scsi.cdb.inquiry { length = 96 }
      local data, page = dev:submit(ask()), dev:submit(inquiry)
      put(body:format(("n"):byte(), "new"))
      assert.is_true(dev:reload())
      assert.equal(("o"):rep(512), dev:wait(data).data)
      assert.matches("old", dev:wait(page).data:sub(17, 32))
      assert.matches("new", dev:cmd(inquiry).data:sub(17, 32))
      dev:cmd(scsi.cdb.test_unit_ready())
      assert.equal(("n"):rep(512), dev:cmd(ask()).data)
    end)

    it("holds what comes meanwhile and has the new answer it, in its order",
       function()
      put [[open = function() return {} end,
            on = { [0xC1] = function(_, cmd)
              if cmd:u8(1) == 1 then tcmu.sleep(1000) end
              return "old"
            end }]]
      local dev = open()
      local slow = dev:submit(ask(1))
      put [[upgrade = function(self) tcmu.sleep(1000) self.n = 0 end,
            on = { [0xC1] = function(self)
              self.n = self.n + 1
              return "new " .. self.n
            end }]]
      local over = begin(dev)
      local held = { dev:submit(ask()), dev:submit(ask()) }
      assert.equal(slow, dev:next_done())
      assert.equal("old", slow.result.data)
      held[3] = dev:submit(ask())
      assert.equal(0, over())
      for i = 1, 3 do
        assert.equal("new " .. i, dev:wait(held[i]).data)
      end
      assert.equal(2.0, dev:now())
    end)

    it("loses no write and reads none too early", function()
      local body <const> = [[
        open = function() return { blocks = {} } end,
        read = function(self, cmd, offset, length)
          local parts = {}
          for at = offset, offset + length - 1, 512 do
            parts[#parts + 1] = self.blocks[at] or ("\0"):rep(512)
          end
          tcmu.sleep(math.random(3))
          cmd.data:put(0, table.concat(parts))
        end,
        write = function(self, cmd, offset, length)
          local data = tostring(cmd.data)
          for at = 0, length - 1, 512 do
            tcmu.sleep(math.random(3))
            self.blocks[offset + at] = data:sub(at + 1, at + 512)
          end
        end,
        upgrade = function(self)
          tcmu.sleep(math.random(20))
          local blocks = {}
          for at, block in pairs(self.blocks) do blocks[at] = block end
          return { blocks = blocks }
        end]]
      put(body)
      local dev = open()
      local model, pending = {}, {}
      for round = 1, 40 do
        for _ = 1, 8 do
          local lba = math.random(0, 20)
          local blocks, byte = math.random(4), string.char(math.random(255))
          pending[#pending + 1] = dev:submit(write(lba, blocks, byte))
          for i = lba, lba + blocks - 1 do model[i] = byte end
        end
        local over = round % 2 == 0 and begin(dev)
        for _ = 1, 8 do
          local lba = math.random(0, 20)
          pending[#pending + 1] = dev:submit(write(lba, 1, "."))
          model[lba] = "."
        end
        if over then assert.equal(0, over()) end
      end
      for _, handle in ipairs(pending) do assert.is.good(dev:wait(handle)) end
      for lba, byte in pairs(model) do
        assert.equal(byte:rep(BLOCK), dev:cmd(read(lba, 1)).data)
      end
    end)

    it("gives up on a command that does not end, and the old go on", function()
      put [[on = { [0xC1] = function(_, cmd)
              if cmd:u8(1) == 1 then tcmu.sleep(15000) end
              return "old"
            end }]]
      local dev = open()
      local slow = dev:submit(ask(1))
      says "new"
      local over = begin(dev)
      local held = dev:submit(ask())
      local status, why = over()
      assert.is_true(status < 0)
      assert.matches("a command has been running for 10 s: reload again", why)
      assert.equal("old", dev:wait(held).data)
      assert.equal("old", dev:wait(slow).data)
      assert.is_true(dev:reload())
      assert.equal("new", told(dev))
    end)

    it("is not stopped by what tcmu.spawn has started", function()
      put [[open = function()
              local self = { beats = 0 }
              tcmu.spawn(function()
                while true do tcmu.sleep(100) self.beats = self.beats + 1 end
              end)
              return self
            end]]
      local dev = open()
      put [[on = { [0xC1] = function(self)
              local before = self.beats
              tcmu.sleep(1000)
              return tostring(self.beats - before)
            end }]]
      assert.is_true(dev:reload())
      assert.is_true(tonumber(told(dev)) >= 9)
    end)

    it("waits for what a command has left behind, an immediate flush for one",
       function()
      put [[open = function() return { flushes = 0 } end,
            read = function() end,
            write = function() end,
            flush = function(self)
              tcmu.sleep(3000)
              self.flushes = self.flushes + 1
            end]]
      local dev = open()
      assert.is.good(dev:cmd(scsi.cdb.synchronize_cache_10 { immed = true }))
      assert.equal(0, dev:now())
      put [[read = function() end,
            write = function() end,
            flush = function() end,
            upgrade = function(self) return tostring(self.flushes) end,
            on = { [0xC1] = function(self) return self end }]]
      local over = begin(dev)
      local held = dev:submit(ask())
      assert.equal(0, over())
      assert.equal("1", dev:wait(held).data)
      assert.equal(3.0, dev:now())
    end)

    it("does not wait for a command that wants the range of one that it holds",
       function()
      put [[read = function() end,
            write = function() end,
            on = { [0xC1] = function(self)
              tcmu.sleep(1000)
              local _ <close> = tcmu.lock(self, 0, 512)
              return "old"
            end }]]
      local dev = open()
      local slow = dev:submit(ask())
      local over = begin(dev)
      local held = dev:submit(write(0, 1, "x"))
      assert.equal(0, over())
      assert.equal("old", dev:wait(slow).data)
      assert.is.good(dev:wait(held))
      assert.is_true(dev:now() < 5)
    end)
  end)

  describe("of a device that another one copies to", function()
    local lists = require "spec.copy_lists"
    local BODY <const> = [[version = "%s",
      open = function(dev) return { all = tcmu.buffer(dev.size) } end,
      read = function(self, cmd, offset, length)
        cmd.data:copy(0, self.all, offset, length)
      end,
      write = function(self, cmd, offset)
        tcmu.sleep(1000)
        if self.version ~= %s then tcmu.log("half upgraded", "error") end
        self.all:copy(offset, cmd.data)
      end,
      upgrade = function(self)
        tcmu.sleep(1000)
        local all = tcmu.buffer(#self.all)
        all:copy(0, self.all)
        return { all = all, version = %s }
      end]]
    local from, dev, source, list

    local function target(one)
      return lists.target(lists.designators(one:cmd(scsi.cdb.inquiry {
        evpd = true, page_code = 0x83, length = 255 }).data)[2], BLOCK)
    end

    local function submit_copy()
      return from:submit(scsi.cdb.extended_copy_lid1 { length = #list }, list)
    end

    before_each(function()
      host:close()
      host = sim.host { third_party = true }
      put(BODY:format("1", "nil", "nil"))
      from = assert(host:device("handlers/ram.lua",
                                { size = 1 << 20, serial = "aaaa0001" }))
      dev = open { serial = "aaaa0002" }
      list = lists.lid1(target(from) .. target(dev),
                        lists.segment(0, 1, 8, 0, 16))
      source = lists.numbered(8)
      from:cmd(scsi.cdb.write_16 { lba = 0, blocks = 8 }, source)
      put(BODY:format("2", "2", "2"))
    end)
    after_each(function()
      assert.equal(source, dev:cmd(read(16, 8)).data)
      assert.equal(("\0"):rep(BLOCK), dev:cmd(read(15, 1)).data)
    end)

    it("waits for what the other has begun", function()
      local copying = submit_copy()
      turns(dev)
      local over = begin(dev)
      assert.is_nil(copying.result)
      assert.equal(0, over())
      assert.is.good(copying.result)
      assert.equal(2.0, dev:now())
    end)

    it("holds what the other asks meanwhile", function()
      local over = begin(dev)
      local copying = submit_copy()
      turns(dev)
      assert.is_nil(copying.result)
      assert.equal(0, over())
      assert.is_nil(copying.result)
      assert.is.good(dev:wait(copying))
      assert.equal(2.0, dev:now())
    end)
  end)

  it("of two devices that copy to each other comes to its end", function()
    local lists = require "spec.copy_lists"
    local body <const> = [[version = "%d",
      open = function(dev) return { all = tcmu.buffer(dev.size) } end,
      read = function(self, cmd, offset, length)
        cmd.data:copy(0, self.all, offset, length)
      end,
      write = function(self, cmd, offset)
        tcmu.sleep(500)
        self.all:copy(offset, cmd.data)
      end]]
    host:close()
    host = sim.host { shards = 2, third_party = true }
    put(body:format(1))
    local a, b = open { serial = "aaaa0001" }, open { serial = "aaaa0002" }
    local function target(dev)
      return lists.target(lists.designators(dev:cmd(scsi.cdb.inquiry {
        evpd = true, page_code = 0x83, length = 255 }).data)[2], BLOCK)
    end
    local both <const> = target(a) .. target(b)
    local function copy(dev, from, to)
      local one = lists.segment(from, to, 1, 8, 0)
      local list = lists.lid1(both, one:rep(5))
      return dev:submit(scsi.cdb.extended_copy_lid1 { length = #list }, list)
    end
    local there, back = copy(a, 0, 1), copy(b, 1, 0)
    turns(a)
    put(body:format(2))
    local over_a, over_b = begin(a), begin(b)
    assert.equal(0, over_a())
    assert.equal(0, over_b())
    assert.is.good(a:wait(there))
    assert.is.good(b:wait(back))
  end)

  describe("with upgrade", function()
    local OLD <const> = [[version = "1.0",
      open = function(dev) return { dev = dev, n = 1 } end,
      on = { [0xC1] = function(self) return "old " .. self.n end }]]
    local NEW <const> = [[version = "2.0",
      on = { [0xC1] = function(self) return "new " .. self.n end },
      upgrade = function(self, old, dev) %s end]]
    local dev

    before_each(function()
      put(OLD)
      dev = open { name = "disk7" }
    end)

    local function upgrade(text) put(NEW:format(text)) end

    -- The reload fails, and the device is what it was.
    local function fails(pattern)
      assert.matches(pattern, refusal(dev))
      assert.equal("old 1", told(dev))
      put(OLD)
      assert.is_true(dev:reload())
    end

    it("gets self, the old version and the device", function()
      upgrade "self.n = old .. ' ' .. dev.name .. tostring(dev == self.dev)"
      assert.is_true(dev:reload())
      assert.equal("new 1.0 disk7true", told(dev))
    end)

    it("gets nil from a handler that had no version", function()
      dev:close()
      says "old"
      dev = open()
      put [[version = "2",
            upgrade = function(self, old) return tostring(self) .. tostring(old) end,
            on = { [0xC1] = function(self) return self end }]]
      assert.is_true(dev:reload())
      assert.equal("nilnil", told(dev))
    end)

    it("may return another self, which close gets as well", function()
      upgrade "return { n = 5 }"
      assert.is_true(dev:reload())
      assert.equal("new 5", told(dev))
    end)

    it("may wait, and runs before the new functions do", function()
      upgrade "tcmu.sleep(2000) self.n = 3"
      local over = begin(dev)
      local held = dev:submit(ask())
      turns(dev)
      assert.is_nil(held.result)
      assert.equal(0, over())
      assert.equal("new 3", dev:wait(held).data)
      assert.equal(2.0, dev:now())
    end)

    it("runs once for each device", function()
      local second = open()
      upgrade "self.n = self.n + 1"
      assert.is_true(dev:reload())
      assert.equal("new 2", told(dev))
      assert.equal("new 2", told(second))
    end)

    it("that raises leaves its device with the old functions, others go on",
       function()
      local second = open { name = "disk8" }
      upgrade "if dev.name == 'disk7' then error('not me', 0) end"
      assert.matches("not me", refusal(dev))
      assert.equal("old 1", told(dev))
      assert.equal("new 1", told(second))
      upgrade "self.n = 'from ' .. old"
      assert.is_true(dev:reload())
      assert.equal("new from 1.0", told(dev))
      assert.equal("new from 2.0", told(second))
    end)

    it("that raises a sense value or a table says so in a sentence", function()
      upgrade "error(scsi.INVALID_FIELD_IN_CDB)"
      fails "INVALID FIELD IN CDB"
    end)

    it("that computes without end is stopped", function()
      local core = require "tcmu.core"
      upgrade "while true do end"
      core.budget(5)
      assert.matches("CPU time", refusal(dev))
      core.budget(2000)
      assert.equal("old 1", told(dev))
    end)

    it("that needs more memory than there is is stopped", function()
      upgrade "local t = {} for i = 1, 1 << 40 do t[i] = { i } end"
      fails "memory"
    end)

    it("that does not end is broken off", function()
      upgrade "tcmu.await(function() end)"
      local over = begin(dev)
      local held = dev:submit(ask())
      local status, why = over()
      assert.is_true(status < 0)
      assert.matches("upgrade took longer than 10 s", why)
      assert.equal("old 1", dev:wait(held).data)
    end)

    it("may not change the store", function()
      upgrade "self.store = tcmu.store.memory(1 << 20)"
      assert.matches("changed the store", refusal(dev))
      assert.equal("old 1", told(dev))
    end)

    it("sees the new options, which go again if it fails", function()
      put((OLD:gsub('"old " .. self.n', "tostring(self.dev.options.more)")))
      assert.is_true(dev:reload())
      local more <const> = [[
        options = { more = tcmu.option.integer { 'm', default = 7 } },]]
      put(more .. NEW:format "error('more is ' .. dev.options.more, 0)")
      assert.matches("more is 7", refusal(dev))
      assert.equal("nil", told(dev))
    end)

    it("lets a held command be aborted", function()
      upgrade "tcmu.sleep(2000)"
      local over = begin(dev)
      local held, other = dev:submit(ask()), dev:submit(ask())
      dev:abort(held)
      dev:run(function() return held.result end)
      assert.has.status(held.result, 0x40)
      assert.is_true(dev:now() < 1)
      assert.equal(0, over())
      assert.equal("new 1", dev:wait(other).data)
    end)

    it("lets a held command run out of time", function()
      dev:change("time_out", { cmd_time_out = 2 })
      upgrade "tcmu.sleep(5000)"
      local over = begin(dev)
      local held = dev:submit(ask())
      assert.has.sense(dev:wait(held), scsi.LOGICAL_UNIT_COMMUNICATION_TIME_OUT)
      assert.is_true(dev:now() < 3)
      assert.equal(0, over())
      assert.equal("new 1", told(dev))
    end)

    it("ends before a stop does, with what came meanwhile answered", function()
      upgrade "tcmu.sleep(2000) self.n = 3"
      begin(dev)
      local held = dev:submit(ask())
      turns(dev)
      assert.is_nil(held.result)
      dev.shard:change(dev.id, "stop")
      assert.equal("new 3", dev:wait(held).data)
      dev:run(function() return host.reports[dev.id .. "stop"] end)
      assert.equal(0, host.reports[dev.id .. "stop"].status)
      host.devices[dev.id] = nil
      dev.kernel:close()
    end)

    it("is broken off when the kernel removes the device", function()
      upgrade [[local _ <close> = setmetatable({}, { __close = function()
                  tcmu.log("let go")
                end })
                tcmu.sleep(2000)]]
      begin(dev)
      dev:submit(ask())
      assert.equal(0, dev:close "remove")
      assert.equal(-4, host.reports[dev.id .. "reload"].status)
    end)

    for _, verb in ipairs { "remove", "stop" } do
      it("stands in the way of no " .. verb .. " while it waits for commands",
         function()
        put(OLD:gsub('"old "', 'tcmu.sleep(2000) or "old "') .. "")
        assert.is_true(dev:reload())
        local slow = dev:submit(ask())
        turns(dev)
        upgrade "error('not now', 0)"
        local over = begin(dev)
        local held = dev:submit(ask())
        turns(dev)
        dev.shard:change(dev.id, verb)
        if verb == "stop" then
          assert.equal("old 1", dev:wait(slow).data)
          assert.equal("old 1", dev:wait(held).data)
        end
        assert.is_true(over() < 0)
        dev:run(function() return host.reports[dev.id .. verb] end)
        assert.equal(0, host.reports[dev.id .. verb].status)
        host.devices[dev.id] = nil
        dev.kernel:close()
      end)
    end

    it("is not called when the device is opened with the new file", function()
      upgrade "error 'no'"
      assert.equal("old 1", told(dev))
      local fresh = sim.host()
      local one = assert(fresh:device(edited.path()))
      assert.equal(1, fresh.shards[1]:states())
      one:close()
      fresh:close()
    end)
  end)
end)
