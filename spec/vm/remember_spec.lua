-- vm: time=600
--- What devices remember beyond the daemon's life, on the real kernel.

local guest = require "spec.vm.guest"

local STATE <const> = "/var/lib/tcmu-lua"
local SIZE <const> = 1 << 30
local IMAGE <const> = "/data/sanitized.img"

describe("a device", function()
  local daemon

  local function serve(prefix)
    daemon = guest.serve("--shards 2", prefix)
  end

  local function disk_of(name)
    local dev = guest.device {
      config = "file/path=" .. IMAGE, size = SIZE, name = name,
      control = { "hw_max_sectors=2048" },
    }
    return guest.loop(dev), dev
  end

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    guest.sh("truncate -s %d %s", SIZE, IMAGE)
  end)
  after_each(function()
    guest.cleanup()
    guest.sh("rm -rf %s %s", IMAGE, STATE)
  end)

  -- The note of an operation's progress, nil if there is none.
  local function noted(dev)
    local path = ("%s/%s_%s"):format(STATE, dev.hba, dev.name)
    return guest.exists(path) and
      guest.read_file(path):match "operation_done=(%d+)"
  end

  it("goes on with a SANITIZE that a crash has interrupted", function()
    serve()
    assert.equal("700 root", guest.sh("stat -c '%%a %%U' %s", STATE))
    local disk, dev = disk_of()
    guest.sh "printf 'gone for good.\n.' >/tmp/pattern"
    guest.sh("sg_sanitize --overwrite --pattern=/tmp/pattern --early --quick %s",
             disk.sg)
    guest.wait_for("a note of the progress", 200, function()
      return (tonumber(noted(dev)) or 0) > 0
    end)
    daemon:signal "sigkill"
    daemon:wait(10)
    serve()
    local at = daemon:wait_for_log "goes on with SANITIZE"
    assert.is_true(tonumber(at:match "at byte (%d+)") >= 1 << 28, at)
    guest.wait_for("progress of the rest", 30, function()
      local _, output = guest.try("sg_requests --progress %s", disk.sg)
      return output:match "Progress indication: (%d+)"
    end)
    local _, refused = guest.try("sg_turs -v %s", disk.sg)
    assert.matches("anitize in progress", refused)

    guest.wait_for("the end", 200, function()
      return guest.try("sg_turs %s", disk.sg) == 0
    end)
    assert.is_falsy(noted(dev))
    guest.sh("dd if=%s of=/dev/null bs=1M count=1 status=none", disk.path)
    -- All of it is the pattern: one line, again and again.
    assert.equal("gone for good.\n.", guest.sh("head -c 16 %s", IMAGE))
    assert.equal("0", guest.sh("tr -d 'gonefrd .\\n' <%s | wc -c", IMAGE))
  end)

  it("keeps the text that an administrator has left", function()
    serve()
    local disk = disk_of()
    guest.sh("printf 'shelf 7' | sg_ident --set %s", disk.sg)
    daemon:stop()
    serve()
    assert.equal("shelf 7", guest.sh("sg_ident --ascii %s", disk.sg)
                              :match "shelf 7")
  end)

  it("inherits nothing when it has been deleted", function()
    serve()
    local disk = guest.sh(
      "./tcmu-lua create d --handler file --size %d --disk --option path=%s",
      SIZE, IMAGE)
    local sg = guest.sh("ls /sys/block/%s/device/scsi_generic",
                        disk:match "/dev/(%S+)")
    guest.sh("printf 'shelf 7' | sg_ident --set /dev/%s", sg)
    assert.equal(1, #guest.names(STATE))
    guest.sh "./tcmu-lua delete d"
    assert.same({}, guest.names(STATE))
  end)

  it("refuses what it could not remember, and the log says why", function()
    serve "env STATE_DIRECTORY=/proc/nowhere"
    daemon:wait_for_log "/proc/nowhere a directory"
    local disk = disk_of()
    guest.sh("dd if=/dev/urandom of=%s bs=1M count=1 oflag=direct status=none",
             disk.path)
    local before = guest.sh("md5sum %s", IMAGE)
    for _, command in ipairs {
      "printf x | sg_ident --set",
      "sg_sanitize --overwrite --zero --quick",
      "sg_format --format --quick --wait",
    } do
      local status, output = guest.try("%s %s", command, disk.sg)
      assert.not_equal(0, status)
      assert.matches("[Hh]ardware error", output)
    end
    daemon:wait_for_log "what has to survive a restart"
    guest.sh("sg_turs %s", disk.sg)
    assert.equal(before, guest.sh("md5sum %s", IMAGE))
  end)
end)
