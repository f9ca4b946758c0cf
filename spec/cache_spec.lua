--- Switching the write cache off: what was answered GOOD from it is on stable
--- storage then, and so is what comes.
local commands = require "spec.commands"
local inline = require "spec.inline"
local scsi = require "tcmu.scsi"

local vendor <const>, write <const> = commands.vendor, commands.write
local ABORTED <const> = 0x40

-- A write takes a millisecond for "a", two for "b" and so on, a flush ten; C1
-- makes every flush fail, or none, C2 tells the log.
local SLOW <const> = [[
  open = function() return {} end,
  read = function() end,
  write = function(_, cmd)
    local name <const> = cmd.data:get(0, 1)
    log[#log + 1] = "+" .. name
    tcmu.sleep(name:byte() - 96)
    log[#log + 1] = "-" .. name
  end,
  flush = function(self)
    log[#log + 1] = "+f"
    tcmu.sleep(10)
    if self.broken then error "cannot" end
    log[#log + 1] = "-f"
  end,
  on = {
    [0xC1] = function(self, cmd) self.broken = cmd:u8(1) == 1 end,
    [0xC2] = function() return table.concat(log, " ") end,
  }]]

describe("a write cache that is switched off", function()
  local dev

  before_each(function() dev = inline.device(SLOW, { size = 1 << 20 }) end)
  after_each(function() dev:close() end)

  local function log() return (dev:cmd(vendor(0xC2)).data:gsub("%z", "")) end

  local function page(code)
    return dev:cmd(scsi.cdb.mode_sense_6 { page = code, dbd = true,
                                           length = 255 }).data:sub(5)
  end

  local function is_on() return page(8):byte(3) & 0x04 ~= 0 end

  local function select(text)
    local list <const> = "\0\0\0\0" .. text
    return dev:submit(scsi.cdb.mode_select_6 { pf = true, length = #list },
                      list)
  end

  -- Each begins, and returns what waits for the end: true if it went well.
  local ways <const> = {
    ["by MODE SELECT"] = function()
      local asked <const> = select("\x08\x12" .. ("\0"):rep(18))
      return function() return dev:wait(asked).status == 0 end
    end,
    ["by the kernel"] = function()
      local key <const>, reports <const> = dev.id .. "write_cache",
        dev.host.reports
      dev.shard:change(dev.id, "write_cache", { write_cache = false })
      return function()
        dev:run(function() return reports[key] end)
        local report <const> = reports[key]
        reports[key] = nil
        return report.status == 0
      end
    end,
  }

  it("is not waited for by the kernel where it is off already", function()
    assert.is_true(ways["by the kernel"]()())
    local late <const> = dev:submit(write(0, 1, "z"))
    local before <const> = log()
    assert.is_true(ways["by the kernel"]()())
    assert.equal(before, log())
    assert.is.good(dev:wait(late))
  end)

  for way, begin in pairs(ways) do
    it("is flushed when what was written into it has ended, " .. way, function()
      local late <const> = dev:submit(write(0, 1, "z"))
      assert.equal("+z", log())
      local wait <const> = begin()
      assert.is_true(wait())
      assert.is.good(dev:wait(late))
      assert.equal("+z -z +f -f", log())
      assert.is_false(is_on())
    end)

    it("takes in nothing while it is flushed, " .. way, function()
      local wait <const> = begin()
      assert.equal("+f", log())
      assert.is.good(dev:cmd(write(0, 1, "a")))
      assert.is_true(wait())
      assert.matches("%-a %+f %-f$", log())
    end)

    it("stays on if that fails, " .. way, function()
      dev:cmd(vendor(0xC1, 1))
      assert.is_false(begin()())
      assert.is_true(is_on())
      dev:cmd(vendor(0xC1, 0))
      assert.is_true(begin()())
      assert.is_false(is_on())
    end)

    it("is not off before another's flush has ended, " .. way, function()
      local first <const> = ways["by MODE SELECT"]()
      assert.equal("+f", log())
      assert.is_true(begin()())
      assert.equal("+f -f", log())
      assert.is_true(first())
    end)
  end

  it("stays on if MODE SELECT is aborted meanwhile", function()
    dev:submit(write(0, 1, "z"))
    local asked <const> = select("\x08\x12" .. ("\0"):rep(18))
    assert.equal("+z", log())
    dev:abort(asked)
    assert.has.status(dev:wait(asked), ABORTED)
    assert.is_true(is_on())
    local again <const> = select("\x08\x12" .. ("\0"):rep(18))
    dev:run(function() return log():match("%+f$") end)
    dev:abort(again)
    assert.has.status(dev:wait(again), ABORTED)
    assert.is_true(is_on())
    assert.is.good(dev:cmd(write(0, 1, "a")))
  end)

  it("is flushed as well when nothing can be written any more", function()
    dev:submit(write(0, 1, "z"))
    local body <const> = page(10)
    local asked <const> = select(body:sub(1, 4) .. "\x08" .. body:sub(6))
    assert.is.good(dev:wait(asked))
    assert.equal("+z -z +f -f", log())
  end)
end)
