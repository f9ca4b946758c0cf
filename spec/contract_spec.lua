--- The handler contract: what a handler's table may say, and what it is opened
--- with.
local commands = require "spec.commands"
local inline = require "spec.inline"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local STORE <const> = inline.STORE

local device <const>, refusal <const>, source <const> = inline.device,
  inline.refusal, inline.source
local read <const>, vendor <const> = commands.read, commands.vendor

describe("a handler's table", function()
  it("with an unknown key is refused with the nearest known one", function()
    assert.matches("unknown key 'raed', did you mean 'read'",
                   refusal "raed = function() end")
    assert.matches("unknown key 'opne', did you mean 'open'",
                   refusal "opne = function() end")
    assert.matches("unknown key 'zzzzzz'", refusal "zzzzzz = 1")
  end)

  it("with a value of the wrong type is refused", function()
    assert.matches("'open' must be a function, not a table",
                   refusal "open = {}")
    assert.matches("'about' must be a string", refusal "about = 42")
    assert.matches("'version' must be a string", refusal "version = 2")
    assert.matches("'upgrade' must be a function", refusal "upgrade = '2'")
    assert.matches("'on' must be a table", refusal "on = print")
  end)

  it("needs a name of letters, digits, '_' and '-'", function()
    for _, name in ipairs { "", "a b", "a/b", "a;b", "a\nb" } do
      assert.matches("'name'", refusal(STORE, name))
    end
  end)

  it("with an opcode that is none is refused", function()
    for _, key in ipairs { "256", "-1", "1.5", "'x'" } do
      assert.matches("is no opcode", refusal(
        "on = { [" .. key .. "] = function() end }"))
    end
  end)

  it("with an answer that is neither function, table nor false is refused",
     function()
    assert.matches("on%[0xC1%] must be a function",
                   refusal "on = { [0xC1] = 'text' }")
    assert.matches("on%[0x9E%]%[16%] must be a function",
                   refusal "on = { [0x9E] = { [16] = 'text' } }")
  end)

  it("with an inquiry text that does not fit is refused", function()
    assert.matches("inquiry.vendor is a string of up to 8",
                   refusal "inquiry = { vendor = 'nine bytes' }")
    assert.matches("inquiry has no 'vendr', did you mean 'vendor'",
                   refusal "inquiry = { vendr = 'x' }")
  end)

  it("with write and without read is refused", function()
    assert.matches("'write' without 'read'", refusal "write = function() end")
  end)

  it("with an option that was not declared is refused", function()
    assert.matches("option 'path' must be declared",
                   refusal "options = { path = 'x' }")
  end)

  it("is what the file returns", function()
    for _, text in ipairs { "=x\n", "=x\nreturn {}", "=x\nreturn 1" } do
      local dev, why = sim.device(text)
      assert.is_nil(dev)
      assert.matches("x does not return a handler", why)
    end
  end)

  it("that does not compile is refused with the line", function()
    local dev, why = sim.device "=x\nlocal a = \nreturn nil"
    assert.is_nil(dev)
    assert.matches("^x:2: ", why)
  end)

  it("in a file that is not there is refused with its name", function()
    local dev, why = sim.device "/nowhere/h.lua"
    assert.is_nil(dev)
    assert.matches("/nowhere/h.lua", why)
  end)
end)

describe("open", function()
  it("may be absent: then the handler has no self", function()
    local dev <close> = device [[on = {
      [0xC1] = function(self) return tostring(self) end }]]
    assert.equal("nil", dev:cmd(vendor(0xC1)).data)
  end)

  it("gets the device: its names, size and options", function()
    local dev <close> = device([[
      options = { word = tcmu.option.string "a word" },
      open = function(dev)
        return { ("%s %s %d %d %s"):format(dev.name, dev.options.word,
                   dev.size, dev.block_size, dev.wwn.serial) }
      end,
      on = { [0xC1] = function(self) return self[1] end }]],
      { name = "disk7", options = "word=hello", size = 1 << 20,
        block_size = 4096, serial = "S1" })
    assert.equal("disk7 hello 1048576 4096 S1", dev:cmd(vendor(0xC1)).data)
  end)

  it("that returns a store does not go with read, write, unmap or flush",
     function()
    for _, key in ipairs { "read", "unmap", "flush" } do
      assert.matches("'" .. key .. "' would never be called",
                     refusal(STORE .. key .. " = function() end"))
    end
  end)

  it("is not reached by options that are wrong", function()
    local dev, why = sim.device(source [[
      options = { n = tcmu.option.integer "a number" },
      open = function() error "reached" end]], { options = "n=many" })
    assert.is_nil(dev)
    assert.equal("option 'n': 'many' is not an integer", why)
  end)

  it("is not reached by what check refuses", function()
    local dev, why = sim.device(source [[
      options = { n = tcmu.option.integer "a number" },
      check = function(options) assert(options.n > 0, "n is positive") end,
      open = function() error "reached" end]], { options = "n=0" })
    assert.is_nil(dev)
    assert.matches("n is positive", why)
  end)
end)

describe("a kind of device", function()
  it("may be a table of the handler's own", function()
    local dev <close> = device [[
      device = { name = "toy", about = "a toy", on = {
        [0x00] = function() end,
        [0x12] = function() return "toy" end,
      } },
      on = { [0xC1] = function(_, cmd) return cmd.dev.kind.name end }]]
    assert.equal("toy", dev:cmd(vendor(0xC1)).data)
    assert.equal("toy", dev:cmd(scsi.cdb.inquiry { length = 36 }).data)
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INVALID_COMMAND_OPERATION_CODE)
  end)

  it("tcmu.bare answers only what SPC makes mandatory", function()
    local dev <close> = device "device = tcmu.bare"
    assert.is.good(dev:cmd(scsi.cdb.inquiry { length = 36 }))
    assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)
