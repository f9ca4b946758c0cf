--- What libiscsi's suite may find wrong with a disk of ours, and the score.
--
-- Which tests fail whatever a device does is listed here with the reason; that
-- the reason is true is shown by conformance_proofs.lua, from what reaches the
-- device and what it answers.

local assert = require "luassert"
local guest = require "spec.vm.guest"
local libiscsi = require "spec.vm.libiscsi"

local conformance = {}

--- Reasons by name, for people.
conformance.reasons = {
  read_residual = "TCMU has no residual but underflow of Data-In",
  write_residual = "TCMU has no residual of Data-Out",
  data_numbers = "the target sees the numbers of Data-Out, a device does not",
  reservations = "reservations are the core's",
  copies = "nobody tells a device that who has copied is gone",
  usage_data = "the suite has no room for the usage data of 32-byte commands",
  too_soon = "a small disk is overwritten before the suite looks",
  next_block = "the suite asks for one block and expects to hear of another",
  small_blocks = "the suite sends 512 bytes for each block",
}

--- The tests that fail for a reason, on any disk.
conformance.known = {
  ["iSCSIResiduals.Read10Invalid"] = "read_residual",
  ["iSCSIResiduals.Read10Residuals"] = "read_residual",
  ["iSCSIResiduals.Read12Residuals"] = "read_residual",
  ["iSCSIResiduals.Read16Residuals"] = "read_residual",
  ["iSCSIResiduals.Write10Residuals"] = "write_residual",
  ["iSCSIResiduals.Write12Residuals"] = "write_residual",
  ["iSCSIResiduals.Write16Residuals"] = "write_residual",
  ["iSCSIResiduals.WriteVerify10Residuals"] = "write_residual",
  ["iSCSIResiduals.WriteVerify12Residuals"] = "write_residual",
  ["iSCSIResiduals.WriteVerify16Residuals"] = "write_residual",
  ["iSCSIdatasn.iSCSIDataSnInvalid"] = "data_numbers",
  ["Reserve6.Logout"] = "reservations",
  ["Reserve6.ITNexusLoss"] = "reservations",    -- comes and goes
  ["ReceiveCopyResults.CopyStatus"] = "copies",  -- within half a minute
  ["ReportSupportedOpcodes.OneCommand"] = "usage_data",
  ["Sanitize.Reset"] = "too_soon",
  ["GetLBAStatus.UnmapSingle"] = "next_block",  -- physical blocks of several
}

--- And those that fail on disks with longer blocks only.
conformance.known_longer = {
  ["ProutReserve.AccessEA"] = "small_blocks",
  ["ProutReserve.AccessEAAR"] = "small_blocks",
  ["ProutReserve.AccessEARO"] = "small_blocks",
  ["ProutReserve.AccessWE"] = "small_blocks",
  ["ProutReserve.AccessWEAR"] = "small_blocks",
  ["ProutReserve.AccessWERO"] = "small_blocks",
  ["Write10.Async"] = "small_blocks",
  ["iSCSITMF.AbortTaskSimpleAsync"] = "small_blocks",
}

--- Exports a disk.  `t` is { config =, size = bytes, control = list or nil }.
-- Returns the target and the device.
function conformance.export(t)
  local control = { "hw_max_sectors=2048" }
  table.move(t.control or {}, 1, #(t.control or {}), 2, control)
  local dev = guest.device {
    config = t.config, size = t.size, control = control,
    -- SANITIZE may take a while in an emulated machine.
    attrib = { emulate_write_cache = 1, cmd_time_out = 240 },
  }
  return guest.export(dev), dev
end

local scores = {}

--- Prints how a run has ended, and keeps it for the table.
function conformance.tell(name, result)
  local line = ("%-14s %6d %7d %8d"):format(name, result.passed,
                                            result.failed, result.skipped)
  scores[#scores + 1] = line
  print(line)
  for _, how in ipairs { "failed", "skipped" } do
    for _, test in ipairs(libiscsi.names(result, how)) do
      print(("  %s %s"):format(how, test))
    end
  end
end

--- Prints the table of all that was told so far.
function conformance.print_score()
  print("               passed  failed  skipped")
  for _, line in ipairs(scores) do print(line) end
end

--- Raises with the text of all tests that failed and are not in `known`, nor
-- in `more`.
function conformance.judge(result, known, more)
  local surprises = {}
  for _, test in ipairs(libiscsi.names(result, "failed")) do
    if not (known[test] or more and more[test]) then
      surprises[#surprises + 1] = test .. "\n" .. result[test].text
    end
  end
  assert.equal("", table.concat(surprises, "\n"))
end

--- Raises if fewer tests than `least` have run.  Of those that may fail some pass
-- now and then, so both are counted; judge() looks at which have failed.
function conformance.ran(result, least)
  local count <const> = result.passed + result.failed
  assert.is_true(count >= least, ("%d tests ran, not %d"):format(count, least))
end

--- Runs a test, a family or the whole suite ("ALL") against a target.
function conformance.run(target, name, test)
  local result = libiscsi.run(target.url, name, test)
  conformance.tell(name, result)
  return result
end

return conformance
