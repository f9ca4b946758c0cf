-- vm: time=900 kernel=6.1,6.12
--- Linux takes handlers/zoned.lua for a host managed zoned disk: blkzone, fio
--- in zone mode and zonefs use it, and it survives its daemon.

local guest = require "spec.vm.guest"

local MiB <const> = 1 << 20
local SIZE <const>, ZONE <const> = 256 * MiB, 8 * MiB
local ZONES <const> = SIZE // ZONE
local CONVENTIONAL <const>, MOST <const> = 4, 6
local SECTOR <const> = 512
local FIRST <const> = CONVENTIONAL * ZONE // SECTOR     -- with a write pointer

local CONFIG <const> = ("zoned/path=/data/z.img;create=yes;zone_size=%d;"
  .. "conventional=%d;max_open=%d"):format(ZONE, CONVENTIONAL, MOST)

-- What blkzone reports: { start =, pointer =, condition = "em", type =
-- "SEQ_WRITE_REQUIRED" }, numbers in sectors.
local function zones_of(path)
  local list = {}
  for line in guest.sh("blkzone report %s", path):gmatch("[^\n]+") do
    local start, pointer, condition, kind = line:match(
      "start: 0x(%x+).*wptr 0x(%x+).*zcond: ?%d+%((%w+)%).*type: %d+%((.-)%)")
    list[#list + 1] = { start = tonumber(start, 16), type = kind,
                        pointer = tonumber(pointer, 16),
                        condition = condition }
  end
  return list
end

-- The superblock that mkzonefs writes: magic, CRC-32 without the final
-- inversion, label, UUID, features and owner (kernel: zonefs.h).
local function superblock()
  local function pack(crc)
    return string.pack("<I4I4c64c16I8I4I4I4c3988", 0x5A4F4653, crc, "tcmu",
                       "0123456789abcdef", 0, 0, 0, tonumber("640", 8), "")
  end
  local crc = 0xFFFFFFFF
  for i, byte in ipairs { pack(0):byte(1, 4096) } do
    assert(i)
    crc = crc ~ byte
    for _ = 1, 8 do
      crc = crc & 1 == 1 and crc >> 1 ~ 0xEDB88320 or crc >> 1
    end
  end
  return pack(crc)
end

local function fio(path, more)
  return ("exec fio --name=z --filename=%s --zonemode=zbd --direct=1 "
    .. "--ioengine=libaio --iodepth=8 --verify=crc32c --verify_fatal=1 "
    .. "--max_open_zones=4 --minimal %s"):format(path, more)
end

for _, block_size in ipairs { 512, 4096 } do
  describe(("a zoned disk with blocks of %d bytes"):format(block_size),
  function()
    local dev, disk, daemon

    local function serve() return guest.serve "--shards 2" end

    before_each(function()
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg", "zonefs")
      daemon = serve()
      dev = guest.device { config = CONFIG, size = SIZE, control = {
        "hw_max_sectors=2048", "hw_block_size=" .. block_size } }
      disk = guest.loop(dev)
    end)
    after_each(function()
      guest.cleanup()
      os.remove "/data/z.img"
      os.remove "/data/z.img.zones"
    end)

    local function queue(name)
      return guest.read_line(("/sys/block/%s/queue/%s"):format(disk.name, name))
    end

    it("is one for Linux, with all its zones and limits", function()
      assert.equal(SIZE, disk:size())
      assert.equal("host-managed", queue "zoned")
      assert.equal(ZONES, tonumber(queue "nr_zones"))
      assert.equal(ZONE // SECTOR, tonumber(queue "chunk_sectors"))
      assert.equal(MOST, tonumber(queue "max_open_zones"))
      local list = zones_of(disk.path)
      assert.equal(ZONES, #list)
      assert.equal("CONVENTIONAL", list[CONVENTIONAL].type)
      assert.equal("SEQ_WRITE_REQUIRED", list[CONVENTIONAL + 1].type)
    end)

    it("obeys blkzone", function()
      local function first() return zones_of(disk.path)[CONVENTIONAL + 1] end
      local function blkzone(verb)
        guest.sh("blkzone %s -o %d -c 1 %s", verb, FIRST, disk.path)
      end
      assert.equal("em", first().condition)
      guest.sh("dd if=/dev/urandom of=%s bs=64k count=3 seek=%d oflag=direct",
               disk.path, FIRST * SECTOR // 65536)
      assert.equal("oi", first().condition)
      assert.equal(3 * 65536 // SECTOR, first().pointer)
      blkzone "close"
      assert.equal("cl", first().condition)
      blkzone "open"
      assert.equal("oe", first().condition)
      blkzone "finish"
      assert.equal("fu", first().condition)
      blkzone "reset"
      assert.equal("em", first().condition)
      guest.sh("blkzone reset %s", disk.path)
    end)

    it("refuses to write where the pointer is not", function()
      local status = guest.try("dd if=/dev/zero of=%s bs=64k count=1 seek=%d "
        .. "oflag=direct conv=notrunc", disk.path,
        FIRST * SECTOR // 65536 + 1)
      assert.not_equal(0, status)
    end)

    it("keeps what fio writes, in order and at random", function()
      for _, how in ipairs { "write", "randwrite" } do
        guest.sh_within(240, "%s", fio(disk.path, ("--rw=%s --bsrange=4k-64k "
          .. "--offset=%d --size=%d --io_size=%d"):format(how,
          FIRST * SECTOR, 8 * ZONE, 24 * MiB)))
        guest.sh("blkzone reset %s", disk.path)
      end
    end)

    it("holds a zonefs whose files are its zones", function()
      local f = assert(io.open("/tmp/super", "wb"))
      f:write(superblock())
      f:close()
      guest.sh("dd if=/tmp/super of=%s bs=4096 oflag=direct conv=notrunc",
               disk.path)
      guest.sh("mkdir -p /tmp/z && mount -t zonefs %s /tmp/z", disk.path)
      guest.defer(function() guest.try "umount /tmp/z" end)
      assert.equal(ZONES - CONVENTIONAL, #guest.names "/tmp/z/seq")
      -- By libaio: for synchronous writes zonefs of 6.1 looks for its pointer
      -- where it will be after the write, and gives up (fixed since).
      local job = "fio --name=f --filename=/tmp/z/seq/0 --ioengine=libaio "
        .. "--iodepth=4 --direct=1 --bs=64k --size=1M --fallocate=none "
        .. "--create_on_open=1 --verify=crc32c --minimal --rw="
      guest.sh(job .. "write --do_verify=0")
      guest.sh "umount /tmp/z"
      guest.sh("mount -t zonefs %s /tmp/z", disk.path)
      assert.equal(MiB, tonumber(guest.sh "stat -c %s /tmp/z/seq/0"))
      guest.sh(job .. "read --verify_only=1")
      assert.equal(MiB // SECTOR, zones_of(disk.path)[CONVENTIONAL + 1].pointer)
      guest.sh "truncate -s 0 /tmp/z/seq/0"
      assert.equal("em", zones_of(disk.path)[CONVENTIONAL + 1].condition)
    end)

    it("loses nothing when its daemon is killed under writes", function()
      local mark = guest.log_mark()
      local io = guest.start(fio(disk.path, ("--rw=randwrite --bs=16k "
        .. "--offset=%d --size=%d --io_size=%d"):format(FIRST * SECTOR,
        16 * ZONE, 32 * MiB)))
      for _ = 1, 2 do
        guest.sh "sleep 3"
        assert.is_true(io:running(), io:output())
        daemon:signal "sigkill"
        daemon:wait(60)
        daemon = serve()
      end
      assert.equal(0, io:wait(240), io:output())
      assert.is_nil(guest.kernel_log(mark):find("I/O error", 1, true))
    end)
  end)
end
