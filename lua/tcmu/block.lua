--- The commands that a disk answers alike whatever kind it is: those which have
-- nothing to do with how its blocks are read and written.

local alua = require "tcmu.alua"
local guard = require "tcmu.guard"
local log_pages = require "tcmu.log_pages"
local medium = require "tcmu.medium"
local mode = require "tcmu.mode"
local report = require "tcmu.report"
local rsoc = require "tcmu.rsoc"
local sbc = require "tcmu.sbc"
local spc = require "tcmu.spc"

local block = {}

local function can_flush(dev) return dev.can.flush end

local alike <const> = {
  test_unit_ready = spc.test_unit_ready,
  request_sense = spc.request_sense,
  inquiry = spc.inquiry,
  mode_sense_6 = mode.sense,
  mode_sense_10 = mode.sense,
  mode_select_6 = mode.select,
  mode_select_10 = mode.select,
  log_sense = log_pages.sense,
  report_supported_operation_codes = rsoc.report,
  report_supported_task_management_functions = report.task_management,
  report_target_port_groups = { alua.report, when = alua.has_groups },
  set_target_port_groups = { alua.change, when = alua.can_set },
  report_timestamp = report.timestamp,
  set_timestamp = report.set_timestamp,
  report_identifying_information = report.identifying,
  set_identifying_information = report.set_identifying,

  read_capacity_10 = sbc.read_capacity_10,
  synchronize_cache_10 = { sbc.synchronize_cache, when = can_flush },
  synchronize_cache_16 = { sbc.synchronize_cache, when = can_flush },
  start_stop_unit = medium.start_stop_unit,
}

--- Adds them to the list of a kind's own commands.
-- @return `on` and `offers`, as of guard.commands
function block.commands(own)
  for id, entry in pairs(alike) do
    assert(not own[id], id)
    own[id] = entry
  end
  return guard.commands(own)
end

return block
