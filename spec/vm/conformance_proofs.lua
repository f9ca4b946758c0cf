--- The proofs that a failure in libiscsi's suite is none of the device: from
--- what reached it, and what it answered.

local assert = require "luassert"
local cdb = require "tcmu.cdb"
local conformance = require "spec.vm.conformance"
local guest = require "spec.vm.guest"
local libiscsi = require "spec.vm.libiscsi"

local MiB <const> = 1 << 20

-- What reached the device, from the log of witness.lua: { cdb =, opcode =,
-- blocks = that the CDB names, wanted = bytes of these, fabric = bytes,
-- answered = text }.
local function seen(log, block)
  local list = {}
  for hex, fabric, answered in
      log:gmatch "saw (%x+) fabric=(%d+) answered=([^\n]+)" do
    local bytes = hex:gsub("%x%x", function(pair)
      return string.char(tonumber(pair, 16))
    end)
    local layout = cdb.find(bytes)
    local blocks = layout.blocks and cdb.get(bytes, layout.blocks)
    list[#list + 1] = {
      cdb = hex, opcode = bytes:byte(1), blocks = blocks,
      wanted = blocks and blocks * block, fabric = tonumber(fabric),
      answered = answered,
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

-- The status of a copy in an earlier session, which ends what is known of it
-- (SPC-4 5.17.4), is still there: once, then there is none.
function proof.copies(list, failures, _, target)
  complains_only_of(failures, { "CU_ASSERT_EQUAL%(_r,0%)" })
  local copied, asked = false, nil
  for _, command in ipairs(list) do
    asked = command.opcode == 0x84 and command
    if asked then break end
    copied = copied or command.opcode == 0x83
  end
  assert.is_true(copied)
  assert.equal("12", asked.answered, asked.cdb)
  local result = libiscsi.run(target.url, "copies",
                              "SCSI.ReceiveCopyResults.CopyStatus")
  assert.equal(1, result.passed)
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

-- Each write has 512 bytes for each of its blocks, which are longer, and is
-- refused: GOOD would say that all of them are on the medium.
function proof.small_blocks(list, failures)
  complains_only_of(failures, { "CU_ASSERT_EQUAL%(0,ret%)", "wr_good,1",
                                "status,SCSI_STATUS_CHECK_CONDITION" })
  local writes = 0
  for _, command in ipairs(list) do
    if command.opcode == 0x2A then
      writes = writes + 1
      assert.equal(command.blocks * 512, command.fabric, command.cdb)
      assert.is_true(command.fabric < command.wanted)
      assert.matches("0Eh/03h", command.answered, 1, true)
    end
  end
  assert.is_true(writes > 0)
end

-- SANITIZE outlives every reset where it lasts long enough.
function proof.too_soon()
  local target = conformance.export { config = "zero", size = 2048 * MiB }
  local result = libiscsi.run(target.url, "reset", "SCSI.Sanitize.Reset")
  conformance.judge(result, {})
  assert.equal(1, result.passed)
end

-- What a session before has to have run.
local BEFORE <const> = { copies = "SCSI.ExtendedCopy.Simple" }

--- The proofs for the failures in `known`, on a disk with blocks of so many
-- bytes: a list of { name, function }, which is a test.  `daemon` returns the
-- one that serves spec/vm/witness.lua by then.
return function(known, block, daemon)
  local names, tests = {}, {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)

  for _, name in ipairs(names) do
    local reason = known[name]
    tests[#tests + 1] = {
      ("%s: %s"):format(conformance.reasons[reason], name),
      function()
        local target, dev = conformance.export {
          config = "witness", size = 64 * MiB,
          control = { "hw_block_size=" .. block },
        }
        local from = #daemon():output()
        if BEFORE[reason] then
          libiscsi.run(target.url, "before", BEFORE[reason])
        end
        local family = name:find "^iSCSI" and "iSCSI." or "SCSI."
        local result = libiscsi.run(target.url, name:gsub("%W", "-"),
                                    family .. name)
        local ended = assert(result[name])
        assert.not_equal("skipped", ended.outcome)
        proof[reason](seen(daemon():output():sub(from + 1), block),
                      ended.failures, dev, target)
      end,
    }
  end
  return tests
end
