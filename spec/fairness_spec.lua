--- No device of a shard keeps it from the others.
local commands = require "spec.commands"
local inline = require "spec.inline"
local sim = require "tcmu.sim"

local read <const>, vendor <const>, write <const> = commands.read,
  commands.vendor, commands.write

describe("a shard with several devices", function()
  it("lets a device answer while another's ring is full", function()
    local host <close> = sim.host()
    local kernel <const> = { ring_size = 1 << 20, data_size = 16 << 20 }
    local busy = assert(host:device("handlers/ramdisk.lua",
                                    { kernel = kernel }))
    local quick = assert(host:device("handlers/ramdisk.lua"))
    for i = 1, 4000 do busy:submit(read(i)) end
    local h = quick:submit(read(0))
    quick:run(function() return h.result end)
    assert.is.good(h.result)
    local answered = 0
    for _, done in ipairs(busy.done) do
      if done.result then answered = answered + 1 end
    end
    assert.is_true(answered <= 1024)
  end)

  it("lets a device answer while another's handler goes round without end",
     function()
    local host <close> = sim.host()
    local spins = assert(host:device(inline.source(inline.STORE .. [[
      on = { [0xC1] = function()
        while true do tcmu.all(function() end) end
      end }]]), { cmd_time_out = 0 }))
    local quick = assert(host:device "handlers/ram.lua")
    local endless = spins:submit(vendor(0xC1))
    spins.shard:turn(false)
    assert.is.good(quick:cmd(write(0, 1, "q")))
    spins:abort(endless)
    assert.equal(0x40, spins:wait(endless).status)
  end)
end)
