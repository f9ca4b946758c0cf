-- vm: time=900
--- Stopping and crashing under verified I/O: nothing is lost, no I/O fails.

local guest = require "spec.vm.guest"

local MiB <const> = 1 << 20
local CONFIG <const> = "file/path=/data/r.img;create=yes"

-- Writes with checksums at depth, and verifies all of it afterwards.
local function verified_io(path, seconds)
  return guest.start(("exec fio --name=x --filename=%s --rw=randrw --bsrange="
    .. "4k-64k --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c "
    .. "--verify_backlog=128 --verify_fatal=1 --time_based --runtime=%d "
    .. "--minimal"):format(path, seconds))
end

describe("the daemon", function()
  local dev, disk, daemon

  local function serve() return guest.serve "--shards 2" end

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    daemon = serve()
    dev = guest.device { config = CONFIG, size = 128 * MiB,
                         control = { "hw_max_sectors=2048" } }
    disk = guest.loop(dev)
  end)
  after_each(function()
    guest.cleanup()
    os.remove "/data/r.img"
  end)

  for _, name in ipairs { "sigterm", "sigkill" } do
    it("loses nothing when it gets " .. name:upper() .. " under I/O and comes "
       .. "back", function()
      local mark = guest.log_mark()
      local io = verified_io(disk.path, 50)
      guest.sh "sleep 5"
      for _ = 1, 2 do
        daemon:signal(name)
        local status = daemon:wait(60)
        assert.equal(name == "sigterm" and 0 or 128 + 9, status)
        assert.is_true(io:running(), io:output())
        guest.sh "sleep 2"
        daemon = serve()
        assert.matches("ready: 1 devices", daemon:output())
        guest.sh "sleep 4"
      end
      assert.equal(0, io:wait(180), io:output())
      assert.is_nil(guest.kernel_log(mark):find("I/O error", 1, true))
    end)
  end

  -- What Linux has begun for a killed process moves the pages of commands that
  -- it forgets with the ring, and that others get.
  it("lets nothing in before the direct I/O of one that was killed is over",
     function()
    local HZ <const>, SETTINGS <const> = 250, "/sys/bus/pseudo/drivers/scsi_debug/"
    guest.sh "modprobe scsi_debug dev_size_mb=16"
    guest.defer(function() guest.sh "modprobe -r scsi_debug" end)
    local name <const> = guest.sh("ls %sadapter0/host*/target*/*:*/block",
                                  SETTINGS)
    guest.sh("head -c 4096 /dev/urandom >/tmp/block")
    guest.sh("dd if=/tmp/block of=/dev/%s conv=fsync 2>&1", name)
    local other <const> = guest.device {
      config = ("file/path=/dev/%s;direct=yes"):format(name), size = 16 * MiB }
    local slow <const> = guest.loop(other)
    local blocked <const> = other.dir .. "/action/block_dev"
    local busy <const> = ("/sys/block/%s/inflight"):format(name)
    local stat <const> = ("/sys/block/%s/stat"):format(name)
    local function done(text) return tonumber(text:match "%d+") end

    slow:settle()
    guest.wait_for("the disk to be idle, and then slow", 30, function()
      return guest.try_write(SETTINGS .. "delay", 15 * HZ)
    end)
    local reader <const> = guest.start(("exec dd if=%s of=/tmp/again bs=4096 "
      .. "count=1 iflag=direct"):format(slow.path))
    guest.wait_for("a read to be under way", 30, function()
      return guest.read_file(busy):find "1"
    end)
    local before <const> = done(guest.read_file(stat))
    daemon:stop "sigkill"
    local watcher <const> = guest.start((
      "until grep -q '^blocked' %s; do sleep 0.02; done; "
      .. "while grep -q '^blocked' %s; do sleep 0.02; done; cat %s"):format(
      blocked, blocked, stat))
    daemon = serve()
    assert.equal(0, watcher:wait(60))
    assert.is_true(done(watcher:output()) > before, watcher:output())
    assert.matches("ready: 2 devices", daemon:output())
    assert.equal(0, reader:wait(120), reader:output())
    guest.sh "cmp /tmp/block /tmp/again"
  end)

  it("says in its last words how long initiators wait", function()
    daemon:stop()
    assert.matches("two minutes", daemon:output())
    assert.equal("blocked", guest.read_line(dev.dir .. "/action/block_dev"))
    daemon = serve()
    assert.equal("unblocked", guest.read_line(dev.dir .. "/action/block_dev"))
  end)

  it("takes back the waiting for answers when it stops", function()
    daemon:stop()
    local other = guest.device { config = "nobody/x", size = 16 * MiB,
                                 enable = false }
    assert.is_true(other:try_enable(20))
    other:remove()
    daemon = serve()
  end)

  it("frees an enable that a crash has left hanging", function()
    daemon:stop "sigkill"
    local other = guest.device { config = "ram", size = 16 * MiB,
                                 enable = false }
    local hanging = guest.start(("echo 1 >%s/enable"):format(other.dir))
    guest.sh "sleep 3"
    assert.is_true(hanging:running())
    daemon = serve()
    hanging:wait(30)
    assert.is_true(daemon:running())
  end)

  it("keeps a file system whole over a crash in the middle of a copy", function()
    guest.make_filesystem(disk.path, "ext4")
    local at, unmount = guest.mount(disk.path)
    local copy = guest.start(("exec cp -a /usr/share/lua /usr/lib/python3 %s")
                             :format(at))
    guest.sh "sleep 1"
    daemon:stop "sigkill"
    guest.sh "sleep 2"
    daemon = serve()
    assert.equal(0, copy:wait(120), copy:output())
    guest.sh("sync")
    guest.sh("diff -r /usr/share/lua %s/lua && diff -r /usr/lib/python3 "
             .. "%s/python3", at, at)
    unmount()
    guest.check_filesystem(disk.path, "ext4")
  end)
end)
