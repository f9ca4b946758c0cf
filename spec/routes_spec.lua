--- Devices of one handler in one state share the functions that answer their
--- commands: they cost little, and each has the commands that are its own.
local commands = require "spec.commands"
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"

local make <const> = scsi.cdb
local MIB <const> = 1 << 20
local SMALL <const> = { ring_size = 1 << 16, data_size = 1 << 16 }

-- INQUIRY says the device's name, C1h how much Lua memory is in use.
local HANDLER <const> = [[
  options = { path = tcmu.option.string { "a file", default = "" },
              mode = tcmu.option.string { "c or r", default = "c" } },
  open = function(dev)
    local o = dev.options
    return { store = o.path == "" and tcmu.store.memory(dev.size)
                     or tcmu.store.file(o.path, o.mode, dev.size) }
  end,
  upgrade = function(self, old, dev)
    if dev.name == "stays" then error("not this one", 0) end
  end,
  on = {
    [scsi.INQUIRY] = function(self, cmd)
      local reply = cmd:default()
      reply:put(16, cmd.dev.name)
      return reply
    end,
    [0xC1] = function()
      collectgarbage()
      collectgarbage()
      return string.pack(">I8", collectgarbage "count" * 1024 // 1 | 0)
    end,
    [0xC2] = function() return "%s" end,
  }]]

local function put(text) edited.put((HANDLER:gsub("%%s", text))) end

describe("devices of one handler", function()
  local host

  before_each(function()
    host = edited.make()
    put "old"
  end)
  after_each(edited.clean)

  local function open(name, options)
    return edited.open { name = name, options = options, size = MIB,
                         kernel = SMALL }
  end

  local function live(dev)
    return (string.unpack(">I8", dev:cmd(edited.ask(), { data_in = 8 }).data))
  end

  it("take little Lua memory each", function()
    local first = open()
    local before <const> = live(first)
    for _ = 1, 100 do open() end
    local each <const> = (live(first) - before) / 100
    assert.is_true(each < 3072, ("%.0f bytes each"):format(each))
  end)

  it("let go of the functions that a reload has replaced", function()
    local dev = open()
    local function reload(times)
      for _ = 1, times do assert.is_true(dev:reload()) end
      return live(dev)
    end
    local before <const> = reload(3)
    local each <const> = (reload(20) - before) / 20
    assert.is_true(each < 256, ("%.0f bytes each"):format(each))
  end)

  it("have the commands that the store of each allows", function()
    local function disk(name, mode)
      edited.file(name, ("x"):rep(MIB))
      return open(name, ("mode=%s;path=%s"):format(mode, edited.path(name)))
    end
    local names <const> = { "synchronize_cache_10", "format_unit" }
    local function has(dev)
      local found = {}
      for _, name in ipairs(names) do
        found[#found + 1] = dev:cmd(make[name] {}).status == 0
        local usage = dev:cmd(make.report_supported_operation_codes {
          reporting_options = 1, requested_operation_code = make[name] {}:byte(),
          allocation_length = 64 }).data
        found[#found + 1] = usage:byte(2) & 7 == 3
      end
      return found
    end
    local all <const>, none <const> = {}, {}
    for i = 1, 2 * #names do all[i], none[i] = true, false end
    assert.same(all, has(disk("a", "c")))
    assert.same(none, has(disk("b", "r")))
    assert.same(all, has(disk("c", "c")))
  end)

  it("have the commands that the port groups of each allow", function()
    local a, b = open(), open()
    local command <const> = make.report_target_port_groups { length = 64 }
    a:change("alua", { groups = "16 0 1 143 0 1 1 1 2" })
    assert.is.good(a:cmd(command))
    assert.has.sense(b:cmd(command), scsi.INVALID_FIELD_IN_CDB, 1, 4)
    a:change("alua", {})
    b:change("alua", { groups = "16 0 1 143 0 1 1 1 2" })
    assert.has.sense(a:cmd(command), scsi.INVALID_FIELD_IN_CDB, 1, 4)
    assert.is.good(b:cmd(command))
  end)

  it("are told apart by a function that they share", function()
    local a, b = open "a", open "b"
    local command <const> = make.inquiry { length = 36 }
    assert.equal("a", a:cmd(command).data:sub(17, 17))
    assert.equal("b", b:cmd(command).data:sub(17, 17))
  end)

  it("have what their own open has put into the handler", function()
    edited.put([[
      options = { more = tcmu.option.boolean { "C2h", default = false } },
      on = { [0xC1] = function() return "one" end },
      open = function(dev)
        dev.handler.on[0xC2] = dev.options.more and function()
          return "two"
        end or nil
        return { store = tcmu.store.memory(dev.size) }
      end]])
    local command <const> = commands.vendor(0xC2)
    local plain, more = open(), open("more", "more=yes")
    assert.has.sense(plain:cmd(command), scsi.INVALID_COMMAND_OPERATION_CODE)
    assert.equal("two", more:cmd(command, { data_in = 3 }).data)
  end)

  it("get unit attentions of their own", function()
    local a, b = open(), open()
    local command <const> = make.read_capacity_10()
    b:change("size", { size = 2 * MIB })
    assert.is.good(a:cmd(command))
    assert.has.sense(b:cmd(command), scsi.CAPACITY_DATA_HAS_CHANGED)
    assert.is.good(b:cmd(command))
    a:change("size", { size = 2 * MIB })
    assert.has.sense(a:cmd(command), scsi.CAPACITY_DATA_HAS_CHANGED)
    assert.is.good(b:cmd(command))
  end)

  it("keep the old functions where a reload has failed", function()
    local goes, stays = open "goes", open "stays"
    put "new"
    assert.is_nil(host:reload())
    local command <const> = "\xC2" .. ("\0"):rep(9)
    local function says(dev) return dev:cmd(command, { data_in = 3 }).data end
    assert.equal("new", says(goes))
    assert.equal("old", says(stays))
    assert.equal("new", says(open "later"))
  end)
end)
