--- Hot reload: a handler's new file takes over devices that are in use.
local commands = require "spec.commands"
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512
local ACTIONS <const> = scsi.cdb.report_supported_operation_codes

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

  local function open(options, on) return edited.open(on or host, options) end

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

  describe("of a file with a mistake", function()
    local dev, second

    before_each(function()
      says("old", "options = { word = tcmu.option.string 'a word' },")
      dev, second = open { options = "word=a" }, open { options = "word=b" }
    end)
    after_each(function()
      for _, one in ipairs { dev, second } do
        assert.equal("old", told(one))
        assert.is.good(one:cmd(scsi.cdb.test_unit_ready()))
      end
      assert.equal("old", told(open { options = "word=c" }))
    end)

    it("is refused with its line if it does not compile", function()
      edited.file("h.lua", "local a =\nreturn nil")
      assert.matches("h.lua:2: ", refusal(dev))
    end)

    it("is refused if it raises", function()
      put("", "error 'not today'")
      assert.matches("not today", refusal(dev))
    end)

    it("is refused if it is not there", function()
      os.remove(edited.path())
      assert.matches("h.lua", refusal(dev))
    end)

    it("is refused if a key is unknown, as when it is opened", function()
      put "upgarde = function() end"
      assert.matches("unknown key 'upgarde', did you mean 'upgrade'",
                     refusal(dev))
    end)

    it("is refused if it has another name", function()
      edited.file("h.lua", "return require('tcmu').handler { name = 'x' }")
      assert.matches("named 'x' instead of 'h'", refusal(dev))
    end)

    it("is refused if it lacks an option that a device has", function()
      says "new"
      assert.matches("option 'word'.*create it again", refusal(dev))
    end)

    it("is refused if an option is new and has no default", function()
      says("new", [[options = { word = tcmu.option.string "a word",
                                size = tcmu.option.size "a size" },]])
      assert.matches("option 'size' is missing.*create it again", refusal(dev))
    end)

    it("is refused for all if one device's value does not fit", function()
      says("new", [[options = { word = tcmu.option.choice { "w", "a", "z" } },]])
      assert.matches("'b' is none of a, z", refusal(dev))
    end)

    it("is refused if check refuses a device's options", function()
      says("new", [[options = { word = tcmu.option.string "a word" },
                    check = function(options)
                      if options.word == "b" then error("no b", 0) end
                    end,]])
      assert.matches("^no b$", refusal(dev))
    end)

    it("is refused if the device is of another kind", function()
      says("new", [[options = { word = tcmu.option.string "a word" },
                    device = tcmu.bare,]])
      assert.matches("'bare'.*'disk'.*create it again", refusal(dev))
    end)

    it("is refused if it waits", function()
      put("", "tcmu.sleep(10)")
      assert.matches("may wait only inside a command", refusal(dev))
    end)

    it("is refused if check waits", function()
      says("new", [[options = { word = tcmu.option.string "a word" },
                    check = function() tcmu.sleep(10) end,]])
      assert.matches("may wait only inside a command", refusal(dev))
    end)

    it("is refused if it computes without end, with modules and globals put "
       .. "back", function()
      local core = require "tcmu.core"
      put("", "while true do end")
      core.budget(5)
      assert.matches("more than %d+ ms of CPU time", refusal(dev))
      core.budget(2000)
    end)

    it("is refused if it needs more memory than there is", function()
      put("", "local t = {} for i = 1, 1 << 40 do t[i] = { i } end")
      assert.matches("memory", refusal(dev))
    end)

    it("is taken once the mistake is gone", function()
      put("", "error 'not today'")
      refusal(dev)
      local good <const> = [[options = { word = tcmu.option.string "a word" },]]
      says("new", good)
      assert.is_true(dev:reload())
      assert.equal("new", told(dev))
      says("old", good)
      assert.is_true(dev:reload())
    end)
  end)

  describe("of what a device lives on", function()
    it("is refused if the store would be shadowed", function()
      put "open = function(dev) return { store = tcmu.store.memory(dev.size) } end"
      local dev = open()
      dev:cmd(write(1, 1, "s"))
      put "read = function() end"
      assert.matches("'read' would never be called", refusal(dev))
      assert.equal(("s"):rep(BLOCK), dev:cmd(read(1, 1)).data)
    end)

    it("is refused if initiators would lose an ability", function()
      local all = { "read", "write", "flush", "unmap" }
      local function with(without)
        local fields = {}
        for _, name in ipairs(all) do
          if name ~= without then
            fields[#fields + 1] = name .. " = function() end,"
          end
        end
        put(table.concat(fields, " "))
      end
      with(nil)
      local dev = open()
      for _, name in ipairs { "write", "flush", "unmap" } do
        with(name)
        assert.matches("no '" .. name .. "' any more.*create it again",
                       refusal(dev))
      end
      put ""
      assert.matches("no 'read' any more", refusal(dev))
    end)

    it("goes on with an option that is new and has a default", function()
      local body <const> = [[
        options = { %s },
        open = function(dev) return dev end,
        on = { [0xC1] = function(dev)
          return ("%%s %%s"):format(dev.options.word, dev.options.more)
        end }]]
      put(body:format "word = tcmu.option.string 'a word'")
      local dev = open { options = "hello" }
      assert.equal("hello nil", told(dev))
      put(body:format [[word = tcmu.option.string 'a word',
                        more = tcmu.option.integer { 'more', default = 7 }]])
      assert.is_true(dev:reload())
      assert.equal("hello 7", told(dev))
    end)

    it("is refused if a value without a name would go to another option",
       function()
      put "options = { word = tcmu.option.string 'a word' }"
      local dev = open { options = "hello" }
      put [[options = {
              first = tcmu.option.string { 'the first', default = 'x' },
              word = tcmu.option.string { 'a word', default = 'y' } }]]
      assert.matches("first option is now 'first'.*'hello' was meant for 'word'",
                     refusal(dev))
    end)

    it("is refused while a FORMAT UNIT is running", function()
      local body <const> = [[
        read = function() end,
        write = function() tcmu.sleep(100) end,
        on = { [0xC1] = function() return "%s" end }]]
      put(body:format "old")
      local dev = open { size = 8 << 20 }
      local format <const> = scsi.cdb.format_unit { fmtdata = true }
      assert.is.good(dev:cmd(format, "\0\2\0\0"))
      put(body:format "new")
      assert.matches("FORMAT UNIT or SANITIZE is running", refusal(dev))
      dev:run(function() return false end)
      assert.equal("old", told(dev))
      assert.is_true(dev:reload())
      assert.equal("new", told(dev))
    end)
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
