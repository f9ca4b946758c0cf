-- vm: time=900 cpus=2
--- Devices come, grow, go and are refused, while others work on.

local guest = require "spec.vm.guest"

local MiB <const> = 1 << 20

local PICKY <const> = [[
local tcmu = require "tcmu"
return tcmu.handler {
  name = "picky",
  options = { mood = tcmu.option.choice { "how it is", "good", "bad" } },
  check = function(options)
    if options.mood == "bad" then error("not today", 0) end
  end,
  open = function(dev)
    if dev.size > 64 << 20 then error("too large for me", 0) end
    return { store = tcmu.store.memory(dev.size) }
  end,
}
]]

local function cli(...) return guest.sh("./tcmu-lua " .. ...) end

-- The disk that `create --disk` or `resize` speaks of.
local function disk_in(output) return (output:match "/dev/sd%a+") end

describe("devices", function()
  local daemon

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    guest.write_file("/tmp/picky.lua", PICKY)
    daemon = guest.serve "--shards 2 --handler /tmp/picky.lua"
  end)
  after_each(guest.cleanup)

  it("are created and deleted under I/O of others, ten of three handlers",
  function()
    local busy = guest.loop(guest.device { config = "ram", size = 32 * MiB })
    local io = guest.start(("exec fio --name=x --filename=%s --rw=randwrite "
      .. "--bs=4k --iodepth=8 --ioengine=libaio --direct=1 --verify=crc32c "
      .. "--time_based --runtime=20 --minimal"):format(busy.path))
    local configs = { "ram", "ramdisk", "zero" }
    local made = {}
    for i = 1, 10 do
      made[i] = guest.device { config = configs[i % 3 + 1], size = 16 * MiB,
                               name = "ten" .. i }
    end
    local disks = {}
    for i = 1, 10, 3 do
      disks[i] = guest.loop(made[i])
      guest.sh("dd if=/dev/zero of=%s bs=64k count=8 oflag=direct status=none",
               disks[i].path)
    end
    for i = 1, 10 do
      if disks[i] then disks[i]:remove() end
      made[i]:remove()
    end
    assert.equal(0, io:wait(120), io:output())
    assert.is_true(daemon:running())
  end)

  it("of a foreign subtype are left alone", function()
    local foreign = guest.device { config = "stranger/x", size = 16 * MiB,
                                   control = { "nl_reply_supported=-1" } }
    local near = guest.device { config = "ramx/y", size = 16 * MiB,
                                control = { "nl_reply_supported=-1" } }
    for _, dev in ipairs { foreign, near } do
      assert.equal("", guest.sh("for p in /proc/[0-9]*/fd/*; do readlink $p; "
        .. "done 2>/dev/null | grep /dev/%s$ || true", dev:uio()))
    end
    assert.is_nil(daemon:output():find("added: stranger", 1, true))
  end)

  it("whose open or check refuses fail the enable, with the reason in our log",
  function()
    for mood, size in pairs { bad = 16 * MiB, good = 128 * MiB } do
      local dev = guest.device { config = "picky/mood=" .. mood, size = size,
                                 enable = false }
      local ok, _, code = dev:try_enable()
      assert.is_nil(ok)
      assert.equal("EINVAL", code)
    end
    assert.matches("not today", daemon:output())
    assert.matches("too large for me", daemon:output())
    local dev = guest.device { config = "picky/mood=good", size = 16 * MiB }
    assert.is_string(dev:uio())
  end)

  it("with a block size that makes no sense are refused", function()
    for _, size in ipairs { 100, 768, 256 } do
      local dev = guest.device { config = "ram", size = 16 * MiB, enable = false,
                                 control = { "hw_block_size=" .. size } }
      local ok, _, code = dev:try_enable()
      assert.is_nil(ok)
      assert.equal("EINVAL", code)
    end
  end)

  it("grow while mounted", function()
    local output = cli("create grow --handler file --option "
      .. "path=/data/grow.img --option create=yes --size 64M --disk")
    guest.defer(function() guest.try "./tcmu-lua delete grow --force" end)
    local disk = assert(disk_in(output), output)
    guest.sh("mkfs.ext4 -q %s", disk)
    local at, unmount = guest.mount(disk)
    guest.sh("cp -a /usr/share/lua %s", at)
    local before = guest.checksums(at)

    local mark = guest.log_mark()
    cli "resize grow 128M"
    assert.equal(tostring(128 * MiB // 512),
                 guest.sh("cat /sys/block/%s/size", disk:match "sd%a+"))
    assert.equal(tostring(128 * MiB), guest.sh "stat -c %s /data/grow.img")
    guest.sh("resize2fs %s", disk)
    assert.equal(before, guest.checksums(at))
    assert.is_true(tonumber(guest.sh("df -B1 --output=size %s | tail -1", at))
                   > 100 * MiB)
    assert.matches("Capacity data has changed", guest.kernel_log(mark))
    unmount()
    guest.check_filesystem(disk, "ext4")

    local status, why = guest.try "./tcmu-lua resize grow 32M"
    assert.equal(1, status)
    assert.matches("%-%-force", why)
    cli "delete grow"
  end)

  it("tell the initiator once that they have grown", function()
    local dev = guest.device { config = "ram", size = 16 * MiB }
    local disk = guest.loop(dev)
    disk:settle()
    dev:set("attrib/dev_size", 32 * MiB)
    local _, output = guest.try("sg_turs -v %s 2>&1", disk.sg)
    assert.matches("Capacity data has changed", output)
    guest.sh("sg_turs %s", disk.sg)
    disk:rescan()
    assert.equal(32 * MiB, disk:size())
  end)

  it("made with targetcli have the serial and the NAA of targetcli", function()
    guest.sh "mkdir -p /run/dbus && dbus-daemon --system --fork || true"
    guest.sh [[cat >/tmp/rts.py <<'END'
from rtslib_fb import UserBackedStorageObject
so = UserBackedStorageObject("rts", config="/ram/", size=33554432)
print(so.wwn)
END
sed -i 's|"/ram/"|"ram/"|' /tmp/rts.py]]
    local serial = guest.sh "python3 /tmp/rts.py":match "%S+$"
    local hba = guest.sh("dirname $(ls -d /sys/kernel/config/target/core/"
                         .. "user_*/rts)")
    guest.defer(function() guest.sh("rmdir %s/rts", hba) end)
    local disk = guest.loop { dir = hba .. "/rts", name = "rts" }
    assert.matches(serial, guest.sh("sg_inq -p 0x80 %s", disk.sg), 1, true)
    local digits = serial:gsub("%X", ""):sub(1, 25)
    assert.matches("6001405" .. digits, guest.sh("sg_vpd -p di %s", disk.sg),
                   1, true)
  end)

  it("can be a thousand, of one handler on each shard", function()
    local count = 200                   -- emulation is slow: each costs 30 ms
    guest.sh([[cd /sys/kernel/config/target/core && mkdir -p user_77 &&
      for i in $(seq %d); do mkdir user_77/m$i &&
      echo dev_config=zero >user_77/m$i/control &&
      echo dev_size=1048576 >user_77/m$i/control &&
      echo max_data_area_mb=1 >user_77/m$i/control &&
      echo 1 >user_77/m$i/enable || exit 1; done]], count)
    local pages = guest.sh("awk '/VmRSS/ {print $2}' /proc/%d/status", daemon.pid)
    assert.is_true(tonumber(pages) < 120 * 1024, pages)
    guest.sh("cd /sys/kernel/config/target/core/user_77 && rmdir m* && "
             .. "cd .. && rmdir user_77")
    assert.is_true(daemon:running())
  end)
end)
