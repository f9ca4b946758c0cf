--- Reload with commands in flight: what ends on the old functions, what waits
--- for the new ones, and what other devices have under way.
local commands = require "spec.commands"
local edited = require "spec.edited"
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"

local BLOCK <const> = 512

local ask <const>, told <const> = edited.ask, edited.told
local begin <const>, turns <const> = edited.begin, edited.turns
local open <const>, put <const>, says <const> = edited.open, edited.put,
  edited.says
local read <const>, write <const> = commands.read, commands.write

-- How EXTENDED COPY names a device.
local function target(dev) return lists.target(lists.names(dev)[2]) end

describe("a reload", function()
  before_each(edited.make)
  after_each(edited.clean)

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

    local function submit_copy()
      return from:submit(scsi.cdb.extended_copy_lid1 { length = #list }, list)
    end

    before_each(function()
      local host = edited.host { third_party = true }
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
    local body <const> = [[version = "%d",
      open = function(dev) return { all = tcmu.buffer(dev.size) } end,
      read = function(self, cmd, offset, length)
        cmd.data:copy(0, self.all, offset, length)
      end,
      write = function(self, cmd, offset)
        tcmu.sleep(500)
        self.all:copy(offset, cmd.data)
      end]]
    edited.host { shards = 2, third_party = true }
    put(body:format(1))
    local a, b = open { serial = "aaaa0001" }, open { serial = "aaaa0002" }
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
end)
