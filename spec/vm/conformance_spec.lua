-- vm: time=7200 only=named
--- libiscsi's suite against our disks, by the kernel's own iSCSI target.
-- Every failure must be in a list with its reason: what the device cannot do
-- anything about.  With a file CONFORMANCE in the folder of results (run
-- --results), tcmu-runner and the kernel's fileio are measured as well.

local guest = require "spec.vm.guest"
local libiscsi = require "spec.vm.libiscsi"

local MiB <const> = 1 << 20

-- TCMU has one residual only, underflow of Data-In (READ_LEN): the overflow and
-- the residuals of writes that these ask for are the core's to tell.
local RESIDUALS <const> = "TCMU can express underflow of Data-In only"

local KNOWN <const> = {
  ["iSCSIResiduals.Read10Invalid"] = RESIDUALS,
  ["iSCSIResiduals.Read10Residuals"] = RESIDUALS,
  ["iSCSIResiduals.Read12Residuals"] = RESIDUALS,
  ["iSCSIResiduals.Read16Residuals"] = RESIDUALS,
  ["iSCSIResiduals.Write10Residuals"] = RESIDUALS,
  ["iSCSIResiduals.Write12Residuals"] = RESIDUALS,
  ["iSCSIResiduals.Write16Residuals"] = RESIDUALS,
  ["iSCSIResiduals.WriteVerify10Residuals"] = RESIDUALS,
  ["iSCSIResiduals.WriteVerify12Residuals"] = RESIDUALS,
  ["iSCSIResiduals.WriteVerify16Residuals"] = RESIDUALS,
  ["iSCSIdatasn.iSCSIDataSnInvalid"] =
    "the iSCSI target sees the data's numbers, a device does not",
  ["Reserve6.Logout"] = "reservations are the core's",
  ["Reserve6.ITNexusLoss"] = "reservations are the core's; comes and goes",
  ["ReportSupportedOpcodes.OneCommand"] =
    "the suite has room for 16 bytes of usage data and drops those of "
    .. "32-byte commands; see the test below",
  ["Sanitize.Reset"] =
    "a small disk is overwritten before the suite looks; see the test below",
}

local REMOVABLE <const> = {
  ["PreventAllow.ITNexusLoss"] = "the core tells a device of no nexus loss",
  ["PreventAllow.Logout"] = "the core tells a device of no nexus loss",
  ["PreventAllow.WarmReset"] = "the core refuses target resets",
  ["PreventAllow.ColdReset"] = "the core refuses target resets",
}

local function exported(config, size, control)
  local dev = guest.device {
    config = config, size = size,
    control = control or { "hw_max_sectors=2048" },
    -- SANITIZE of the whole disk may take a while in a VM.
    attrib = { emulate_write_cache = 1, cmd_time_out = 240 },
  }
  return guest.export(dev), dev
end

local function tell(name, result)
  print(("%-12s %3d passed  %3d failed  %3d skipped"):format(name,
        result.passed, result.failed, result.skipped))
  for _, how in ipairs { "failed", "skipped" } do
    for _, test in ipairs(libiscsi.names(result, how)) do
      print(("  %s %s"):format(how, test))
    end
  end
end

local function expect(result, known)
  local surprises = {}
  for _, test in ipairs(libiscsi.names(result, "failed")) do
    if not known[test] then
      surprises[#surprises + 1] = test .. "\n" .. result[test].text
    end
  end
  assert.equal("", table.concat(surprises, "\n"))
end

describe("libiscsi's suite", function()
  local daemon

  setup(function()
    guest.modprobe("target_core_user", "iscsi_target_mod", "tcm_loop", "sg")
    daemon = guest.serve("--shards 2 --budget 5000 --handler "
                         .. "spec/vm/witness.lua")
  end)
  local depth
  before_each(function() depth = guest.depth() end)
  after_each(function() guest.cleanup(depth) end)
  teardown(guest.cleanup)

  for _, disk in ipairs {
    { "ram", 1024 * MiB },
    { "file/path=/data/disk;create=yes", 1024 * MiB },
    { "ramdisk", 512 * MiB },
  } do
    local config, size = table.unpack(disk)
    local name = config:match "^%w+"
    it("finds no failure of its own in " .. name, function()
      local target = exported(config, size)
      local result = libiscsi.run(target.url, name)
      tell(name, result)
      expect(result, KNOWN)
      assert.is_true(result.passed >= 190, result.passed .. " passed")
    end)
  end

  it("finds none with blocks of 4096 bytes", function()
    local target = exported("ram", 512 * MiB, { "hw_block_size=4096",
                                                "hw_max_sectors=512" })
    local result = libiscsi.run(target.url, "ram-4096")
    tell("ram-4096", result)
    expect(result, KNOWN)
  end)

  it("can eject and load a removable disk", function()
    for family, most in pairs { PreventAllow = 4, StartStopUnit = 3 } do
      local target = exported("ram/removable=1", 64 * MiB)
      local result = libiscsi.run(target.url, "removable-" .. family,
                                  "SCSI." .. family)
      tell(family, result)
      expect(result, REMOVABLE)
      assert.equal(most, result.passed)
    end
  end)

  it("can change nothing on a disk that is read only", function()
    guest.sh("truncate -s %d /data/ro", 64 * MiB)
    guest.defer(function() guest.sh "rm /data/ro" end)
    local target = exported("file/path=/data/ro;mode=ro", 64 * MiB)
    local result = libiscsi.run(target.url, "read-only", "SCSI.ReadOnly")
    tell("read-only", result)
    expect(result, {})
    assert.equal(1, result.passed)
  end)

  describe("fails where the ring shows", function()
    local target, from

    before_each(function()
      target = exported("witness", 64 * MiB)
      from = #daemon:output()
    end)

    -- What reached the device: { cdb =, fabric = bytes, answered = }.
    local function seen()
      local list = {}
      local log = daemon:output():sub(from + 1)
      for cdb, fabric, answered in
          log:gmatch "saw (%x+) fabric=(%d+) answered=([^\n]+)" do
        list[#list + 1] = { cdb = cdb, fabric = tonumber(fabric),
                            answered = answered }
      end
      return list
    end

    local function fails(test)
      local name = test:gsub("%W", "-")
      local result = libiscsi.run(target.url, name, test)
      tell(test, result)
      return result
    end

    it("that every read was answered with all that it asked for", function()
      local odd = 0
      for _, size in ipairs { 10, 12, 16 } do
        fails(("iSCSI.iSCSIResiduals.Read%dResiduals"):format(size))
      end
      for _, command in ipairs(seen()) do
        local bytes = command.cdb:gsub("%x%x", function(pair)
          return string.char(tonumber(pair, 16))
        end)
        local blocks = ({ ["28"] = ">I2", ["a8"] = ">I4", ["88"] = ">I4" })
                       [command.cdb:sub(1, 2)]
        local at = ({ ["28"] = 8, ["a8"] = 7, ["88"] = 11 })
                   [command.cdb:sub(1, 2)]
        if blocks then
          local want = string.unpack(blocks, bytes, at) * 512
          if command.fabric ~= want then
            odd = odd + 1
            assert.equal(tostring(want), command.answered, command.cdb)
          end
        end
      end
      assert.is_true(odd > 0)
    end)

    it("that the core keeps reservations to itself", function()
      fails "SCSI.Reserve6.Logout"
      for _, command in ipairs(seen()) do
        assert.is_nil(command.cdb:match "^1[67]", command.cdb)
      end
    end)

    it("nothing of an iSCSI sequence number", function()
      fails "iSCSI.iSCSIdatasn"
      for _, command in ipairs(seen()) do
        if command.cdb:match "^2a" then
          local blocks = tonumber(command.cdb:sub(15, 18), 16)
          assert.equal(blocks * 512, command.fabric, command.cdb)
        end
      end
    end)
  end)

  -- Apart from the others: a test of reservations leaves one on the second
  -- path, and CompareAndWrite clears 256 blocks and takes 257 for zero.
  it("finds two paths to a disk in order", function()
    local target, dev = exported("ram", 64 * MiB)
    local second = guest.export(dev)
    local result = libiscsi.run(target.url .. " " .. second.url, "two-paths",
                                "SCSI.MultipathIO")
    tell("two paths", result)
    expect(result, {})
    assert.equal(4, result.passed)
  end)

  it("drops usage data of 32 bytes, which are right", function()
    local _, dev = exported("ram", 64 * MiB)
    local disk = guest.loop(dev, { block = false })
    local bytes = guest.sh("sg_raw -r 64 %s a3 0c 02 7f 00 09 00 00 00 40 00 "
                           .. "00 2>&1", disk.sg)
    assert.matches("00 03 00 20 7f 00 00 00  00 00 1f 18 00 09", bytes)
  end)

  -- SANITIZE of a disk that is filled faster than the suite can look has ended
  -- when it looks; this one has 4 GiB.
  it("sees SANITIZE outlive every reset", function()
    local target = exported("zero", 4096 * MiB)
    local result = libiscsi.run(target.url, "reset", "SCSI.Sanitize.Reset")
    tell("reset", result)
    expect(result, {})
    assert.equal(1, result.passed)
  end)
end)

-- The peers, with the same arguments.
if guest.exists "/results/CONFORMANCE" then
  describe("for comparison, libiscsi's suite", function()
    after_each(guest.cleanup)

    local function measure(name, dev)
      tell(name, libiscsi.run(guest.export(dev).url, name))
    end

    before_each(function()
      guest.modprobe("target_core_user", "target_core_file",
                     "iscsi_target_mod")
      guest.sh("truncate -s %d /data/peer", 1024 * MiB)
    end)

    it("on the kernel's fileio", function()
      local dev = guest.backstore { hba = "fileio_0", control = {
        "fd_dev_name=/data/peer,fd_dev_size=" .. 1024 * MiB } }
      dev:enable()
      measure("fileio", dev)
    end)

    it("on tcmu-runner's file, by its qcow handler", function()
      guest.sh "mkdir -p /run/dbus /etc/tcmu && dbus-daemon --system --fork"
      guest.start "exec tcmu-runner"
      local dev
      guest.wait_for("tcmu-runner to serve", 30, function()
        dev = guest.device {
          config = "qcow//data/peer", size = 1024 * MiB,
          control = { "hw_max_sectors=2048", "nl_reply_supported=-1" },
        }
        return dev
      end)
      measure("tcmu-runner", dev)
    end)
  end)
end
