-- vm: time=600
--- An ISO image is a CD of this machine: through /dev/sr0 it is mounted,
-- compared, ejected and loaded by Linux's own drivers.

local guest = require "spec.vm.guest"

local IMAGE <const> = "/data/disc.iso"
local MOUNT <const> = "/data/mnt"

-- Requests of the cdrom driver (linux/cdrom.h), by their numbers.
local EJECT <const>, CLOSE_TRAY <const>, STATUS <const>, MULTISESSION <const> =
  0x5309, 0x5319, 0x5326, 0x5310

-- What an ioctl of the drive returns; nil and a text if it fails.
local function ioctl(disk, request, argument)
  local script = ("import fcntl, os; fd = os.open('%s', os.O_RDONLY | "
                  .. "os.O_NONBLOCK); print(fcntl.ioctl(fd, %d, %s))")
                 :format(disk.path, request, argument or "0")
  local status, output = guest.try("python3 -c %s", guest.quote(script))
  if status ~= 0 then return nil, output end
  return output:match "^%s*(.-)%s*$"
end

local function make_image(label, files)
  guest.sh("rm -rf /data/tree && mkdir -p /data/tree/sub")
  for name, bytes in pairs(files) do
    guest.sh("head -c %d /dev/urandom >/data/tree/%s", bytes, name)
  end
  guest.sh("genisoimage -quiet -R -V %s -o %s /data/tree", label, IMAGE)
end

describe("an ISO image", function()
  local disk

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sr_mod", "sg", "isofs",
                   "nls_iso8859_1")
    guest.sh("mkdir -p %s", MOUNT)
    make_image("FIRST", { ["a.bin"] = 3000001, ["sub/b.bin"] = 70000,
                          ["sub/empty"] = 0 })
    guest.serve "--shards 1"
    local size = tonumber(guest.sh("stat -c %%s %s", IMAGE))
    disk = guest.loop(guest.device {
      config = "cdrom/path=" .. IMAGE, size = size,
      control = { "hw_block_size=2048" },
    })
  end)
  after_each(function()
    guest.try("umount %s", MOUNT)
    guest.cleanup()
  end)

  local function compare()
    guest.sh("mount -t iso9660 -o ro %s %s", disk.path, MOUNT)
    guest.sh("diff -r /data/tree %s", MOUNT)
    guest.sh("umount %s", MOUNT)
  end

  it("mounts through /dev/sr0 with the same files", function()
    assert.equal("sr0", disk.name)
    assert.equal(tonumber(guest.sh("stat -c %%s %s", IMAGE)), disk:size())
    compare()
    guest.sh("cmp %s %s", IMAGE, disk.path)
    -- The whole path again, read in blocks larger than hw_max_sectors.
    guest.sh("dd if=%s of=/dev/null bs=4M iflag=direct", disk.path)
  end)

  it("is a data disc for the driver and for sg_utils", function()
    assert.equal("4", ioctl(disk, STATUS, 0x7FFFFFFF))
    -- By LBA.
    assert.is_truthy(ioctl(disk, MULTISESSION,
                           "bytes([0, 0, 0, 0, 0, 1, 0, 0])"))
    assert.matches("cd/dvd", guest.sh("lsscsi"))
    assert.matches("CD%-ROM", guest.sh("sg_get_config --current %s", disk.sg))
    assert.matches("PDT=5", guest.sh("sg_inq %s", disk.sg))
    guest.sh("sg_turs %s", disk.sg)
    local info = guest.sh("cat /proc/sys/dev/cdrom/info")
    for _, ability in ipairs { "close tray", "open tray", "lock tray",
                               "read DVD" } do
      assert.matches("Can " .. ability .. ":%s+1", info)
    end
  end)

  it("is ejected and loaded, and the disc is changed meanwhile", function()
    compare()
    assert.equal("0", ioctl(disk, EJECT))
    assert.equal("2", ioctl(disk, STATUS, 0x7FFFFFFF))    -- tray open
    make_image("SECOND", { ["other"] = 5000000 })
    assert.equal("0", ioctl(disk, CLOSE_TRAY))
    assert.equal("4", ioctl(disk, STATUS, 0x7FFFFFFF))    -- disc OK
    compare()
    assert.equal(tonumber(guest.sh("stat -c %%s %s", IMAGE)), disk:size())
  end)

  it("stays in while it is mounted", function()
    guest.sh("mount -t iso9660 -o ro %s %s", disk.path, MOUNT)
    assert.not_equal("0", ioctl(disk, EJECT))
    assert.not_equal(0, (guest.try("sg_start --eject %s", disk.sg)))
    guest.sh("diff -r /data/tree %s", MOUNT)
    guest.sh("umount %s", MOUNT)
    guest.sh("sg_start --eject %s", disk.sg)
    guest.sh("sg_start --load %s", disk.sg)
    compare()
  end)
end)
