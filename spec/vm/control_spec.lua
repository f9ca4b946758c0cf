-- vm: time=900
--- Netlink, configfs and the ends of the daemon, on the real kernel: who is
-- answered what, and what a dead daemon leaves to its successor.

local guest = require "spec.vm.guest"

local TARGET <const> = "/sys/kernel/config/target/"
local ARGS <const> = "--shards 2"
local MIB <const> = 1 << 20

-- Random writes with checksums, read back; takes some ten seconds here.
local VERIFIED <const> = "fio --name=v --filename=%s --rw=randwrite " ..
  "--bs=16k --direct=1 --ioengine=libaio --iodepth=16 --size=48M " ..
  "--verify=crc32c --do_verify=1 --verify_fatal=1"

local function ram(more)
  local t = { config = "ram", size = 16 * MIB }
  for key, value in pairs(more or {}) do t[key] = value end
  return guest.device(t)
end

-- Writes a configfs file in the background, by a process that may hang.
local function write(path, text)
  return guest.start(("exec 2>&1; printf '%s' >%s"):format(text, path))
end

describe("control", function()
  local daemon

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
  end)
  after_each(guest.cleanup)

  local function serve(args)
    daemon = guest.serve(ARGS .. " " .. (args or ""))
    return daemon
  end

  -- A daemon that has received what `act` causes, and never answers it.
  local function dies_during(act)
    daemon:signal "sigstop"
    local hung = act()
    guest.wait_for("the write to hang", 10, function()
      return guest.try("grep -l tcmu_netlink /proc/[0-9]*/stack") == 0
    end)
    daemon:signal "sigkill"
    daemon:wait(10)
    return hung
  end

  describe("with the kernel", function()
    before_each(function() serve() end)

    it("fails the enable that a handler refuses, and takes the next", function()
      local dev = ram { config = "ram/nonsense=1", enable = false }
      local ok, _, code = dev:try_enable()
      assert.is_nil(ok)
      assert.equal("EINVAL", code)
      daemon:wait_for_log "user_0/%S+: .*nonsense"
      dev:set("control", "dev_config=ram")
      dev:enable()
      assert.equal(16 * MIB, guest.loop(dev):size())
    end)

    it("refuses a block size that no disk has", function()
      local dev = ram { enable = false, control = { "hw_block_size=520" } }
      local ok, _, code = dev:try_enable()
      assert.is_nil(ok)
      assert.equal("EINVAL", code)
      daemon:wait_for_log "hw_block_size 520"
    end)

    it("leaves devices of other subtypes alone", function()
      local dev = guest.device {
        config = "rbd/x", size = MIB, control = { "nl_reply_supported=-1" },
      }
      assert.equal("unblocked", dev:get "action/block_dev")
      daemon:stop()
      serve()
      assert.equal("0 devices", daemon:output():match "ready: (%d+ devices)")
      assert.equal("unblocked", dev:get "action/block_dev")
    end)

    it("names an enable that nobody answers", function()
      local dev = ram { config = "rbd/x", enable = false }
      local hung = write(dev.dir .. "/enable", "1")
      daemon:wait_for_log(dev.name .. ": process %d+ %(sh%) hangs in enable")
      local status, findings = guest.try "./tcmu-lua doctor"
      assert.equal(1, status)
      assert.matches("hangs in user_0/" .. dev.name .. "/enable", findings, 1,
                     true)
      guest.sh(findings:match "free all that hang with '([^']+)'")
      assert.not_equal(0, hung:wait(10))
    end)

    it("shows a serial that is written after enable", function()
      local dev = ram { serial = false }
      dev:set("wwn/vpd_unit_serial", "late-1234")
      local disk = guest.loop(dev)
      guest.wait_for("the serial", 5, function()
        return guest.sh("sg_vpd -p sn %s", disk.sg):find("late-1234", 1, true)
      end)
    end)

    it("grows what is exported, and shrinks it only by force", function()
      local dev = ram()
      local disk = guest.loop(dev)
      guest.sh("./tcmu-lua resize %s 32M", dev.name)
      assert.equal(32 * MIB, disk:size())
      assert.equal(1, (guest.try("./tcmu-lua resize %s 16M", dev.name)))
      assert.equal(32 * MIB, dev:get "attrib/dev_size" // 1)
      guest.sh("./tcmu-lua resize %s 16M --force", dev.name)
      assert.equal(16 * MIB, disk:size())
    end)

    it("goes on while devices go that are being written to", function()
      for i = 1, 10 do
        local dev = ram { hba = "user_" .. i }
        write(dev.dir .. "/wwn/vpd_unit_serial", "x" .. i)
        write(dev.dir .. "/attrib/cmd_time_out", "20")
        dev:remove()
      end
      assert.equal(16 * MIB, guest.loop(ram()):size())
    end)

    it("makes a disk and takes it away, by the command line", function()
      local path = guest.sh "./tcmu-lua create d --handler ram --size 8M --disk"
      path = path:match "/dev/%S+"
      assert.equal(8 * MIB, guest.sh("blockdev --getsize64 %s", path) // 1)
      guest.sh("mkfs.ext4 -q %s && mount %s /mnt", path, path)
      local status, why = guest.try "./tcmu-lua delete d"
      assert.equal(1, status)
      assert.matches("is mounted on /mnt", why, 1, true)
      guest.sh "umount /mnt; ./tcmu-lua delete d"
      assert.is_false(guest.exists(path))
      local left = guest.names(TARGET .. "core")
      assert.same({ "alua" }, left)
      left = table.concat(guest.names(TARGET .. "loopback"), " ")
      assert.is_nil(left:find("naa.", 1, true))
    end)
  end)

  it("answers for subtypes that nobody has when it is alone", function()
    serve "--sole"
    local dev = ram { config = "rbd/x", enable = false }
    local ok, _, code = dev:try_enable()
    assert.is_nil(ok)
    assert.equal("ENOENT", code)
  end)

  it("lets no handler that never answers delay another device", function()
    guest.sh [[cat >/tmp/slow.lua <<'END'
local tcmu = require "tcmu"
return tcmu.handler { name = "slow", about = "never there",
  open = function() tcmu.sleep(600000) end, read = function() end }
END]]
    serve "--handler /tmp/slow.lua --shards 1"
    local slow = ram { config = "slow", enable = false }
    local hung = write(slow.dir .. "/enable", "1")
    local disk = guest.loop(ram())
    guest.sh("dd if=%s of=/dev/null bs=1M count=4 status=none", disk.path)
    assert.is_true(hung:running())
    assert.not_equal(0, hung:wait(40))
    daemon:wait_for_log "no answer within 25 s"
  end)

  describe("at its end", function()
    before_each(function() serve() end)

    it("lets enable no longer wait for answers", function()
      assert.equal(0, daemon:stop())
      assert.is_true(ram { config = "rbd/x", enable = false }:try_enable(10))
    end)

    it("does so as well when a second signal hurries it", function()
      daemon:stop()
      guest.sh [[cat >/tmp/reluctant.lua <<'END'
local tcmu = require "tcmu"
return tcmu.handler { name = "reluctant", about = "does not close",
  open = function() return {} end, read = function() end,
  close = function() tcmu.sleep(600000) end }
END]]
      serve "--handler /tmp/reluctant.lua"
      ram { config = "reluctant" }
      daemon:signal "sigterm"
      daemon:wait_for_log "SIGTERM: blocking"
      daemon:signal "sigterm"
      assert.equal(1, daemon:wait(10))
      assert.is_true(ram { config = "rbd/x", enable = false }:try_enable(10))
    end)

    it("blocks its devices, so that I/O goes on after a restart", function()
      local dev = ram()
      local disk = guest.loop(dev)
      guest.sh("dd if=/dev/urandom of=/data/x.img bs=1M count=64 status=none")
      local file = guest.device { config = "file/path=/data/x.img",
                                  size = 64 * MIB }
      local fio = guest.start(VERIFIED:format(guest.loop(file).path))
      guest.sh "sleep 3"
      assert.equal(0, daemon:stop())
      assert.equal("blocked", dev:get "action/block_dev")
      guest.sh "sleep 3"
      serve()
      assert.equal("unblocked", dev:get "action/block_dev")
      assert.equal(0, fio:wait(200), fio:output())
      guest.sh("dd if=%s of=/dev/null bs=1M status=none", disk.path)
    end)

    it("loses nothing when it is killed and started again", function()
      guest.sh "truncate -s 64M /data/x.img"
      local dev = guest.device { config = "file/path=/data/x.img",
                                 size = 64 * MIB }
      local fio = guest.start(VERIFIED:format(guest.loop(dev).path))
      guest.sh "sleep 3"
      daemon:signal "sigkill"
      daemon:wait(10)
      serve()
      assert.equal(0, fio:wait(200), fio:output())
    end)

    it("leaves a device blocked that its handler refuses later", function()
      guest.sh "truncate -s 16M /data/gone.img"
      local dev = guest.device { config = "file/path=/data/gone.img",
                                 size = 16 * MIB }
      assert.equal(0, daemon:stop())
      guest.sh "rm /data/gone.img"
      serve():wait_for_log "left blocked"
      assert.equal("blocked", dev:get "action/block_dev")
    end)
  end)

  describe("after a daemon that died", function()
    before_each(function() serve() end)

    it("answers the enable that hangs", function()
      local dev = ram { enable = false }
      local hung = dies_during(function()
        return write(dev.dir .. "/enable", "1")
      end)
      serve()
      assert.equal(0, hung:wait(10))
      assert.equal(16 * MIB, guest.loop(dev):size())
    end)

    it("ends the resize that hangs, to be tried again", function()
      local dev = ram()
      local hung = dies_during(function()
        return write(dev.dir .. "/attrib/dev_size", "33554432")
      end)
      serve()
      assert.not_equal(0, hung:wait(10))
      dev:set("attrib/dev_size", "33554432")
    end)

    it("frees the rmdir that hangs", function()
      local dev = ram { hba = "user_4" }
      local hung = dies_during(function()
        return guest.start("rmdir " .. dev.dir)
      end)
      serve():wait_for_log "hangs in rmdir"
      assert.equal(0, hung:wait(10))
      guest.mkdir(dev.dir)              -- for the clean-up to remove
      assert.is_true(guest.loop(ram()):size() > 0)
    end)
  end)

  it("makes disks beside tcmu-runner, which refuses all but its own", function()
    guest.sh "mkdir -p /run/dbus /etc/tcmu; dbus-daemon --system --fork"
    local runner = guest.start "exec tcmu-runner"
    guest.sh "sleep 3"
    serve()
    local path = guest.sh "./tcmu-lua create d --handler ram --size 8M --disk"
    guest.sh("dd if=%s of=/dev/null bs=1M status=none", path:match "/dev/%S+")
    guest.sh "./tcmu-lua delete d"
    assert.is_true(runner:running())
  end)

  it("does not start beside another tcmu-lua", function()
    serve()
    local status, why = guest.try("./tcmu-lua serve " .. ARGS)
    assert.equal(1, status)
    assert.matches("serves already", why)
  end)
end)
