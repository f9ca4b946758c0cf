--- CDB layouts of disks: data, no logic.
--
-- From SBC-3 clause 5 (READ (6) and WRITE (6): SBC-2; WRITE ATOMIC: SBC-4),
-- in the notation that tcmu.cdb_spc explains.  Fields that exist only with
-- protection information are marked as not supported: a TCMU device gets none
-- from the kernel.

local IN <const>, OUT <const>, NONE <const> = "in", "out", "none"

-- Bits of byte 1 of the 10, 12 and 16 byte forms.
local RDPROTECT <const> = { "rdprotect", 1, 7, 3, no = true }
local WRPROTECT <const> = { "wrprotect", 1, 7, 3, no = true }
local VRPROTECT <const> = { "vrprotect", 1, 7, 3, no = true }
local ORPROTECT <const> = { "orprotect", 1, 7, 3, no = true }
local DPO <const> = { "dpo", 1, 4, 1 }
local FUA <const> = { "fua", 1, 3, 1 }
local RARC <const> = { "rarc", 1, 2, 1 }
local BYTCHK <const> = { "bytchk", 1, 2, 2, means = "bytchk" }
local SYNC_NV <const> = { "sync_nv", 1, 2, 1 }
local IMMED <const> = { "immed", 1, 1, 1 }
local ANCHOR <const> = { "anchor", 1, 4, 1, no = true }
local UNMAP <const> = { "unmap", 1, 3, 1, needs = "unmap" }
local NDOB <const> = { "ndob", 1, 0, 1 }

-- Places of the address, the group number and the length.
local LBA_4 <const> = { "logical_block_address", 2, 7, 32 }
local LBA_8 <const> = { "logical_block_address", 2, 7, 64 }
local GROUP_6 <const> = { "group_number", 6, 4, 5 }
local GROUP_10 <const> = { "group_number", 10, 4, 5 }
local GROUP_14 <const> = { "group_number", 14, 4, 5 }
local TRANSFER_10 <const> = { "transfer_length", 7, 7, 16 }
local TRANSFER_12 <const> = { "transfer_length", 6, 7, 32 }
local TRANSFER_16 <const> = { "transfer_length", 10, 7, 32 }
local VERIFICATION_10 <const> = { "verification_length", 7, 7, 16 }
local VERIFICATION_12 <const> = { "verification_length", 6, 7, 32 }
local VERIFICATION_16 <const> = { "verification_length", 10, 7, 32 }
local PREFETCH_10 <const> = { "prefetch_length", 7, 7, 16 }
local PREFETCH_16 <const> = { "prefetch_length", 10, 7, 32 }
local BLOCKS_10 <const> = { "number_of_logical_blocks", 7, 7, 16 }
local BLOCKS_16 <const> = { "number_of_logical_blocks", 10, 7, 32 }
local ALLOCATION_16 <const> = { "allocation_length", 10, 7, 32 }

-- SANITIZE has its flags above the service action.
local SANITIZE_FLAGS <const> = {
  { "immed", 1, 7, 1 }, { "znr", 1, 6, 1, no = true }, { "ause", 1, 5, 1 },
  { "parameter_list_length", 7, 7, 16 },
}

-- The 32 byte forms (SBC-3 5.14 and others): byte 10 is byte 1 of the others.
-- Without protection information no tag is checked, and they are ignored.
local function long(protect, flags, length)
  local fields = {
    { "group_number", 6, 4, 5 }, { protect, 10, 7, 3, no = true },
    { "logical_block_address", 12, 7, 64 },
    { "expected_initial_logical_block_reference_tag", 20, 7, 32,
      ignored = true },
    { "expected_logical_block_application_tag", 24, 7, 16, ignored = true },
    { "logical_block_application_tag_mask", 26, 7, 16, ignored = true },
    { length, 28, 7, 32 },
  }
  for _, flag in ipairs(flags) do
    local copy = {}
    for k, v in pairs(flag) do copy[k] = v end
    copy[2] = 10
    fields[#fields + 1] = copy
  end
  return fields
end

return {
  standard = "SBC-3",
  shared = { [0x48] = "SANITIZE" },
  commands = {
    { "FORMAT UNIT", 0x04, OUT, {
      { "fmtpinfo", 1, 7, 2, no = true }, { "longlist", 1, 5, 1 },
      { "fmtdata", 1, 4, 1 }, { "cmplst", 1, 3, 1 },
      { "defect_list_format", 1, 2, 3 } } },
    { "REASSIGN BLOCKS", 0x07, OUT, {
      { "longlba", 1, 1, 1 }, { "longlist", 1, 0, 1 } } },
    { "READ (6)", 0x08, IN, {
      { "logical_block_address", 1, 4, 21 }, { "transfer_length", 4, 7, 8 } } },
    { "WRITE (6)", 0x0A, OUT, {
      { "logical_block_address", 1, 4, 21 }, { "transfer_length", 4, 7, 8 } } },
    { "START STOP UNIT", 0x1B, NONE, {
      { "immed", 1, 0, 1 },
      { "power_condition_modifier", 3, 3, 4, no = true },
      { "power_condition", 4, 7, 4, means = "power_condition" },
      { "no_flush", 4, 2, 1 },
      { "loej", 4, 1, 1, needs = "eject" }, { "start", 4, 0, 1 } } },
    { "PREVENT ALLOW MEDIUM REMOVAL", 0x1E, NONE, {
      { "prevent", 4, 1, 2 } } },
    { "READ CAPACITY (10)", 0x25, IN, {} },
    { "READ (10)", 0x28, IN, {
      RDPROTECT, DPO, FUA, RARC, LBA_4, GROUP_6, TRANSFER_10 } },
    { "WRITE (10)", 0x2A, OUT, {
      WRPROTECT, DPO, FUA, LBA_4, GROUP_6, TRANSFER_10 } },
    { "WRITE AND VERIFY (10)", 0x2E, OUT, {
      WRPROTECT, DPO, BYTCHK, LBA_4, GROUP_6, TRANSFER_10 } },
    { "VERIFY (10)", 0x2F, OUT, {
      VRPROTECT, DPO, BYTCHK, LBA_4, GROUP_6, VERIFICATION_10 } },
    { "PRE-FETCH (10)", 0x34, NONE, { IMMED, LBA_4, GROUP_6, PREFETCH_10 } },
    { "SYNCHRONIZE CACHE (10)", 0x35, NONE, {
      SYNC_NV, IMMED, LBA_4, GROUP_6, BLOCKS_10 } },
    { "READ DEFECT DATA (10)", 0x37, IN, {
      { "req_plist", 2, 4, 1 }, { "req_glist", 2, 3, 1 },
      { "defect_list_format", 2, 2, 3 }, { "allocation_length", 7, 7, 16 } } },
    { "WRITE SAME (10)", 0x41, OUT, {
      WRPROTECT, ANCHOR, UNMAP, LBA_4, GROUP_6, BLOCKS_10 } },
    { "UNMAP", 0x42, OUT, {
      { "anchor", 1, 0, 1, no = true }, GROUP_6,
      { "parameter_list_length", 7, 7, 16 } } },
    { "SANITIZE - OVERWRITE", 0x48, OUT, SANITIZE_FLAGS, action = 0x01 },
    { "SANITIZE - BLOCK ERASE", 0x48, NONE, SANITIZE_FLAGS, action = 0x02 },
    { "SANITIZE - CRYPTOGRAPHIC ERASE", 0x48, NONE, SANITIZE_FLAGS,
      action = 0x03 },
    { "SANITIZE - EXIT FAILURE MODE", 0x48, NONE, SANITIZE_FLAGS,
      action = 0x1F },

    { "POPULATE TOKEN", 0x83, OUT, {
      { "list_identifier", 6, 7, 32 }, { "parameter_list_length", 10, 7, 32 },
      GROUP_14 }, action = 0x10 },
    { "WRITE USING TOKEN", 0x83, OUT, {
      { "list_identifier", 6, 7, 32 }, { "parameter_list_length", 10, 7, 32 },
      GROUP_14 }, action = 0x11 },

    { "READ (16)", 0x88, IN, {
      RDPROTECT, DPO, FUA, RARC, LBA_8, TRANSFER_16, GROUP_14 } },
    { "COMPARE AND WRITE", 0x89, OUT, {
      WRPROTECT, DPO, FUA, LBA_8,
      { "number_of_logical_blocks", 13, 7, 8 }, GROUP_14 } },
    { "WRITE (16)", 0x8A, OUT, {
      WRPROTECT, DPO, FUA, LBA_8, TRANSFER_16, GROUP_14 } },
    { "ORWRITE (16)", 0x8B, OUT, {
      ORPROTECT, DPO, FUA, LBA_8, TRANSFER_16, GROUP_14 } },
    { "WRITE AND VERIFY (16)", 0x8E, OUT, {
      WRPROTECT, DPO, BYTCHK, LBA_8, TRANSFER_16, GROUP_14 } },
    { "VERIFY (16)", 0x8F, OUT, {
      VRPROTECT, DPO, BYTCHK, LBA_8, VERIFICATION_16, GROUP_14 } },
    { "PRE-FETCH (16)", 0x90, NONE, { IMMED, LBA_8, PREFETCH_16, GROUP_14 } },
    { "SYNCHRONIZE CACHE (16)", 0x91, NONE, {
      SYNC_NV, IMMED, LBA_8, BLOCKS_16, GROUP_14 } },
    { "WRITE SAME (16)", 0x93, OUT, {
      WRPROTECT, ANCHOR, UNMAP, NDOB, LBA_8, BLOCKS_16, GROUP_14 } },
    { "WRITE ATOMIC (16)", 0x9C, OUT, {
      WRPROTECT, DPO, FUA, LBA_8, { "atomic_boundary", 10, 7, 16, no = true },
      { "transfer_length", 12, 7, 16 }, GROUP_14 } },
    { "READ CAPACITY (16)", 0x9E, IN, { ALLOCATION_16 }, action = 0x10 },
    { "GET LBA STATUS", 0x9E, IN, {
      { "starting_logical_block_address", 2, 7, 64 }, ALLOCATION_16,
      { "report_type", 14, 7, 8, no = true } }, action = 0x12 },
    { "REPORT REFERRALS", 0x9E, IN, {
      LBA_8, ALLOCATION_16, { "one_seg", 14, 0, 1 } }, action = 0x13 },

    { "READ (12)", 0xA8, IN, {
      RDPROTECT, DPO, FUA, RARC, LBA_4, TRANSFER_12, GROUP_10 } },
    { "WRITE (12)", 0xAA, OUT, {
      WRPROTECT, DPO, FUA, LBA_4, TRANSFER_12, GROUP_10 } },
    { "WRITE AND VERIFY (12)", 0xAE, OUT, {
      WRPROTECT, DPO, BYTCHK, LBA_4, TRANSFER_12, GROUP_10 } },
    { "VERIFY (12)", 0xAF, OUT, {
      VRPROTECT, DPO, BYTCHK, LBA_4, VERIFICATION_12, GROUP_10 } },
    { "READ DEFECT DATA (12)", 0xB7, IN, {
      { "req_plist", 1, 4, 1 }, { "req_glist", 1, 3, 1 },
      { "defect_list_format", 1, 2, 3 },
      { "address_descriptor_index", 2, 7, 32 },
      { "allocation_length", 6, 7, 32 } } },

    { "READ (32)", 0x7F, IN,
      long("rdprotect", { DPO, FUA, RARC }, "transfer_length"),
      action = 0x09 },
    { "VERIFY (32)", 0x7F, OUT,
      long("vrprotect", { DPO, BYTCHK }, "verification_length"),
      action = 0x0A },
    { "WRITE (32)", 0x7F, OUT,
      long("wrprotect", { DPO, FUA }, "transfer_length"), action = 0x0B },
    { "WRITE AND VERIFY (32)", 0x7F, OUT,
      long("wrprotect", { DPO, BYTCHK }, "transfer_length"), action = 0x0C },
    { "WRITE SAME (32)", 0x7F, OUT,
      long("wrprotect", { ANCHOR, UNMAP, NDOB }, "number_of_logical_blocks"),
      action = 0x0D },
  },
}
