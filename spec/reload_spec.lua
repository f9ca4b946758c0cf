--- Hot reload: a handler's new file takes over devices that are in use.
local commands = require "spec.commands"
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512
local ACTIONS <const> = scsi.cdb.report_supported_operation_codes

local ask <const>, told <const>, refusal <const> = edited.ask, edited.told,
  edited.refusal
local open <const>, put <const>, says <const> = edited.open, edited.put,
  edited.says
local read <const>, write <const> = commands.read, commands.write

describe("a reload", function()
  local host

  before_each(function() host = edited.make() end)
  after_each(edited.clean)

  it("puts the file's new functions into service and keeps self", function()
    put [[open = function() return { n = 0 } end,
          on = { [0xC1] = function(self)
            self.n = self.n + 1
            return "old " .. self.n
          end }]]
    local dev = open()
    assert.equal("old 1", told(dev))
    put [[on = { [0xC1] = function(self)
            self.n = self.n + 1
            return "new " .. self.n
          end }]]
    assert.is_true(dev:reload())
    assert.equal("new 2", told(dev))
  end)

  it("reaches every coroutine that has served a command before", function()
    put [[on = { [0xC1] = function() tcmu.sleep(1) return "old" end }]]
    local dev = open()
    local function all_say(text)
      local asked <const> = {}
      for i = 1, 8 do asked[i] = dev:submit(ask()) end
      for i = 1, 8 do assert.equal(text, dev:wait(asked[i]).data) end
    end
    all_say "old"
    put [[on = { [0xC1] = function() tcmu.sleep(1) return "new" end }]]
    assert.is_true(dev:reload())
    all_say "new"
  end)

  it("goes for every device of the handler, also those on other shards",
     function()
    local two <close> = sim.host { shards = 2 }
    says "old"
    local devs = {}
    for i = 1, 4 do devs[i] = open({}, two) end
    says "new"
    assert.is_true(two:reload())
    for i = 1, 4 do assert.equal("new", told(devs[i])) end
  end)

  it("goes for the devices to come", function()
    says "old"
    local dev = open()
    says "new"
    assert.is_true(dev:reload())
    assert.equal("new", told(open()))
  end)

  it("leaves other handlers alone", function()
    says "old"
    local dev = open()
    local other = assert(host:device("handlers/ramdisk.lua",
                                     { size = 1 << 20 }))
    other:cmd(write(3, 1, "x"))
    says "new"
    assert.is_true(dev:reload())
    assert.equal(("x"):rep(BLOCK), other:cmd(read(3, 1)).data)
  end)

  it("changes nothing where the file has not changed", function()
    put [[open = function() return { pages = {} } end,
          read = function(self, cmd, offset)
            cmd.data:put(0, self.pages[offset] or ("-"):rep(#cmd.data))
          end,
          write = function(self, cmd, offset)
            self.pages[offset] = tostring(cmd.data)
          end]]
    local dev = open()
    dev:cmd(write(0, 1, "a"))
    for _ = 1, 3 do
      assert.is_true(dev:reload())
      assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
      assert.equal(("a"):rep(BLOCK), dev:cmd(read(0, 1)).data)
    end
  end)

  describe("with a store", function()
    it("goes from the store's answer to the handler's and back", function()
      local body <const> = [[
        open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
        %s]]
      put(body:format "")
      local dev = open()
      dev:cmd(write(0, 2, "s"))
      put(body:format [[on = { [scsi.READ_10] = function(_, cmd)
                          cmd:default()
                          return ("h"):rep(512)
                        end }]])
      assert.is_true(dev:reload())
      assert.equal(("h"):rep(BLOCK), dev:cmd(read(0, 1)).data)
      put(body:format "")
      assert.is_true(dev:reload())
      assert.equal(("s"):rep(BLOCK), dev:cmd(read(0, 1)).data)
    end)

    it("has the store of before when that is out with its medium", function()
      local function says_of_disc(text)
        says(text, [[device = require "tcmu.cdrom",
          open = function()
            local function disc() return tcmu.store.memory(1 << 20) end
            return { store = disc(), reload = disc }
          end,]])
      end
      local function tray(start)
        return scsi.cdb.start_stop_unit { loej = 1, start = start }
      end
      says_of_disc "old"
      local dev = open()
      assert.is.good(dev:cmd(tray(0)))
      says_of_disc "new"
      assert(dev:reload())
      assert.equal("new", told(dev))
      assert.is.good(dev:cmd(tray(1)))
      dev:cmd(scsi.cdb.test_unit_ready())
      assert.is.good(dev:cmd(scsi.cdb.read_10 { blocks = 1 },
                             { data_in = 2048 }))
    end)

    it("lets what the store has begun end first", function()
      put [[open = function(dev)
              return { store = tcmu.store.file(dev.options.path, "c", dev.size) }
            end,
            options = { path = tcmu.option.path "the file" }]]
      local dev = open { options = edited.path "disk" }
      local handles = {}
      for i = 0, 63 do
        handles[i] = dev:submit(write(i * 16, 16, string.char(65 + i % 26)))
      end
      assert.is_true(dev:reload())
      for i = 0, 63 do
        assert.is.good(dev:wait(handles[i]))
        assert.equal(string.char(65 + i % 26):rep(16 * BLOCK),
                     dev:cmd(read(i * 16, 16)).data)
      end
    end)
  end)

  it("goes from on[READ] to read, by the short way too", function()
    put [[on = { [scsi.READ_10] = function(self, cmd)
            return ("o"):rep(#cmd.data)
          end }]]
    local dev = open()
    assert.equal(("o"):rep(BLOCK), dev:cmd(read(0, 1)).data)
    put [[read = function(_, cmd, _, length)
            cmd.data:put(0, ("n"):rep(length))
          end]]
    assert.is_true(dev:reload())
    assert.equal(("n"):rep(BLOCK), dev:cmd(read(0, 1)).data)
    assert.is.good(dev:cmd(scsi.cdb.read_16 { lba = 0, length = 1 }))
  end)

  it("gains write, flush and unmap, and advertises them", function()
    local body <const> = [[
      open = function() return { log = {} } end,
      read = function(self, cmd) cmd.data:put(0, table.concat(self.log, " ")) end,
      %s]]
    put(body:format "")
    local dev = open()
    assert.is_not.good(dev:cmd(write(0, 1, "x")))
    local function unmaps()
      return dev:cmd(ACTIONS { reporting_options = 1,
        requested_operation_code = 0x42, length = 100 }).data:byte(2) & 7
    end
    assert.equal(1, unmaps())
    put(body:format [[
      write = function(self) table.insert(self.log, "write") end,
      flush = function(self) table.insert(self.log, "flush") end,
      unmap = function(self) table.insert(self.log, "unmap") end]])
    assert.is_true(dev:reload())
    dev:cmd(scsi.cdb.test_unit_ready())
    assert.equal(3, unmaps())
    assert.is.good(dev:cmd(write(0, 1, "x")))
    assert.is.good(dev:cmd(scsi.cdb.unmap { parameter_list_length = 24 },
      string.pack(">I2I2I4I8I4I4", 22, 16, 0, 0, 1, 0)))
    assert.matches("^write flush unmap flush", dev:cmd(read(0, 1)).data)
  end)

  it("is followed by REPORT SUPPORTED OPERATION CODES", function()
    local function has(dev, opcode)
      return dev:cmd(ACTIONS { reporting_options = 1,
        requested_operation_code = opcode, length = 100 }).data:byte(2) & 7
    end
    put [[on = { [0xC1] = function() end }]]
    local dev = open()
    assert.same({ 5, 1 }, { has(dev, 0xC1), has(dev, 0xC2) })
    put [[on = { [0xC2] = function() end }]]
    assert.is_true(dev:reload())
    assert.same({ 1, 5 }, { has(dev, 0xC1), has(dev, 0xC2) })
    assert.has.sense(dev:cmd(ask()), scsi.INVALID_COMMAND_OPERATION_CODE)
  end)

  describe("of what INQUIRY says", function()
    local body <const> = [[inquiry = { product = %q }, version = %q]]
    local dev

    before_each(function()
      put(body:format("mine", "1"))
      dev = open()
    end)

    it("is told by a unit attention, once for each device", function()
      local other = open()
      put(body:format("yours", "2"))
      assert.is_true(dev:reload())
      for _, one in ipairs { dev, other } do
        local page = one:cmd(scsi.cdb.inquiry { length = 96 })
        assert.matches("yours", page.data:sub(17, 32))
        assert.has.sense(one:cmd(scsi.cdb.test_unit_ready()),
                         scsi.INQUIRY_DATA_HAS_CHANGED)
        assert.is.good(one:cmd(scsi.cdb.test_unit_ready()))
      end
    end)

    it("is not told if it has not changed", function()
      put(body:format("mine", "2"))
      assert.is_true(dev:reload())
      assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
    end)

    it("does not displace an attention that has not been told yet", function()
      dev:change("size", { size = 2 << 20 })
      put(body:format("yours", "2"))
      assert.is_true(dev:reload())
      assert.has.sense(dev:cmd(scsi.cdb.test_unit_ready()),
                       scsi.CAPACITY_DATA_HAS_CHANGED)
    end)
  end)

  describe("of modules", function()
    local USES <const> = "local part = require 'part'"
    local ANSWER <const> = [[on = { [0xC1] = function()
      return part.text() .. " " .. (require "part.more") end }]]

    before_each(function()
      os.execute("mkdir " .. edited.path "part")
      edited.file("part/more.lua", "return 'more'")
    end)

    local function part(text)
      edited.file("part.lua", ("return { text = function() return %q end }")
                             :format(text))
    end

    it("loads those of the handler's folder anew", function()
      part "a"
      put(ANSWER, USES)
      local dev = open()
      assert.equal("a more", told(dev))
      part "b"
      edited.file("part/more.lua", "return 'less'")
      assert.is_true(dev:reload())
      assert.equal("b less", told(dev))
    end)

    it("leaves those of the host as they are", function()
      put([[on = { [0xC1] = function() return tostring(same) end }]],
          "seen = seen or tcmu.buffer; same = seen == require('tcmu').buffer "
          .. "and require('tcmu.scsi') == package.loaded['tcmu.scsi']")
      local dev = open()
      assert.is_true(dev:reload())
      assert.equal("true", told(dev))
    end)

    it("keeps the old ones and the globals if the file is refused", function()
      part "a"
      put([[on = { [0xC1] = function()
              return part.text() .. require("part").text() .. word .. tostring(extra)
            end }]], USES .. " word = 'w'")
      local dev = open()
      assert.equal("aawnil", told(dev))
      part "b"
      put(ANSWER, USES .. " word = 'x' extra = 'e' error 'no'")
      refusal(dev)
      assert.equal("aawnil", told(dev))
      put(ANSWER, USES .. " word = 'x' extra = 'e' while true do end")
      local core = require "tcmu.core"
      core.budget(5)
      refusal(dev)
      core.budget(2000)
      assert.equal("aawnil", told(dev))
    end)

    it("keeps a global that the file takes away until it is accepted", function()
      put("on = { [0xC1] = function() return words[1] end }",
          "words = { 'w' }")
      local dev = open()
      local gone <const> = "on = { [0xC1] = function() "
        .. "return tostring(words) end }"
      put(gone, "local no = error; words, _G, next, rawset, package = nil; no()")
      refusal(dev)
      assert.equal("w", told(dev))
      put(gone, "words = nil")
      assert.is_true(dev:reload())
      assert.equal("nil", told(dev))
    end)

    it("tells the line of a mistake in one", function()
      part "a"
      put(ANSWER, USES)
      local dev = open()
      edited.file("part.lua", "return {\n")
      assert.matches("part.lua:", refusal(dev))
      assert.equal("a more", told(dev))
    end)
  end)

  it("comes a hundred times without leaving anything", function()
    local body <const> = [[version = "%d",
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [0xC1] = function() return part.text end,
             [0xC2] = function() collectgarbage() end },
      upgrade = function(self) return { store = self.store } end]]
    local dev, second
    local function reloads(from, to)
      for i = from, to do
        edited.file("part.lua", ("return { text = %q, room = ('x'):rep(10000) }")
                               :format(tostring(i)))
        put(body:format(i), "local part = require 'part'")
        if i == 0 then
          dev, second = open(), open()
        else
          assert.is_true(dev:reload())
        end
        assert.equal(tostring(i), told(dev))
        assert.equal(tostring(i), told(second))
        dev:cmd(write(0, 1, "x"))
      end
    end
    local function left()               -- when garbage has been collected
      assert.is.good(dev:cmd("\xC2" .. ("\0"):rep(9)))
      return dev.shard:memory(dev.id)
    end
    reloads(0, 10)
    local before <const> = left()
    reloads(11, 110)
    assert.is_true(left() < before + 50000)
  end)
end)
