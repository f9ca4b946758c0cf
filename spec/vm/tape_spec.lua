-- vm: time=900
--- A file is a tape of this machine: Linux's st driver, mt and tar use it
-- through /dev/st0 and /dev/nst0.

local guest = require "spec.vm.guest"

local TAPE <const> = "/dev/nst0"        -- does not rewind when it is closed
local FILE <const> = "/data/tape"

local function mt(command) return guest.sh("mt -f %s %s", TAPE, command) end

-- File and block number as the driver counts them.
local function position()
  local file, block = mt("status"):match(
    "File number=(%-?%d+), block number=(%-?%d+)")
  return tonumber(file), tonumber(block)
end

local function make_device_nodes()
  for _, name in ipairs { "st0", "nst0" } do
    local numbers = guest.read_line(
      ("/sys/class/scsi_tape/%s/dev"):format(name))
    guest.sh("test -c /dev/%s || mknod /dev/%s c %s", name, name,
             (numbers:gsub(":", " ")))
  end
end

describe("a tape", function()
  local function attach(size)
    guest.modprobe("target_core_user", "tcm_loop", "st", "sg")
    guest.serve "--shards 1"
    local disk = guest.loop(guest.device {
      config = "tape/path=" .. FILE, size = size or 64 << 20,
    }, { block = false })
    guest.wait_for("the tape's nodes", 30, function()
      return guest.exists "/sys/class/scsi_tape/nst0"
    end)
    make_device_nodes()
    return disk
  end

  before_each(function()
    guest.sh("rm -rf /data/tree* /data/got* %s*", FILE)
    guest.sh("mkdir -p /data/tree/sub")
    for name, bytes in pairs { ["a"] = 700001, ["sub/b"] = 4096,
                               ["sub/empty"] = 0 } do
      guest.sh("head -c %d /dev/urandom >/data/tree/%s", bytes, name)
    end
  end)
  after_each(guest.cleanup)

  it("holds archives of tar, one per file, in variable blocks", function()
    attach()
    mt "setblk 0"
    guest.sh("tar -cf %s -C /data tree", TAPE)
    guest.sh("tar -b 128 -cf %s -C /data/tree sub", TAPE)
    assert.same({ 2, 0 }, { position() })
    mt "rewind"
    guest.sh("mkdir /data/got1 /data/got2")
    guest.sh("tar -xf %s -C /data/got1", TAPE)
    mt "rewind"
    mt "fsf 1"
    guest.sh("tar -b 128 -xf %s -C /data/got2", TAPE)
    guest.sh("diff -r /data/tree /data/got1/tree")
    guest.sh("diff -r /data/tree/sub /data/got2/sub")
    -- The node that rewinds.
    guest.sh("tar -cf /dev/st0 -C /data tree && tar -df /dev/st0 -C /data")
  end)

  it("holds archives in fixed blocks, and appends at the end", function()
    attach()
    mt "setblk 512"
    guest.sh("tar -cf %s -C /data tree", TAPE)
    guest.sh("tar -cf %s -C /data/tree sub", TAPE)
    mt "rewind"
    mt "eod"
    assert.equal(2, (position()))
    guest.sh("tar -cf %s -C /data/tree a", TAPE)
    mt "asf 2"
    guest.sh("tar -df %s -C /data/tree", TAPE)
    mt "rewind"
    guest.sh("tar -df %s -C /data", TAPE)
  end)

  it("reads shorter and longer blocks as Linux does", function()
    attach()
    mt "setblk 0"
    local function put(text)
      guest.sh("printf %%s %s | dd of=%s bs=64k 2>/dev/null", text, TAPE)
    end
    put(("x"):rep(1000))
    put "second"
    mt "rewind"
    -- A short block is what read() returns; each file ends at its filemark.
    assert.equal(1000, #guest.sh("dd if=%s bs=64k 2>/dev/null", TAPE))
    assert.equal("second", guest.sh("dd if=%s bs=64k 2>/dev/null", TAPE))
    -- At the end of the data: an empty file, then an error.
    guest.try("dd if=%s bs=64k of=/data/got", TAPE)
    assert.not_equal(0, (guest.try("dd if=%s bs=64k of=/data/got", TAPE)))
    mt "rewind"
    -- A block that is longer than the buffer fails with ENOMEM and is passed.
    local status, output = guest.try("dd if=%s bs=100 of=/data/got", TAPE)
    assert.not_equal(0, status)
    assert.matches("Cannot allocate memory", output)
    mt "rewind"
    mt "fsf"
    assert.equal("second", guest.sh("dd if=%s bs=64k 2>/dev/null", TAPE))
  end)

  it("is wound forth and back by mt", function()
    attach()
    mt "setblk 0"
    for i = 1, 4 do
      guest.sh("head -c 3000 /dev/zero | tr '\\0' %d | dd of=%s bs=1000",
               i, TAPE)
    end
    local function file_at() return guest.sh("dd if=%s bs=1000 count=1 "
      .. "2>/dev/null | head -c 1", TAPE) end
    mt "bsfm 2"
    assert.equal("4", file_at())
    mt "rewind"
    mt "fsf 2"
    assert.same({ 2, 0 }, { position() })
    assert.equal("3", file_at())
    mt "fsr 1"
    assert.same({ 2, 2 }, { position() })
    mt "bsr 2"
    assert.same({ 2, 0 }, { position() })
    mt "bsf 2"
    mt "fsf 1"
    assert.equal("2", file_at())
    -- READ POSITION and LOCATE count blocks and filemarks.
    local block = tonumber(mt("tell"):match "%d+")
    assert.equal(5, block)
    mt "seek 12"
    assert.equal("4", file_at())
    assert.not_equal(0, (guest.try("mt -f %s fsf 9", TAPE)))
    mt "rewind"
    mt "weof 1"
    assert.not_equal(0, (guest.try("mt -f %s fsf 2", TAPE)))
    mt "rewind"
    mt "erase"
  end)

  it("is full when it is full, and has what it took", function()
    attach(4 << 20)
    mt "setblk 0"
    local status = guest.try("dd if=/dev/urandom of=/data/tree/big bs=10k "
      .. "count=600 2>&1; dd if=/data/tree/big of=%s bs=10k", TAPE)
    assert.not_equal(0, status)
    mt "rewind"
    local got = tonumber(guest.sh("dd if=%s of=/data/got bs=10k 2>/dev/null; "
                                  .. "stat -c %%s /data/got", TAPE))
    assert.is_true(got > 2 << 20 and got % 10240 == 0)
    guest.sh("cmp -n %d /data/got /data/tree/big", got)
  end)

  it("is unloaded and loaded, and keeps its data over a restart", function()
    local disk = attach()
    mt "setblk 0"
    guest.sh("tar -cf %s -C /data tree", TAPE)
    mt "rewoffl"
    assert.not_equal(0, (guest.try("sg_turs %s", disk.sg)))
    mt "load"
    guest.sh("tar -df %s -C /data", TAPE)
    guest.cleanup()
    attach()
    mt "setblk 0"
    guest.sh("tar -df %s -C /data", TAPE)
    -- It was not at its start, and who writes now may not know that it is.
    assert.not_equal(0, (guest.try("tar -cf %s -C /data tree", TAPE)))
    mt "rewind"
    guest.sh("tar -df %s -C /data", TAPE)
    mt "rewind"
    guest.sh("tar -cf %s -C /data tree", TAPE)
  end)
end)
