-- vm: time=900 kernel=6.1,6.12
--- The harness itself, and what the product takes for granted of the kernel.
-- Needs nothing of the product: if this fails, look here first.

local guest = require "spec.vm.guest"

local MiB <const> = 1 << 20

describe("the guest", function()
  after_each(guest.cleanup)

  it("runs Debian's kernel as root, in the source tree", function()
    assert.matches("^6%.%d+.*%-amd64$", guest.sh "uname -r")
    assert.equal("0", guest.sh "id -u")
    assert.is_true(guest.exists "spec/vm/harness_spec.lua")
  end)

  it("cannot write to the source tree", function()
    local ok, _, code = guest.try_write("spec/vm/new", "x")
    assert.is_nil(ok)
    assert.equal("EROFS", code)
  end)

  it("has all modules that the specs need", function()
    guest.modprobe("target_core_user", "target_core_file", "target_core_iblock",
      "target_core_pscsi", "tcm_loop", "iscsi_target_mod", "vhost_scsi",
      "iscsi_tcp", "sd_mod", "sr_mod", "st", "ch", "ses", "sg", "loop",
      "dm-mod", "dm_multipath", "xfs", "isofs", "udf")
    guest.sh "modprobe scsi_debug dev_size_mb=8 && modprobe -r scsi_debug"
  end)

  it("has a disk file system at /data, with O_DIRECT and holes", function()
    guest.sh "dd if=/dev/urandom of=/data/f bs=64k count=16 oflag=direct"
    local function blocks() return tonumber(guest.sh "stat -c %b /data/f") end
    local before = blocks()
    guest.sh "fallocate -p -o 65536 -l 131072 /data/f"
    assert.equal(before - 256, blocks())
    guest.sh "rm /data/f"
  end)
end)

describe("guest.lua", function()
  after_each(guest.cleanup)

  it("raises with the output of a command that fails", function()
    assert.has_error(function() guest.sh("echo %s >&2; exit 3", "abc") end,
      "status 3 from: echo abc >&2; exit 3\nabc\n")
    local status, output = guest.try "echo abc; echo def >&2; exit 3"
    assert.equal(3, status)
    assert.equal("abc\ndef\n", output)
  end)

  it("says what it waited for in vain", function()
    assert.has_error(function()
      guest.wait_for("rain", 0.2, function() return nil, "blue sky" end)
    end, "waited 0.2 s in vain for rain: blue sky")
  end)

  it("reports the signal that ended a background process", function()
    local p = guest.start "exec sleep 100"
    assert.is_true(p:running())
    p:signal "sigterm"
    assert.equal(128 + 15, p:wait(10))
  end)

  it("kills what is left in the background, and its children", function()
    guest.start "sleep 4321 & sleep 4321"
    guest.wait_for("two of them", 10, function()
      return guest.sh "pgrep -fc '^sleep 4321' || true" == "2"
    end)
    guest.cleanup()
    guest.wait_for("none", 10, function()
      return guest.sh "pgrep -fc '^sleep 4321' || true" == "0"
    end)
  end)

  it("undoes all, the last thing first, although something fails", function()
    local order = {}
    guest.defer(function() order[#order + 1] = "first" end)
    guest.defer(function() error("no luck", 0) end)
    guest.defer(function() order[#order + 1] = "last" end)()
    assert.has_error(guest.cleanup, "clean-up failed:\nno luck")
    assert.same({ "last", "first" }, order)
  end)

  it("reads the kernel's log from a mark on", function()
    guest.kernel_says "before"
    local mark = guest.log_mark()
    guest.kernel_says "after"
    assert.equal("spec: after", guest.kernel_log(mark))
  end)

  it("tells an errno from a write that the kernel does not end", function()
    local ok, message, code = guest.try_write("/proc/self/clear_refs", "x")
    assert.is_nil(ok)
    assert.equal("EINVAL", code)
    assert.matches("clear_refs", message)
  end)
end)

describe("a TCMU device", function()
  local dev

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop")
    dev = guest.device { config = "nobody/at=home", size = 64 * MiB,
      control = { "nl_reply_supported=-1" }, attrib = { cmd_time_out = 3 } }
  end)
  after_each(guest.cleanup)

  it("has the UIO device and the name that the host looks for", function()
    local uio, name = dev:uio()
    assert.equal("tcm-user/0/" .. dev.name .. "/nobody/at=home", name)
    assert.is_true(guest.exists("/dev/" .. uio))
    assert.equal("2", guest.read_line("/sys/class/uio/" .. uio .. "/version"))
  end)

  it("maps a ring and a data area of 1032 MiB by default", function()
    assert.equal("0x0000000040800000", guest.read_line(
      "/sys/class/uio/" .. dev:uio() .. "/maps/map0/size"))
  end)

  it("shows in configfs what the host reads there", function()
    assert.equal("512", dev:get "attrib/hw_block_size")
    assert.equal("128", dev:get "attrib/hw_max_sectors")
    assert.equal("3", dev:get "attrib/cmd_time_out")
    assert.equal("0", dev:get "attrib/emulate_write_cache")
    assert.equal(tostring(64 * MiB), dev:get "attrib/dev_size")
    assert.matches("%x+%-%x+", dev:get "wwn/vpd_unit_serial")
    assert.matches("Config: nobody/at=home Size: 67108864", dev:get "info")
  end)

  it("refuses a new command time-out while it has a LUN", function()
    guest.modprobe "iscsi_target_mod"
    guest.export(dev)
    local ok, _, code = dev:try_set("attrib/cmd_time_out", 2)
    assert.is_nil(ok)
    assert.equal("EINVAL", code)
  end)

  it("is gone from UIO when it is removed", function()
    local uio = dev:uio()
    dev:remove()
    assert.is_false(guest.exists("/dev/" .. uio))
    assert.is_false(guest.exists(dev.dir))
  end)
end)

local BACKSTORES <const> = {
  { "the kernel's fileio", function(size)
    guest.sh("truncate -s %d /data/disk", size)
    guest.defer(function() guest.sh "rm -f /data/disk" end)
    return guest.backstore { hba = "fileio_0", control = {
      "fd_dev_name=/data/disk,fd_dev_size=" .. size } }
  end },
  { "the kernel's ramdisk", function(size)
    return guest.backstore { hba = "rd_mcp_0", control = {
      "rd_pages=" .. size // 4096 } }
  end },
}

for _, backstore in ipairs(BACKSTORES) do
  local kind, make = table.unpack(backstore)

  describe(kind, function()
    local SIZE <const> = 512 * MiB
    local dev

    before_each(function()
      guest.modprobe("tcm_loop", "iscsi_target_mod", "sd_mod", "sg")
      dev = make(SIZE)
      dev:enable()
    end)
    after_each(guest.cleanup)

    it("is a disk by tcm_loop, whose ext4 holds what it was given", function()
      local disk = guest.loop(dev)
      assert.equal(SIZE, disk:size())
      assert.matches("^/dev/sd%a$", disk.path)
      guest.sh("sg_turs %s && sg_inq %s", disk.sg, disk.sg)
      guest.survives_filesystem(disk.path, "ext4")
    end)

    it("is a disk by iSCSI, whose xfs holds what it was given", function()
      local disk = guest.iscsi(dev)
      assert.equal(SIZE, disk:size())
      guest.survives_filesystem(disk.path, "xfs")
    end)

    it("is gone, disk and all, when it is removed", function()
      local disk = guest.loop(dev)
      disk:remove()
      dev:remove()
      assert.is_false(guest.exists("/sys/block/" .. disk.name))
      dev = make(SIZE)
      dev:enable()
      disk = guest.iscsi(dev)
      guest.cleanup()
      assert.is_false(guest.exists("/sys/block/" .. disk.name))
      assert.same({}, guest.names "/sys/class/iscsi_session")
    end)
  end)
end
