--- CDB layouts of tapes: data, no logic.
--
-- From SSC-3 clause 5 and 7, in the notation that tcmu.cdb_spc explains.

local IN <const>, OUT <const>, NONE <const> = "in", "out", "none"

local FIXED <const> = { "fixed", 1, 0, 1 }
local IMMED <const> = { "immed", 1, 0, 1 }
local LENGTH <const> = { "transfer_length", 2, 7, 24 }

return {
  standard = "SSC-3",
  shared = { [0x34] = "READ POSITION" },
  commands = {
    { "REWIND", 0x01, NONE, { IMMED } },
    { "READ BLOCK LIMITS", 0x05, IN, { { "mloi", 1, 0, 1, no = true } } },
    { "READ (6)", 0x08, IN, { { "sili", 1, 1, 1 }, FIXED, LENGTH } },
    { "WRITE (6)", 0x0A, OUT, { FIXED, LENGTH } },
    { "WRITE FILEMARKS (6)", 0x10, NONE, {
      { "wsmk", 1, 1, 1, no = true }, IMMED,
      { "filemark_count", 2, 7, 24 } } },
    { "SPACE (6)", 0x11, NONE, {
      { "code", 1, 3, 4, means = "space_code" }, { "count", 2, 7, 24 } } },
    { "ERASE (6)", 0x19, NONE, { { "immed", 1, 1, 1 }, { "long", 1, 0, 1 } } },
    { "LOAD UNLOAD", 0x1B, NONE, {
      IMMED, { "hold", 4, 3, 1, no = true }, { "eot", 4, 2, 1 },
      { "reten", 4, 1, 1 }, { "load", 4, 0, 1 } } },
    { "PREVENT ALLOW MEDIUM REMOVAL", 0x1E, NONE, {
      { "prevent", 4, 1, 2 } } },
    { "LOCATE (10)", 0x2B, NONE, {
      { "bt", 1, 2, 1 }, { "cp", 1, 1, 1, no = true }, IMMED,
      { "logical_object_identifier", 3, 7, 32 },
      { "partition", 8, 7, 8, no = true } } },
    { "READ POSITION (SHORT)", 0x34, IN, {}, action = 0x00 },
    { "READ POSITION (SHORT, VENDOR)", 0x34, IN, {}, action = 0x01 },
    { "READ POSITION (LONG)", 0x34, IN, {}, action = 0x06 },
    { "REPORT DENSITY SUPPORT", 0x44, IN, {
      { "medium_type", 1, 1, 1, no = true }, { "media", 1, 0, 1 },
      { "allocation_length", 7, 7, 16 } } },
  },
}
