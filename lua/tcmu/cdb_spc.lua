--- CDB layouts of the commands that every device type has: data, no logic.
--
-- From SPC-4 clause 6 (RESERVE and RELEASE: SPC-2).  A command is
--   { NAME, opcode, direction of data, fields, action = service action }
-- and a field { name, byte, leftmost bit, width in bits }, counted as the
-- standard's tables do.  More of a field:
--   no = true       decoded, but not supported: must be 0 in our devices
--   ignored = true  says nothing to devices like ours, whatever it is
--   needs = "x"     must be 0 unless the device can do x (dev.can.x)
--   means = "x"     its values have names in tcmu.cdb_names
--   with = "x"      says nothing unless the field x, one bit, is 1
-- OPERATION CODE, SERVICE ACTION and CONTROL are the same for all and are
-- added by tcmu.cdb, which also derives the length.

local IN <const>, OUT <const>, NONE <const> = "in", "out", "none"

-- Fields that many commands share.
local ALLOCATION_4 <const> = { "allocation_length", 4, 7, 8 }
local ALLOCATION_34 <const> = { "allocation_length", 3, 7, 16 }
local ALLOCATION_69 <const> = { "allocation_length", 6, 7, 32 }
local ALLOCATION_78 <const> = { "allocation_length", 7, 7, 16 }
local ALLOCATION_10 <const> = { "allocation_length", 10, 7, 32 }
local LIST_4 <const> = { "parameter_list_length", 4, 7, 8 }
local LIST_69 <const> = { "parameter_list_length", 6, 7, 32 }
local LIST_78 <const> = { "parameter_list_length", 7, 7, 16 }
local LIST_10 <const> = { "parameter_list_length", 10, 7, 32 }
local SAVE <const> = { "sp", 1, 0, 1, no = true }
local PF <const> = { "pf", 1, 4, 1 }
local DBD <const> = { "dbd", 1, 3, 1 }
local PC_MODE <const> = { "pc", 2, 7, 2, means = "mode_pc" }
local PC_LOG <const> = { "pc", 2, 7, 2, means = "log_pc" }
local MODE_PAGE <const> = { "page_code", 2, 5, 6, means = "mode_page" }
local LOG_PAGE <const> = { "page_code", 2, 5, 6, means = "log_page" }
local SUBPAGE <const> = { "subpage_code", 3, 7, 8 }
local LIST_ID_1 <const> = { "list_identifier", 2, 7, 8 }
local LIST_ID_4 <const> = { "list_identifier", 2, 7, 32 }
local BUFFER <const> = { "buffer_id", 2, 7, 8 }
local BUFFER_OFFSET <const> = { "buffer_offset", 3, 7, 24 }
local INFORMATION_TYPE <const> = { "information_type", 10, 7, 7 }
local SCOPE <const> = { "scope", 2, 7, 4 }
local PR_TYPE <const> = { "type", 2, 3, 4, means = "pr_type" }
local PR_LIST <const> = { "parameter_list_length", 5, 7, 32 }

local commands = {
  { "TEST UNIT READY", 0x00, NONE, {} },
  { "REQUEST SENSE", 0x03, IN, { { "desc", 1, 0, 1 }, ALLOCATION_4 } },
  { "INQUIRY", 0x12, IN, {
    { "evpd", 1, 0, 1 },
    { "page_code", 2, 7, 8, means = "vpd_page", with = "evpd" },
    ALLOCATION_34 } },
  { "MODE SELECT (6)", 0x15, OUT, { PF, SAVE, LIST_4 } },
  { "RESERVE (6)", 0x16, NONE, {} },
  { "RELEASE (6)", 0x17, NONE, {} },
  { "MODE SENSE (6)", 0x1A, IN, {
    DBD, PC_MODE, MODE_PAGE, SUBPAGE, ALLOCATION_4 } },
  { "RECEIVE DIAGNOSTIC RESULTS", 0x1C, IN, {
    { "pcv", 1, 0, 1 }, { "page_code", 2, 7, 8 }, ALLOCATION_34 } },
  { "SEND DIAGNOSTIC", 0x1D, OUT, {
    { "self_test_code", 1, 7, 3 }, PF, { "selftest", 1, 2, 1 },
    { "devoffl", 1, 1, 1 }, { "unitoffl", 1, 0, 1 },
    { "parameter_list_length", 3, 7, 16 } } },
  { "WRITE BUFFER", 0x3B, OUT, {
    { "mode_specific", 1, 7, 3 }, { "mode", 1, 4, 5 }, BUFFER, BUFFER_OFFSET,
    { "parameter_list_length", 6, 7, 24 } } },
  { "READ BUFFER", 0x3C, IN, {
    { "mode_specific", 1, 7, 3 }, { "mode", 1, 4, 5 }, BUFFER, BUFFER_OFFSET,
    { "allocation_length", 6, 7, 24 } } },
  { "LOG SELECT", 0x4C, OUT, {
    { "pcr", 1, 1, 1 }, SAVE, PC_LOG, LOG_PAGE, SUBPAGE, LIST_78 } },
  { "LOG SENSE", 0x4D, IN, {
    SAVE, { "pc", 2, 7, 2, means = "log_pc", ignored = true }, -- lists only
    LOG_PAGE, SUBPAGE,
    { "parameter_pointer", 5, 7, 16 }, ALLOCATION_78 } },
  { "MODE SELECT (10)", 0x55, OUT, { PF, SAVE, LIST_78 } },
  { "RESERVE (10)", 0x56, NONE, {} },
  { "RELEASE (10)", 0x57, NONE, {} },
  { "MODE SENSE (10)", 0x5A, IN, {
    { "llbaa", 1, 4, 1 }, DBD, PC_MODE, MODE_PAGE, SUBPAGE, ALLOCATION_78 } },
  { "REPORT LUNS", 0xA0, IN, {
    { "select_report", 2, 7, 8 }, ALLOCATION_69 } },

  { "REPORT IDENTIFYING INFORMATION", 0xA3, IN, {
    ALLOCATION_69, INFORMATION_TYPE }, action = 0x05 },
  { "REPORT TARGET PORT GROUPS", 0xA3, IN, {
    { "parameter_data_format", 1, 7, 3 }, ALLOCATION_69 }, action = 0x0A },
  { "REPORT ALIASES", 0xA3, IN, { ALLOCATION_69 }, action = 0x0B },
  { "REPORT SUPPORTED OPERATION CODES", 0xA3, IN, {
    { "rctd", 2, 7, 1 },
    { "reporting_options", 2, 2, 3, means = "reporting_options" },
    { "requested_operation_code", 3, 7, 8 },
    { "requested_service_action", 4, 7, 16 }, ALLOCATION_69 },
    action = 0x0C },
  { "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 0xA3, IN, {
    { "repd", 2, 7, 1 }, ALLOCATION_69 }, action = 0x0D },
  { "REPORT PRIORITY", 0xA3, IN, {
    { "priority_reported", 2, 7, 2 }, ALLOCATION_69 }, action = 0x0E },
  { "REPORT TIMESTAMP", 0xA3, IN, { ALLOCATION_69 }, action = 0x0F },

  { "SET IDENTIFYING INFORMATION", 0xA4, OUT, {
    LIST_69, INFORMATION_TYPE }, action = 0x06 },
  { "SET TARGET PORT GROUPS", 0xA4, OUT, { LIST_69 }, action = 0x0A },
  { "SET TIMESTAMP", 0xA4, OUT, { LIST_69 }, action = 0x0F },

  { "EXTENDED COPY (LID1)", 0x83, OUT, { LIST_10 }, action = 0x00 },
  { "EXTENDED COPY (LID4)", 0x83, OUT, { LIST_10 }, action = 0x01 },
  { "COPY OPERATION ABORT", 0x83, NONE, { LIST_ID_4 }, action = 0x1C },
  { "RECEIVE COPY STATUS (LID1)", 0x84, IN, {
    LIST_ID_1, ALLOCATION_10 }, action = 0x00 },
  { "RECEIVE COPY DATA (LID1)", 0x84, IN, {
    LIST_ID_1, ALLOCATION_10 }, action = 0x01 },
  { "RECEIVE COPY OPERATING PARAMETERS", 0x84, IN, {
    ALLOCATION_10 }, action = 0x03 },
  { "RECEIVE COPY FAILURE DETAILS (LID1)", 0x84, IN, {
    LIST_ID_1, ALLOCATION_10 }, action = 0x04 },
  { "RECEIVE COPY STATUS (LID4)", 0x84, IN, {
    LIST_ID_4, ALLOCATION_10 }, action = 0x05 },
  { "RECEIVE COPY DATA (LID4)", 0x84, IN, {
    LIST_ID_4, ALLOCATION_10 }, action = 0x06 },
  { "RECEIVE ROD TOKEN INFORMATION", 0x84, IN, {
    LIST_ID_4, ALLOCATION_10 }, action = 0x07 },
  { "REPORT ALL ROD TOKENS", 0x84, IN, { ALLOCATION_10 }, action = 0x08 },
}

for action, name in pairs {
  [0x00] = "PERSISTENT RESERVE IN - READ KEYS",
  [0x01] = "PERSISTENT RESERVE IN - READ RESERVATION",
  [0x02] = "PERSISTENT RESERVE IN - REPORT CAPABILITIES",
  [0x03] = "PERSISTENT RESERVE IN - READ FULL STATUS",
} do
  commands[#commands + 1] = { name, 0x5E, IN, { ALLOCATION_78 },
                              action = action }
end

for action, name in pairs {
  [0x00] = "PERSISTENT RESERVE OUT - REGISTER",
  [0x01] = "PERSISTENT RESERVE OUT - RESERVE",
  [0x02] = "PERSISTENT RESERVE OUT - RELEASE",
  [0x03] = "PERSISTENT RESERVE OUT - CLEAR",
  [0x04] = "PERSISTENT RESERVE OUT - PREEMPT",
  [0x05] = "PERSISTENT RESERVE OUT - PREEMPT AND ABORT",
  [0x06] = "PERSISTENT RESERVE OUT - REGISTER AND IGNORE EXISTING KEY",
  [0x07] = "PERSISTENT RESERVE OUT - REGISTER AND MOVE",
} do
  commands[#commands + 1] = { name, 0x5F, OUT, { SCOPE, PR_TYPE, PR_LIST },
                              action = action }
end

return {
  standard = "SPC-4",
  commands = commands,
  -- Opcodes whose meaning lies in the service action.
  shared = {
    [0x5E] = "PERSISTENT RESERVE IN",
    [0x5F] = "PERSISTENT RESERVE OUT",
    [0x7F] = "VARIABLE LENGTH",
    [0x83] = "THIRD-PARTY COPY OUT",
    [0x84] = "THIRD-PARTY COPY IN",
    [0x9E] = "SERVICE ACTION IN (16)",
    [0x9F] = "SERVICE ACTION OUT (16)",
    [0xA3] = "MAINTENANCE IN",
    [0xA4] = "MAINTENANCE OUT",
  },
}
