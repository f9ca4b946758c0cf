--- CDB layouts of CD and DVD drives: data, no logic.
--
-- From MMC-6 clause 6, in the notation that tcmu.cdb_spc explains.  What a
-- drive shares with disks (READ, READ CAPACITY, START STOP UNIT) is in
-- tcmu.cdb_sbc.

local IN <const>, NONE <const> = "in", "none"

local ALLOCATION_78 <const> = { "allocation_length", 7, 7, 16 }

return {
  standard = "MMC-6",
  shared = {},
  commands = {
    { "SEEK (10)", 0x2B, NONE, { { "logical_block_address", 2, 7, 32 } } },
    -- Before MMC-1 the format was in CONTROL, and Linux still puts it there.
    { "READ TOC/PMA/ATIP", 0x43, IN, {
      { "msf", 1, 1, 1 }, { "format", 2, 3, 4, means = "toc_format" },
      { "track_session_number", 6, 7, 8 }, ALLOCATION_78,
      { "old_format", 9, 7, 2 } } },
    { "GET CONFIGURATION", 0x46, IN, {
      { "rt", 1, 1, 2, means = "feature_rt" },
      { "starting_feature_number", 2, 7, 16 }, ALLOCATION_78 } },
    { "GET EVENT STATUS NOTIFICATION", 0x4A, IN, {
      { "polled", 1, 0, 1 }, { "notification_class_request", 4, 7, 8 },
      ALLOCATION_78 } },
    { "READ DISC INFORMATION", 0x51, IN, {
      { "data_type", 1, 2, 3 }, ALLOCATION_78 } },
    { "READ TRACK INFORMATION", 0x52, IN, {
      { "open", 1, 2, 1, no = true },
      { "address_number_type", 1, 1, 2, means = "track_address" },
      { "address_or_number", 2, 7, 32 },
      ALLOCATION_78 } },
    { "SET CD SPEED", 0xBB, NONE, {
      { "rotational_control", 1, 1, 2 }, { "read_speed", 2, 7, 16 },
      { "write_speed", 4, 7, 16 } } },
    { "MECHANISM STATUS", 0xBD, IN, {
      { "allocation_length", 8, 7, 16 } } },
    { "READ CD", 0xBE, IN, {
      { "expected_sector_type", 1, 4, 3, means = "sector_type" },
      { "dap", 1, 1, 1, no = true },
      { "logical_block_address", 2, 7, 32 },
      { "transfer_length", 6, 7, 24 },
      { "sync", 9, 7, 1, no = true },
      { "header_codes", 9, 6, 2, no = true },
      { "user_data", 9, 4, 1 },
      { "edc_and_ecc", 9, 3, 1, no = true },
      { "c2_error_information", 9, 2, 2, no = true },
      { "sub_channel_selection", 10, 2, 3, no = true } } },
  },
}
