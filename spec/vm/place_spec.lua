-- vm: time=300
--- Where a shard runs that sleeps between commands: with an initiator that waits
--- for each answer it stays on one processor, since that is faster on the real
--- kernel; with one that does not it is free.

local guest = require "spec.vm.guest"

-- The processors where the shard may run, as "0-1" or "1".
local function allowed(daemon)
  local tasks = ("/proc/%d/task/"):format(daemon.pid)
  for _, tid in ipairs(guest.names(tasks)) do
    if guest.read_line(tasks .. tid .. "/comm") == "shard-1" then
      return guest.read_file(tasks .. tid .. "/status")
        :match "Cpus_allowed_list:%s*(%S+)"
    end
  end
end

describe("a shard that sleeps", function()
  after_each(guest.cleanup)

  for _, handler in ipairs { "ram", "file/path=/tmp/disk.img;create=yes" } do
    it("stays where it is for commands that come one at a time: " .. handler,
       function()
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      local daemon = guest.serve "--poll off --shards 1"
      local disk = guest.loop(guest.device { config = handler,
                                             size = 64 << 20 })
      local everywhere = allowed(daemon)
      local function under_load(depth, expected)
        local fio = guest.start(("exec fio --thread --direct=1 --name=load " ..
          "--ioengine=libaio --rw=randread --bs=4k --time_based " ..
          "--runtime=60 --filename=%s --iodepth=%d"):format(disk.path, depth))
        guest.wait_for("a shard at " .. expected, 50, function()
          return allowed(daemon):find(expected) ~= nil, allowed(daemon)
        end)
        fio:signal "sigint"
        fio:wait(20)
      end

      assert.matches("^0%-%d+$", everywhere)
      under_load(1, "^%d+$")
      under_load(32, "^" .. everywhere:gsub("%-", "%%-") .. "$")
      assert.equal(0, daemon:stop())
    end)
  end
end)
