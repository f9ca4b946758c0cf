-- vm: time=900
--- File systems live on disks that Lua handlers serve: through tcm_loop and
-- through the kernel's iSCSI target, with blocks of 512 and of 4096 bytes.

local guest = require "spec.vm.guest"

local SIZE <const> = 400 << 20          -- mkfs.xfs wants 300 MB

local CONFIGS <const> = {
  ram = "ram",
  file = "file/path=/data/disk.img;create=yes",
  ramdisk = "ramdisk",
}

for _, block_size in ipairs { 512, 4096 } do
  for _, handler in ipairs { "ram", "file", "ramdisk" } do
    describe(("%s, blocks of %d bytes"):format(handler, block_size), function()
      local dev

      before_each(function()
        guest.modprobe("target_core_user", "tcm_loop", "iscsi_target_mod",
                       "sd_mod", "sg", "xfs")
        guest.serve "--shards 2"
        dev = guest.device {
          config = CONFIGS[handler], size = SIZE,
          control = { "hw_max_sectors=2048",
                      "hw_block_size=" .. block_size },
        }
      end)
      after_each(function()
        guest.cleanup()
        os.remove "/data/disk.img"
      end)

      it("holds an ext4 through tcm_loop", function()
        local disk = guest.loop(dev)
        assert.equal(SIZE, disk:size())
        guest.survives_filesystem(disk.path, "ext4")
      end)

      it("holds an xfs through iSCSI", function()
        guest.survives_filesystem(guest.iscsi(dev).path, "xfs")
      end)
    end)
  end
end
