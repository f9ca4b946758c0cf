-- vm: time=600
--- EXTENDED COPY between disks of two handlers on two threads: sg_xcopy moves
-- what no initiator reads.

local guest = require "spec.vm.guest"

local SIZE <const> = 32 << 20
local CONTROL <const> = { "hw_max_sectors=2048" }

describe("EXTENDED COPY", function()
  local source, destination, daemon

  -- Least loaded first, so each device has a thread to itself.
  local function start(arguments)
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    daemon = guest.serve("--shards 2 " .. arguments)
    source = guest.loop(guest.device {
      config = "file/path=/data/source.img;create=yes", size = SIZE,
      control = CONTROL })
    destination = guest.loop(guest.device { config = "ramdisk", size = SIZE,
                                            control = CONTROL })
    guest.sh("dd if=/dev/urandom of=%s bs=1M oflag=direct status=none",
             source.path)
  end
  after_each(guest.cleanup)

  local function sum(disk)
    return guest.sh("dd if=%s bs=1M iflag=direct status=none | sha256sum",
                    disk.path)
  end

  local function xcopy(from, to, more)
    return guest.try("sg_xcopy if=%s of=%s bs=512 bpt=8192 %s", from.sg, to.sg,
                     more or "")
  end

  it("goes from one to the other, whoever is asked", function()
    start "--third-party-copy"
    for _, asked in ipairs { "--on_src", "--on_dst" } do
      guest.sh("dd if=/dev/zero of=%s bs=1M oflag=direct status=none "
               .. "count=%d", destination.path, SIZE >> 20)
      local status, output = xcopy(source, destination, asked)
      assert.equal(0, status, output)
      assert.equal(sum(source), sum(destination))
    end
    guest.sh("dd if=/dev/urandom of=%s bs=1M oflag=direct status=none count=3",
             destination.path)
    local status, output = xcopy(destination, source)
    assert.equal(0, status, output)
    assert.equal(sum(destination), sum(source))
    assert.equal(0, daemon:stop())
  end)

  it("needs the operator's word for that", function()
    start ""
    local before = sum(destination)
    assert.not_equal(0, (xcopy(source, destination, "--on_src")))
    assert.equal(before, sum(destination))
    daemon:wait_for_log "serve %-%-third%-party%-copy"
    assert.equal(0, daemon:stop())
  end)
end)
