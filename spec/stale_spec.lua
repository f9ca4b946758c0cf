--- Data-In starts with what the last command has left there.  None of it leaves
--- with GOOD, whatever a handler does to its buffer, or fails to do.
local commands = require "spec.commands"
local inline = require "spec.inline"
local scsi = require "tcmu.scsi"

local LENGTH <const> = 4096
local OLD <const> = 0x5A

describe("the data area", function()
  local dev

  local function open(fields, options)
    dev = inline.device(fields, options)
    dev.kernel:poison(OLD)
    return dev
  end
  after_each(function()
    dev:close()
    dev = nil
  end)

  -- `body` is the answer to a vendor command: a function of (self, cmd).
  local function answer(body, more)
    open(([[
      open = function(dev)
        local path <const> = os.tmpname()
        os.remove(path)
        return { store = tcmu.store.memory(dev.size), path = path,
                 file = tcmu.store.file(path, "c", 1 << 20,
                                        { reads = "async", aio = "threads" }) }
      end,
      close = function(self) os.remove(self.path) end,
      on = { [0xC1] = function(self, cmd) %s end }, %s]])
      :format(body, more or ""))
    local r = dev:cmd(commands.vendor(0xC1), { data_in = LENGTH })
    assert.is.good(r)
    return r.data or ""
  end

  local function clean(text)
    assert.is_nil(text:find(string.char(OLD), 1, true))
  end

  it("is clear before something is joined to all of it by OR", function()
    local data = answer "cmd.data:bor(0, ('\\1'):rep(#cmd.data))"
    assert.equal(("\1"):rep(LENGTH), data)
  end)

  it("is clear before it is copied onto itself", function()
    clean(answer "cmd.data:copy(0, cmd.data)")
  end)

  for where, body in pairs {
    ["a gsub callback"] = [[
      ("x"):gsub("x", function()
        pcall(self.store.read, self.store, cmd.data, 0)
      end)]],
    ["a comparator"] = [[
      table.sort({ 1, 2 }, function(a, b)
        pcall(self.store.read, self.store, cmd.data, 0)
        return a < b
      end)]],
    ["a coroutine of the handler's own"] = [[
      coroutine.wrap(function()
        pcall(self.store.read, self.store, cmd.data, 0)
      end)()]],
  } do
    it("stays unset if a read is refused in " .. where, function()
      clean(answer(body))
    end)
  end

  it("is clear where a read has failed half way", function()
    local data = answer [[
      io.open(self.path, "w"):write(("d"):rep(1024)):close()
      assert(not pcall(self.file.read, self.file, cmd.data, 0))]]
    clean(data)
  end)

  it("is clear where a read has failed that nobody waited for any more",
      function()
    clean(answer [[
      io.open(self.path, "w"):close()
      assert(not pcall(tcmu.all,
        function() self.file:read(cmd.data, 0) end,
        function() error "no" end))]])
  end)

  for how, text in pairs {
    ["as a string"] = "cmd.data:get()",
    ["as a number"] = "string.pack('>I8', cmd.data:u64(8)):rep(64)",
    ["by a comparison"] =
      "(cmd.data:compare(0, ('Z'):rep(length)) and 'Z' or 'A'):rep(length)",
    ["for a copy"] = [[
      (function()
        local copy <const> = tcmu.buffer(length)
        copy:copy(0, cmd.data)
        return copy
      end)()]],
  } do
    it("is clear where a read takes " .. how .. " what it has not set",
        function()
      open(("read = function(_, cmd, _, length) return %s end"):format(text))
      local r = dev:cmd(commands.read(0))
      assert.is.good(r)
      clean(r.data)
    end)
  end

  it("does not get onto the disk", function()
    open(inline.STORE .. [[on = {
      [scsi.READ_10] = function(self, cmd)
        self.store:write(cmd.data, 0)
      end }]])
    dev:cmd(commands.read(0))
    clean(dev:cmd(scsi.cdb.read_16 { lba = 0, length = 1 }).data)
  end)

  it("does not count as set where Data-Out of a bidirectional command was",
      function()
    open(inline.STORE .. [[on = {
      [0xC1] = function(_, cmd) cmd.data:fill(1) end,
      [0xC2] = function(_, cmd)
        cmd.data:set8(0, 65)
        local sent <const> = cmd.data:get()
        cmd.data_in:put(1, sent)
      end }]])
    local function ask(opcode)
      return dev:cmd(commands.vendor(opcode), { data_out = "sent",
                                                data_in = LENGTH }).data
    end
    assert.equal("", (ask(0xC1):gsub("\0", "")))
    assert.equal("\0Aent" .. ("\0"):rep(LENGTH - 5), ask(0xC2))
  end)
end)
