--- dev:read and dev:write of a handler without a store: its read and write get
--- other data than the command has that runs.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

-- Blocks in a table; every access waits, the later blocks for longer.
local HANDLER <const> = [[=blocks
  local tcmu = require "tcmu"
  local function wait(offset) tcmu.sleep(100 + offset // 512) end
  return tcmu.handler {
    name = "blocks",
    open = function() return { seen = {} } end,
    read = function(self, cmd, offset)
      wait(offset)
      if offset == 512 * 9 then error "a bad block" end
      cmd.data:put(0, self[offset] or ("-"):rep(512))
    end,
    write = function(self, cmd, offset)
      wait(offset)
      self[offset] = cmd.data:get()
      self.seen = { cmd.opcode, cmd:u8(1), cmd.cdb, cmd.tag, cmd.name,
                    cmd.dev.name, #cmd.data }
    end,
    flush = function() end,
    on = {
      [0xC0] = function(self, cmd)
        local dev = cmd.dev
        %s
      end,
    },
  }]]

-- What the vendor command returns whose function has this body.
local function told(body, data_in)
  local dev <close> = assert(sim.device(HANDLER:format(body),
                                        { name = "disk" }))
  local r = dev:cmd(commands.vendor(0xC0, 7), { data_in = data_in or 4096 })
  assert.is.good(r)
  return r.data
end

describe("dev:read and dev:write side by side", function()
  it("move their own data", function()
    assert.equal("b b", told [[
      local a, b = tcmu.buffer(512), tcmu.buffer(512)
      a:fill(("a"):byte(), 0, 512)
      b:fill(("b"):byte(), 0, 512)
      tcmu.all(function() dev:write(a, 0) end,
               function() dev:write(b, 512) end)
      return self[512]:sub(1, 1) .. " " .. self[512]:sub(-1)]])
    assert.equal("aabb", told [[
      self[0], self[512] = ("a"):rep(512), ("b"):rep(512)
      local a, b = tcmu.buffer(512), tcmu.buffer(512)
      tcmu.all(function() dev:read(a, 0) end, function() dev:read(b, 512) end)
      return a:get(0, 1) .. a:get(511, 1) .. b:get(0, 1) .. b:get(511, 1)]])
  end)

  it("leave the command its data", function()
    assert.equal("xyx", told([[
      local a, b = tcmu.buffer(512), tcmu.buffer(512)
      cmd.data:put(0, "xyx")
      tcmu.all(function() dev:read(a, 0) end, function() dev:read(b, 512) end)
      assert(#cmd.data == 3)]], 3))
  end)
end)

describe("dev:read that fails", function()
  it("leaves the command its data", function()
    assert.equal("xyx", told([[
      cmd.data:put(0, "xyx")
      assert(not pcall(dev.read, dev, tcmu.buffer(512), 512 * 9))
      assert(#cmd.data == 3)]], 3))
  end)
end)

describe("the command that read and write get from dev:read and dev:write",
         function()
  it("is the one that runs but for its data", function()
    assert.equal("192 7 10 ok opcode C0h disk 512 512", told [[
      dev:write(tcmu.buffer(512), 0)
      local s = self.seen
      return ("%d %d %d %s %s %s %d %d"):format(s[1], s[2], #s[3],
        s[4] == cmd.tag and "ok", s[5], s[6], s[7], #self[0])]])
  end)

  it("has its data for data_in, too", function()
    local handler <const> = [[=h
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "h",
        open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
        read = function(self, cmd, offset, length)
          cmd.data_in:copy(0, self.bytes, offset, length)
        end,
        write = function(self, cmd, offset, length)
          self.bytes:copy(offset, cmd.data, 0, length)
        end,
      }]]
    local dev <close> = assert(sim.device(handler))
    assert.is.good(dev:cmd(commands.write(3, 1, "\x0F")))
    assert.is.good(dev:cmd(scsi.cdb.orwrite_16 { lba = 3, blocks = 1 },
                           ("\xF0"):rep(512)))
    assert.is_true(("\xFF"):rep(512) == dev:cmd(commands.read(3)).data)
  end)

  it("splits a range where no command runs", function()
    local handler <const> = [[=h
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "h",
        open = function(dev)
          local self = { parts = 0 }
          tcmu.spawn(function() dev:read(tcmu.buffer(4096), 512) end)
          return self
        end,
        read = function(self, cmd, offset, length)
          for _ in cmd:split(offset, length, 1024) do
            self.parts = self.parts + 1
          end
          assert(#cmd.data == 4096 and cmd.dev.self == self)
        end,
        on = { [0xC0] = function(self) return tostring(self.parts) end },
      }]]
    local dev <close> = assert(sim.device(handler))
    assert.equal("5", dev:cmd(commands.vendor(0xC0), { data_in = 1 }).data)
  end)
end)
