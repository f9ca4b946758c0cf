-- vm: time=1500
--- The file store on the real kernel: its own specs, a failing and a hanging
--- disk among them, and verified I/O in the ways that verify_spec.lua leaves.

local guest = require "spec.vm.guest"

local MIB <const> = 1 << 20

describe("the file store's own specs", function()
  it("pass on this kernel", function()
    finally(function() guest.cleanup() end)
    guest.sh "mkdir -p /data/tmp && mount --bind /data/tmp /var/tmp"
    guest.defer(function() guest.sh "umount /var/tmp" end)
    local out = guest.sh_within(800, "cd /src && busted -o TAP "
      .. "spec/store_spec.lua spec/store_ways_spec.lua "
      .. "spec/store_broken_spec.lua spec/store_clear_spec.lua "
      .. "spec/store_uring_spec.lua "
      .. "spec/durability_spec.lua")
    assert.is_nil(out:find("not ok", 1, true), out)
  end)
end)

describe("fio verifies", function()
  for _, way in ipairs { "direct=yes", "direct=yes;aio=threads",
                         "reads=async;writes=async" } do
    it("what is served with " .. way, function()
      finally(function()
        guest.cleanup()
        os.remove "/data/disk.img"
      end)
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      local daemon = guest.serve "--shards 2"
      local dev = guest.device {
        config = "file/path=/data/disk.img;create=yes;" .. way,
        size = 128 * MIB, control = { "hw_max_sectors=2048" },
      }
      local disk = guest.loop(dev)
      guest.sh_within(200, table.concat({
        "fio --output-format=terse --minimal --ioengine=libaio --direct=1",
        "--filename=%s --iodepth=32 --time_based --runtime=20",
        "--bsrange=512-1m --blockalign=512 --randrepeat=0",
        "--name=verify --rw=randrw --verify=crc32c --verify_backlog=256",
        "--verify_fatal=1 --size=64m",
        "--name=trim --rw=randtrimwrite --offset=64m --size=32m",
      }, " "), disk.path)
      assert.is_nil(daemon:output():find("error", 1, true))
    end)
  end
end)
