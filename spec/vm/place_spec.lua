-- vm: time=500 kernel=6.1,6.12 cpus=2
--- Where a shard runs that sleeps between commands: with an initiator that waits
--- for each answer it stays on one processor, since that is faster on the real
--- kernel; with one that does not it is free, and so is what works for it.

local guest = require "spec.vm.guest"

-- The processors where threads of such a name may run, as "0-1" or "1".
local function allowed(daemon, name)
  local tasks, all = ("/proc/%d/task/"):format(daemon.pid), {}
  for _, tid in ipairs(guest.names(tasks)) do
    if guest.read_line(tasks .. tid .. "/comm"):find(name) then
      all[#all + 1] = guest.read_file(tasks .. tid .. "/status")
        :match "Cpus_allowed_list:%s*(%S+)"
    end
  end
  return all
end

local function load(disk, kind, depth)
  return guest.start(("exec fio --thread --direct=1 --name=load --rw=%s " ..
    "--ioengine=libaio --bs=4k --time_based --runtime=300 --filename=%s " ..
    "--iodepth=%d"):format(kind, disk.path, depth))
end

local function over(fio)
  fio:signal "sigint"
  fio:wait(20)
end

describe("a shard that sleeps", function()
  local daemon, disk, everywhere

  local function serve(config)
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    daemon = guest.serve "--poll off --shards 1"
    disk = guest.loop(guest.device {
      config = config, size = 64 << 20, attrib = { emulate_write_cache = 1 } })
    everywhere = allowed(daemon, "^shard%-1$")[1]
    assert.matches("^0%-%d+$", everywhere)
  end

  local function wait_for_shard(what, fits)
    guest.wait_for("a shard that is " .. what, 120, function()
      local where = allowed(daemon, "^shard%-1$")[1]
      return fits(where), where
    end)
  end

  local function until_bound()
    wait_for_shard("bound", function(where) return where:find "^%d+$" end)
  end

  local function until_free()
    wait_for_shard("free", function(where) return where == everywhere end)
  end

  after_each(guest.cleanup)

  for _, config in ipairs { "ram", "file/path=/tmp/disk.img;create=yes" } do
    it("stays where it is for commands that come one at a time: " .. config,
       function()
      serve(config)
      local one <const> = load(disk, "randread", 1)
      until_bound()
      over(one)
      local many <const> = load(disk, "randread", 32)
      until_free()
      over(many)
      assert.equal(0, daemon:stop())
    end)
  end

  it("leaves its workers free", function()
    finally(function() os.remove "/data/disk.img" end)
    serve "file/path=/data/disk.img;create=yes;writes=async"
    local reads <const> = load(disk, "randread", 1)
    until_bound()
    local writes <const> = load(disk, "randwrite", 4)
    guest.wait_for("workers of the kernel's", 20, function()
      return #allowed(daemon, "^iou%-wrk") > 0
    end)
    over(writes)
    for _, where in ipairs(allowed(daemon, "^iou%-wrk")) do
      assert.equal(everywhere, where)
    end
    over(reads)
  end)
end)
