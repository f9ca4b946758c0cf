-- vm: time=600 cpus=2
--- Slow commands are overtaken, aborted by the initiator and ended by our own
-- deadline; the coroutine always learns of it.

local guest = require "spec.vm.guest"

local SIZE <const> = 64 << 20

-- READ of the first block takes CDB byte 14's word for it: as long as the file
-- /tmp/slow says, in ms.  <close> variables tell how it went.
local SLOW <const> = [[
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "slow",
  open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
  on = {
    [0xC1] = function(_, cmd)
      local told <close> = setmetatable({}, { __close = function(_, why)
        tcmu.log "C1 is over"
      end })
      tcmu.log "C1 begins"
      tcmu.sleep(cmd:u32(2))
      tcmu.log "C1 slept well"
    end,
    [0xC2] = function() return "quick" end,
  },
}
]]

local function vendor(disk, opcode, ms, timeout)
  local bytes = string.pack(">I4", ms or 0):gsub(".", function(c)
    return ("%02x "):format(c:byte())
  end)
  return ("sg_raw -t %d -r 512 %s %02x 00 %s 00 00 00 00"):format(
    timeout or 60, disk.sg, opcode, bytes)
end

describe("a slow command", function()
  local daemon

  local function disk_with(attrib)
    local disk = guest.loop(guest.device { config = "slow", size = SIZE,
                                           attrib = attrib })
    guest.try("sg_turs %s", disk.sg)
    return disk
  end

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    guest.write_file("/tmp/slow.lua", SLOW)
    daemon = guest.serve "--shards 1 --handler /tmp/slow.lua"
  end)
  after_each(guest.cleanup)

  it("is overtaken by quick ones", function()
    local disk = disk_with {}
    local slow = guest.start("exec " .. vendor(disk, 0xC1, 8000))
    daemon:wait_for_log "C1 begins"
    for _ = 1, 5 do guest.sh(vendor(disk, 0xC2)) end
    guest.sh("dd if=%s of=/dev/null bs=4k count=8 iflag=direct status=none",
             disk.path)
    assert.is_true(slow:running())
    assert.equal(0, slow:wait(30), slow:output())
    daemon:wait_for_log "C1 slept well"
  end)

  it("is cancelled by a reset of the device", function()
    local disk = disk_with {}
    guest.start("exec " .. vendor(disk, 0xC1, 300000, 600))
    daemon:wait_for_log "C1 begins"
    guest.sh("sg_reset -d %s", disk.sg)
    daemon:wait_for_log("C1 is over", 20)
    assert.is_nil(daemon:output():find "C1 slept well")
    guest.try("sg_turs %s", disk.sg)
    guest.sh(vendor(disk, 0xC2))
  end)

  it("is aborted by a SCSI time-out below cmd_time_out", function()
    local disk = disk_with { cmd_time_out = 60 }
    local slow = guest.start("exec " .. vendor(disk, 0xC1, 300000, 3))
    daemon:wait_for_log "C1 begins"
    daemon:wait_for_log("C1 is over", 30)
    assert.not_equal(0, slow:wait(30))
    assert.is_nil(daemon:output():find "not answered within")
    guest.try("sg_turs %s", disk.sg)
    guest.sh(vendor(disk, 0xC2))
  end)

  it("is ended by our own deadline when cmd_time_out is below the SCSI time-out",
  function()
    local disk = disk_with { cmd_time_out = 4 }
    local slow = guest.start("exec " .. vendor(disk, 0xC1, 300000, 120))
    daemon:wait_for_log "C1 begins"
    daemon:wait_for_log("not answered within", 30)
    daemon:wait_for_log("C1 is over", 30)
    assert.not_equal(0, slow:wait(60))
    assert.matches("Logical unit communication time%-out", slow:output())
    guest.sh(vendor(disk, 0xC2))
  end)

  it("delays no other device, nor does one that nobody serves", function()
    local disk = disk_with { cmd_time_out = 0 }
    local other = guest.loop(guest.device { config = "ram", size = SIZE })
    guest.device { config = "nobody/x", size = SIZE,
                   control = { "nl_reply_supported=-1" } }
    guest.start("exec " .. vendor(disk, 0xC1, 20000))
    daemon:wait_for_log "C1 begins"
    guest.sh("dd if=/dev/urandom of=%s bs=64k count=32 oflag=direct status=none",
             other.path)
    assert.is_nil(daemon:output():find "C1 is over")
    daemon:wait_for_log("C1 slept well", 60)
  end)
end)
