-- vm: time=600
--- sg3_utils find nothing to complain about, handlers that fail fail alone.

local guest = require "spec.vm.guest"

local SIZE <const> = 64 << 20

-- Answers the vendor opcodes C0 to C3 in four ways of going wrong.
local WRONG <const> = [[
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "wrong",
  open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
  on = {
    [0xC0] = function() error(scsi.INVALID_FIELD_IN_CDB:at(3, 5)) end,
    [0xC1] = function() local nothing; return nothing.here end,
    [0xC2] = function() while true do end end,
    [0xC3] = function() while true do pcall(error, "caught") end end,
  },
}
]]

-- sg_raw with a CDB of 10 bytes; returns its exit status and output.
local function raw(disk, opcode, more)
  return guest.try("sg_raw %s %s %02x 00 00 00 00 00 00 00 00 00",
                   more or "", disk.sg, opcode)
end

for _, block_size in ipairs { 512, 4096 } do
  describe(("blocks of %d bytes"):format(block_size), function()
    local control = { "hw_max_sectors=2048", "hw_block_size=" .. block_size }
    local daemon

    before_each(function()
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      guest.write_file("/tmp/wrong.lua", WRONG)
      daemon = guest.serve "--budget 1000 --handler /tmp/wrong.lua"
    end)
    after_each(guest.cleanup)

    for handler, config in pairs { ram = "ram", ramdisk = "ramdisk",
                                   file = "file/path=/data/t.img;create=yes" } do
      it("runs sg3_utils clean on " .. handler, function()
        local disk = guest.loop(guest.device { config = config, size = SIZE,
                                               control = control })
        guest.try("sg_turs %s", disk.sg)            -- takes the power-on attention
        guest.try("sg_turs %s", disk.sg)
        guest.sh("sg_turs %s && sg_requests %s", disk.sg, disk.sg)
        assert.matches("TCMU device", guest.sh("sg_inq %s", disk.sg))
        local pages = 0
        for page in guest.sh("sg_vpd -p 0 -r %s | od -An -v -tx1 -j4", disk.sg)
                         :gmatch "%x%x" do
          guest.sh("sg_vpd -p 0x%s %s", page, disk.sg)
          pages = pages + 1
        end
        assert.is_true(pages >= 6)
        assert.matches("Caching", guest.sh("sg_modes -a %s", disk.sg))
        local capacity = guest.sh("sg_readcap -l %s", disk.sg)
        assert.matches("Logical block length=" .. block_size, capacity, 1, true)
        guest.sh("sg_readcap %s", disk.sg)
        local opcodes = guest.sh("sg_opcodes %s", disk.sg)
        assert.matches("Read%(16%)", opcodes)
        assert.matches("Unmap", opcodes)
      end)
    end

    it("lets whoami show its vendor and answer its vendor opcode", function()
      local disk = guest.loop(guest.device { config = "whoami", size = SIZE,
                                             control = control })
      guest.try("sg_turs %s", disk.sg)
      local inquiry = guest.sh("sg_inq %s", disk.sg)
      assert.matches("ACME", inquiry)
      assert.matches("Teaching disk", inquiry)
      local status, output = raw(disk, 0xC1, "-r 64")
      assert.equal(0, status, output)
      assert.matches("asked nicely", output)
    end)

    it("gives each failing command its sense, and other devices their peace",
    function()
      local wrong = guest.loop(guest.device { config = "wrong", size = SIZE,
                                              control = control })
      local good = guest.loop(guest.device { config = "ram", size = SIZE,
                                             control = control })
      local writer = guest.start(("while dd if=/dev/urandom of=%s bs=64k "
        .. "count=16 oflag=direct status=none; do echo turn; done")
        :format(good.path))
      guest.try("sg_turs %s", wrong.sg)

      local _, output = raw(wrong, 0xC0)
      assert.matches("Illegal Request", output)
      assert.matches("Invalid field in cdb", output)
      assert.matches("byte 3 bit 5", output)
      for opcode = 0xC1, 0xC3 do
        _, output = raw(wrong, opcode)
        assert.matches("Hardware Error", output)
        assert.matches("Internal target failure", output)
      end
      assert.matches("attempt to index a nil value", daemon:output())
      assert.matches("CPU time", daemon:output())

      local _, turns = writer:output():gsub("turn", "")
      guest.wait_for("the other device to go on", 30, function()
        return select(2, writer:output():gsub("turn", "")) > turns + 3
      end)
      guest.sh("dd if=%s of=/dev/null bs=64k count=4 iflag=direct status=none",
               wrong.path)
      assert.is_true(daemon:running())
    end)
  end)
end
