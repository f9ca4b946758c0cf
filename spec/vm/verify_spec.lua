-- vm: time=900 cpus=2
--- fio writes, reads, trims and verifies at random on each handler, while the
--- daemon waits asleep and while it polls.

local guest = require "spec.vm.guest"

local SIZE <const> = 256 << 20
local SECONDS <const> = 15

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

for block_size, poll in pairs { [512] = "off", [4096] = "auto" } do
  for _, handler in ipairs { "ram", "file", "ramdisk" } do
    it(("verifies on %s, blocks of %d bytes, --poll %s"):format(handler,
      block_size, poll), function()
      finally(function()
        guest.cleanup()
        os.remove "/data/disk.img"
      end)
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      local daemon = guest.serve("--poll " .. poll)
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
