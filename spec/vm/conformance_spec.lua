-- vm: time=1800
--- libiscsi's suite against a disk of ours, by the kernel's own iSCSI target:
--- nothing fails but what the device cannot help, and that is proven here.
-- The other handlers, other blocks and the peers: conformance_all_spec.lua.

local cdb = require "tcmu.cdb"
local conformance = require "spec.vm.conformance"
local guest = require "spec.vm.guest"
local libiscsi = require "spec.vm.libiscsi"

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
    daemon = guest.serve("--shards 2 --budget 5000 --handler "
                         .. "spec/vm/witness.lua")
  end)
  before_each(function() depth = guest.depth() end)
  after_each(function() guest.cleanup(depth) end)
  teardown(guest.cleanup)

  it("finds no failure of its own in ram", function()
    local target = conformance.export { config = "ram", size = 64 * MiB }
    local result = conformance.run(target, "ram")
    conformance.judge(result, conformance.known)
    -- Two more where the core's reservations are in time.
    assert.is_true(result.passed >= 194, result.passed .. " passed")
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
    -- What reached the device since `from`: { cdb =, opcode =, layout =,
    -- wanted = bytes that the CDB names, fabric = bytes, answered = text }.
    local function seen(from)
      local list = {}
      for hex, fabric, answered in daemon:output():sub(from + 1)
          :gmatch "saw (%x+) fabric=(%d+) answered=([^\n]+)" do
        local bytes = hex:gsub("%x%x", function(pair)
          return string.char(tonumber(pair, 16))
        end)
        local layout = cdb.find(bytes)
        local blocks = layout.blocks and cdb.get(bytes, layout.blocks)
        list[#list + 1] = {
          cdb = hex, opcode = bytes:byte(1), wanted = blocks and blocks * 512,
          fabric = tonumber(fabric), answered = answered,
        }
      end
      return list
    end

    local function complains_only_of(failures, allowed)
      for _, failure in ipairs(failures) do
        local known = false
        for _, pattern in ipairs(allowed) do
          known = known or failure:find(pattern) ~= nil
        end
        assert.is_true(known, failure)
      end
    end

    -- How many of the commands had another length in the fabric than in the
    -- CDB; `judge(command)` looks at each.
    local function odd(list, judge)
      local count = 0
      for _, command in ipairs(list) do
        if command.fabric ~= command.wanted then count = count + 1 end
        judge(command)
      end
      return count
    end

    local proof = {}

    -- All that the CDB asks for was offered, and of the two residuals that
    -- asks for, underflow is not among the complaints.
    function proof.read_residual(list, failures)
      complains_only_of(failures, { "SCSI_RESIDUAL_OVERFLOW",
                                    "residual,block_size",
                                    "residual, block_size" })
      assert.is_true(odd(list, function(command)
        if command.fabric ~= command.wanted then
          assert.equal(tostring(command.wanted), command.answered, command.cdb)
        end
      end) > 0)
    end

    -- What is there in full is written, what is not is refused: GOOD without a
    -- residual would say that it is on the medium.
    function proof.write_residual(list, failures)
      complains_only_of(failures, { "residual", "status,SCSI_STATUS_GOOD",
                                    "Block was not written correctly" })
      assert.is_true(odd(list, function(command)
        if command.fabric >= command.wanted then
          assert.equal("in place", command.answered, command.cdb)
        else
          assert.matches("0Eh/03h", command.answered, 1, true)
        end
      end) > 0)
    end

    -- Whatever the numbers were, the data came in full.
    function proof.data_numbers(list)
      assert.is_true(#list > 0)
      assert.equal(0, odd(list, function(command)
        assert.equal("in place", command.answered, command.cdb)
      end))
    end

    function proof.reservations(list)
      for _, command in ipairs(list) do
        assert.is_nil(command.cdb:match "^1[67]", command.cdb)
      end
    end

    -- They are in the answer, SERVICE ACTION and all.
    function proof.usage_data(_, failures, dev)
      complains_only_of(failures, { "cdb_usage_data%[0%]" })
      local disk = guest.loop(dev, { block = false })
      local bytes = guest.sh("sg_raw -r 64 %s a3 0c 02 7f 00 09 00 00 00 40 "
                             .. "00 00 2>&1", disk.sg)
      assert.matches("00 03 00 20 7f 00 00 00  00 00 1f 18 00 09", bytes, 1,
                     true)
    end

    -- SBC-3 5.4: the first descriptor begins at the block that was asked for.
    -- With 8 blocks to a physical one the suite asks for block 9 and expects
    -- to be told of block 16.
    function proof.next_block(_, failures, dev)
      complains_only_of(failures, { "lba offset in first descriptor" })
      local disk = guest.loop(dev, { block = false })
      local bytes = guest.sh("sg_raw -r 24 %s 9e 12 00 00 00 00 00 00 00 09 "
                             .. "00 00 00 18 00 00 2>&1", disk.sg)
      assert.matches("00 00 00 14 00 00 00 00  00 00 00 00 00 00 00 09", bytes,
                     1, true)
    end

    -- SANITIZE outlives every reset where it lasts long enough.
    function proof.too_soon()
      local target = conformance.export { config = "zero", size = 4096 * MiB }
      local result = libiscsi.run(target.url, "reset", "SCSI.Sanitize.Reset")
      conformance.judge(result, {})
      assert.equal(1, result.passed)
    end

    local tests = {}
    for test in pairs(conformance.known) do tests[#tests + 1] = test end
    table.sort(tests)

    for _, test in ipairs(tests) do
      local reason = conformance.known[test]
      it(("%s: %s"):format(conformance.reasons[reason], test), function()
        local target, dev = conformance.export { config = "witness",
                                                 size = 64 * MiB }
        local from = #daemon:output()
        local family = test:find "^iSCSI" and "iSCSI." or "SCSI."
        local result = libiscsi.run(target.url, test:gsub("%W", "-"),
                                    family .. test)
        local ended = assert(result[test])
        assert.not_equal("skipped", ended.outcome)
        proof[reason](seen(from), ended.failures, dev)
      end)
    end
  end)
end)
