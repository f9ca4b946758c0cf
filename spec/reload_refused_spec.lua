--- Reload of a file that cannot take over: it is refused, and nothing changes.
local commands = require "spec.commands"
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"

local BLOCK <const> = 512

local told <const>, refusal <const> = edited.told, edited.refusal
local open <const>, put <const>, says <const> = edited.open, edited.put,
  edited.says
local read <const>, write <const> = commands.read, commands.write

describe("a reload", function()
  before_each(edited.make)
  after_each(edited.clean)

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
    it("is refused if a store would be shadowed that is out with its medium",
    function()
      local disc <const> = [[device = require "tcmu.cdrom",
        open = function()
          local function disc() return tcmu.store.memory(1 << 20) end
          return { store = disc(), reload = disc }
        end,]]
      put(disc)
      local dev = open()
      assert.is.good(dev:cmd(scsi.cdb.start_stop_unit { loej = 1 }))
      put(disc .. "read = function() end")
      assert.matches("'read' would never be called", refusal(dev))
    end)

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
end)
