-- vm: time=600
--- Copies between disks of two handlers on two threads, by EXTENDED COPY and by
-- tokens: no initiator reads what is moved.

local guest = require "spec.vm.guest"

local SIZE <const> = 32 << 20
local CONTROL <const> = { "hw_max_sectors=2048" }

describe("a copy", function()
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
    guest.sh("dd if=/dev/urandom of=%s bs=1M oflag=direct status=none "
             .. "count=%d", source.path, SIZE >> 20)
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

  it("by sg_xcopy goes from one to the other, whoever is asked", function()
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

  -- A command of 16 bytes with Data-Out; raises unless it ends with GOOD.
  local function send(disk, cdb, data)
    guest.write_file("/tmp/list", data)
    guest.sh("sg_raw -s %d -i /tmp/list %s %s", #data, disk.sg,
             (cdb:gsub(".", function(c) return ("%02x "):format(c:byte()) end)))
  end

  it("by token needs nobody's word", function()
    start ""
    local blocks <const> = 8192
    local range = string.pack(">I8I4xxxx", 0, blocks)
    local list = string.pack(">s2", string.pack(">BxI4I4xxs2", 0, 0, 0, range))
    send(source, string.pack(">BBxxxxI4I4xx", 0x83, 0x10, 1, #list), list)
    guest.sh("sg_raw -r 1024 -o /tmp/told %s 84 07 00 00 00 01 00 00 00 00 00 "
             .. "00 04 00 00 00", source.sg)
    local token = guest.read_file("/tmp/told"):sub(39, 38 + 512)
    list = string.pack(">s2", string.pack(">BxxxxxI8c512xxxxxxs2", 0, 0, token,
                                          range))
    send(destination, string.pack(">BBxxxxI4I4xx", 0x83, 0x11, 1, #list), list)
    local function first(disk)
      return guest.sh("dd if=%s bs=1M count=4 iflag=direct status=none "
                      .. "| sha256sum", disk.path)
    end
    assert.equal(first(source), first(destination))

    guest.sh("dd if=/dev/zero of=%s bs=4096 seek=3 count=1 oflag=direct "
             .. "status=none", source.path)
    local status, output = guest.try("sg_raw -s %d -i /tmp/list %s 83 11 00 00 "
      .. "00 00 00 00 00 01 00 00 02 28 00 00", #list, destination.sg)
    assert.not_equal(0, status)
    assert.matches("[Rr]evoked", output)
    assert.equal(0, daemon:stop())
  end)

  it("by sg_xcopy needs the operator's word", function()
    start ""
    local before = sum(destination)
    assert.not_equal(0, (xcopy(source, destination, "--on_src")))
    assert.equal(before, sum(destination))
    daemon:wait_for_log "serve %-%-third%-party%-copy"
    assert.equal(0, daemon:stop())
  end)
end)
