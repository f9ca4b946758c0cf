--- CDB layouts of zoned disks: data, no logic.
--
-- From ZBC clause 5, in the notation that tcmu.cdb_spc explains; a zoned disk
-- has the commands of SBC-3 besides.

local ZONE <const> = { "zone_id", 2, 7, 64 }
local ALL <const> = { "all", 14, 0, 1 }

return {
  standard = "ZBC",
  shared = { [0x94] = "ZBC OUT", [0x95] = "ZBC IN" },
  commands = {
    { "CLOSE ZONE", 0x94, "none", { ZONE, ALL }, action = 0x01 },
    { "FINISH ZONE", 0x94, "none", { ZONE, ALL }, action = 0x02 },
    { "OPEN ZONE", 0x94, "none", { ZONE, ALL }, action = 0x03 },
    { "RESET WRITE POINTER", 0x94, "none", { ZONE, ALL }, action = 0x04 },
    { "REPORT ZONES", 0x95, "in", {
      { "zone_start_lba", 2, 7, 64 }, { "allocation_length", 10, 7, 32 },
      { "partial", 14, 7, 1 }, { "reporting_options", 14, 5, 6 } },
      action = 0x00 },
  },
}
