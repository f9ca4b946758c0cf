-- vm: time=1800
--- libiscsi's suite against a disk of ours, by the kernel's own iSCSI target:
--- nothing fails but what the device cannot help, and that is proven here.
-- The other handlers, other blocks and the peers: conformance_all_spec.lua.

local conformance = require "spec.vm.conformance"
local guest = require "spec.vm.guest"
local proofs = require "spec.vm.conformance_proofs"

local MiB <const> = 1 << 20

-- A medium in a drive.  Nobody tells a device that a nexus is gone, and the
-- core refuses target resets (SAM-5 7.6 leaves both to the target).
local REMOVABLE <const> = {
  ["PreventAllow.ITNexusLoss"] = true,
  ["PreventAllow.Logout"] = true,
  ["PreventAllow.WarmReset"] = true,
  ["PreventAllow.ColdReset"] = true,
}

describe("libiscsi's suite", function()
  local daemon, depth

  setup(function()
    guest.modprobe("target_core_user", "iscsi_target_mod", "tcm_loop", "sg")
    daemon = guest.serve("--shards 2 --handler "
                         .. "spec/vm/witness.lua")
  end)
  before_each(function() depth = guest.depth() end)
  after_each(function() guest.cleanup(depth) end)
  teardown(guest.cleanup)

  it("finds no failure of its own in ram", function()
    local target = conformance.export { config = "ram", size = 64 * MiB }
    local result = conformance.run(target, "ram")
    conformance.judge(result, conformance.known)
    conformance.ran(result, 209)
  end)

  it("can eject and load a removable disk", function()
    local target = conformance.export { config = "ram/removable=1",
                                        size = 64 * MiB }
    for family, most in pairs { PreventAllow = 4, StartStopUnit = 3 } do
      local result = conformance.run(target, family, "SCSI." .. family)
      conformance.judge(result, REMOVABLE)
      assert.equal(most, result.passed)
    end
  end)

  it("can change nothing on a disk that is read only", function()
    guest.sh("truncate -s %d /data/ro", 64 * MiB)
    guest.defer(function() guest.sh "rm /data/ro" end)
    local target = conformance.export { config = "file/path=/data/ro;mode=ro",
                                        size = 64 * MiB }
    local result = conformance.run(target, "read-only", "SCSI.ReadOnly")
    assert.equal(1, result.passed)
  end)

  -- Apart from the others: a test of reservations leaves one on the second
  -- path, and CompareAndWrite clears 256 blocks and takes 257 for zero.
  it("finds two paths to a disk in order", function()
    local target, dev = conformance.export { config = "ram", size = 64 * MiB }
    local second = guest.export(dev)
    target.url = target.url .. " " .. second.url
    local result = conformance.run(target, "two-paths", "SCSI.MultipathIO")
    assert.equal(4, result.passed)
  end)

  describe("fails where the ring shows that", function()
    for _, test in ipairs(proofs(conformance.known, 512,
                                 function() return daemon end)) do
      it(test[1], test[2])
    end
  end)
end)
