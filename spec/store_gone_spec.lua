--- A store that its device lets go of, as of a medium that is taken out.
local commands = require "spec.commands"
local inline = require "spec.inline"

local BLOCK <const> = 512

-- C1 lets go of the store; it and C2 tell whether the file is free.
local FIELDS <const> = [[
  open = function()
    return { store = tcmu.store.file(PATH, "rw", 0,
                                     { reads = "async", aio = "threads" }) }
  end,
  on = {
    [0xC1] = function(self, cmd)
      self.store, cmd.dev.store = nil, nil
      cmd.dev.handle():set("store", nil)
      return is_free()
    end,
    [0xC2] = function() return is_free() end,
  }]]

describe("a store that its device lets go of", function()
  local path, dev

  before_each(function()
    path = os.tmpname()
    local f <close> = assert(io.open(path, "wb"))
    f:write(("d"):rep(1 << 20))
    dev = inline.device(FIELDS, { size = 1 << 20 }, ([[
      local PATH <const> = %q
      local function is_free()
        collectgarbage()
        collectgarbage()
        local free <const>, store = pcall(tcmu.store.file, PATH)
        if free then store:close() end
        return free and "free" or "used"
      end]]):format(path))
  end)
  after_each(function()
    dev:close()
    os.remove(path)
  end)

  local function told(handle)
    return (dev:wait(handle).data:gsub("%z", ""))
  end

  it("is closed when nobody uses it any more", function()
    assert.equal("free", told(dev:submit(commands.vendor(0xC1))))
  end)

  it("stays open for what it does without Lua", function()
    local reading <const> = dev:submit(commands.read(0))
    local gone <const> = dev:submit(commands.vendor(0xC1))
    assert.equal("used", told(gone))
    assert.equal(("d"):rep(BLOCK), dev:wait(reading).data)
    assert.equal("free", told(dev:submit(commands.vendor(0xC2))))
  end)

  it("is not asked any more", function()
    dev:cmd(commands.vendor(0xC1))
    assert.is_not.good(dev:cmd(commands.read(0)))
    assert.is_not.good(dev:cmd(commands.write(0, 1, "x")))
  end)
end)
