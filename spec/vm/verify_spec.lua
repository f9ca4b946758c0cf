-- vm: time=1200
--- fio writes, reads, trims and verifies at random, a minute on each handler.

local guest = require "spec.vm.guest"

local SIZE <const> = 256 << 20
local SECONDS <const> = 60

local CONFIGS <const> = {
  ram = "ram",
  file = "file/path=/data/disk.img;create=yes",
  ramdisk = "ramdisk",
}

-- One writer whose blocks carry a checksum that is verified while it goes on,
-- and one that reads and trims elsewhere; sizes from one block to 1 MiB.
local function fio(path, smallest)
  return guest.sh_within(SECONDS * 4, table.concat({
    "fio --output-format=terse --minimal --ioengine=libaio --direct=1",
    "--filename=%s --iodepth=32 --time_based --runtime=%d",
    "--bsrange=%d-1m --blockalign=%d --randrepeat=0",
    "--name=verify --rw=randrw --verify=crc32c --verify_backlog=256",
    "--verify_fatal=1 --offset=0 --size=128m",
    "--name=trim --rw=randtrimwrite --offset=128m --size=96m",
  }, " "), path, SECONDS, smallest, smallest)
end

for _, block_size in ipairs { 512, 4096 } do
  for _, handler in ipairs { "ram", "file", "ramdisk" } do
    it(("verifies on %s, blocks of %d bytes"):format(handler, block_size),
    function()
      finally(function()
        guest.cleanup()
        os.remove "/data/disk.img"
      end)
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      local daemon = guest.serve "--shards 2 --budget 2000"
      local dev = guest.device {
        config = CONFIGS[handler], size = SIZE,
        control = { "hw_max_sectors=2048", "hw_block_size=" .. block_size },
      }
      local disk = guest.loop(dev)
      local mark = guest.log_mark()
      fio(disk.path, block_size)
      assert.is_nil(guest.kernel_log(mark):find("I/O error", 1, true))
      assert.is_nil(daemon:output():find("error", 1, true))
    end)
  end
end
