-- vm: time=7200 only=named
--- libiscsi's suite against all handlers of disks, with blocks of 4096 bytes,
--- and against the kernel's fileio and tcmu-runner: the score.

local conformance = require "spec.vm.conformance"
local guest = require "spec.vm.guest"
local proofs = require "spec.vm.conformance_proofs"

local MiB <const> = 1 << 20

describe("libiscsi's suite", function()
  local depth

  setup(function()
    guest.modprobe("target_core_user", "target_core_file", "iscsi_target_mod")
  end)
  before_each(function() depth = guest.depth() end)
  after_each(function() guest.cleanup(depth) end)
  teardown(function()
    conformance.print_score()
    guest.cleanup()
  end)

  for _, disk in ipairs {
    { "ram", least = 209 }, { "ramdisk", least = 209 },
    -- A file has no WRITE ATOMIC.
    { "file", path = "/path=/data/disk;create=yes", least = 203 },
    -- What needs several blocks to a physical one is skipped.
    { "ram", 4096, least = 204 },
  } do
    local config, block = disk[1], disk[2] or 512
    local name = disk[2] and config .. "-" .. block or config
    it("finds no failure of its own in " .. name, function()
      guest.serve "--shards 2"
      local target = conformance.export {
        config = config .. (disk.path or ""), size = 64 * MiB,
        control = { "hw_block_size=" .. block },
      }
      local result = conformance.run(target, name)
      conformance.judge(result, conformance.known,
                        block > 512 and conformance.known_longer or nil)
      conformance.ran(result, disk.least)
    end)
  end

  describe("fails where the ring shows that", function()
    local daemon

    setup(function()
      daemon = guest.serve("--shards 2 --handler "
                           .. "spec/vm/witness.lua")
    end)
    teardown(function() daemon:stop() end)

    for _, test in ipairs(proofs(conformance.known_longer, 4096,
                                 function() return daemon end)) do
      it(test[1], test[2])
    end
  end)

  -- The peers, with the same arguments; what they fail is their own affair.
  it("measures the kernel's fileio", function()
    guest.sh("truncate -s %d /data/peer", 64 * MiB)
    local dev = guest.backstore { hba = "fileio_0", control = {
      "fd_dev_name=/data/peer,fd_dev_size=" .. 64 * MiB } }
    dev:enable()
    conformance.run(guest.export(dev), "fileio")
  end)

  it("measures tcmu-runner's handler of files", function()
    guest.sh("rm -f /data/peer; truncate -s %d /data/peer", 64 * MiB)
    guest.tcmu_runner()
    local dev = guest.device {
      config = "qcow//data/peer", size = 64 * MiB,
      control = { "hw_max_sectors=2048" },
    }
    conformance.run(guest.export(dev), "tcmu-runner")
  end)
end)
