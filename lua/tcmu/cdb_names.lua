--- Names for the values of CDB fields: data, no logic.
--
-- What `means = "x"` in a CDB layout points to.  Pages: SPC-4 clause 7 and
-- SBC-3 clause 6; the rest beside the command that has the field.

return {
  vpd_page = {
    [0x00] = "Supported VPD Pages",
    [0x80] = "Unit Serial Number",
    [0x83] = "Device Identification",
    [0x84] = "Software Interface Identification",
    [0x85] = "Management Network Addresses",
    [0x86] = "Extended INQUIRY Data",
    [0x87] = "Mode Page Policy",
    [0x88] = "SCSI Ports",
    [0x89] = "ATA Information",
    [0x8A] = "Power Condition",
    [0x8D] = "Power Consumption",
    [0x8F] = "Third-party Copy",
    [0xB0] = "Block Limits",
    [0xB1] = "Block Device Characteristics",
    [0xB2] = "Logical Block Provisioning",
    [0xB3] = "Referrals",
    [0xB6] = "Zoned Block Device Characteristics",
  },
  mode_page = {
    [0x00] = "vendor specific",
    [0x01] = "Read-Write Error Recovery",
    [0x02] = "Disconnect-Reconnect",
    [0x07] = "Verify Error Recovery",
    [0x08] = "Caching",
    [0x0A] = "Control",
    [0x0F] = "Data Compression",
    [0x10] = "Device Configuration",
    [0x11] = "Medium Partition",
    [0x18] = "Protocol Specific Logical Unit",
    [0x19] = "Protocol Specific Port",
    [0x1A] = "Power Condition",
    [0x1C] = "Informational Exceptions Control",
    [0x2A] = "CD Capabilities and Mechanical Status",
    [0x3F] = "all pages",
  },
  mode_pc = {
    [0] = "current values", [1] = "changeable values",
    [2] = "default values", [3] = "saved values",
  },
  log_page = {
    [0x00] = "Supported Log Pages",
    [0x0C] = "Logical Block Provisioning",
    [0x0D] = "Temperature",
    [0x11] = "Solid State Media",
    [0x15] = "Background Scan",
    [0x19] = "General Statistics and Performance",
    [0x2E] = "TapeAlert",
    [0x2F] = "Informational Exceptions",
  },
  log_pc = {
    [0] = "threshold values", [1] = "cumulative values",
    [2] = "default threshold values", [3] = "default cumulative values",
  },
  reporting_options = {
    [0] = "all commands",
    [1] = "one command without service action",
    [2] = "one command with service action",
    [3] = "one command, with or without service action",
  },
  pr_type = {
    [1] = "write exclusive",
    [3] = "exclusive access",
    [5] = "write exclusive, registrants only",
    [6] = "exclusive access, registrants only",
    [7] = "write exclusive, all registrants",
    [8] = "exclusive access, all registrants",
  },
  power_condition = {
    [0x0] = "as START says", [0x1] = "active", [0x2] = "idle",
    [0x3] = "standby", [0x7] = "LU_CONTROL",
    [0xA] = "FORCE_IDLE_0", [0xB] = "FORCE_STANDBY_0",
  },
  bytchk = {
    [0] = "compare nothing", [1] = "compare with Data-Out",
    [3] = "compare with one block of Data-Out",
  },
  toc_format = {
    [0] = "formatted TOC", [1] = "session information", [2] = "full TOC",
    [3] = "PMA", [4] = "ATIP", [5] = "CD-TEXT",
  },
  feature_rt = {
    [0] = "all features", [1] = "current features", [2] = "one feature",
  },
  track_address = {
    [0] = "by LBA", [1] = "by track number", [2] = "by session number",
  },
  sector_type = {
    [0] = "any type", [1] = "CD-DA", [2] = "mode 1", [3] = "mode 2 formless",
    [4] = "mode 2 form 1", [5] = "mode 2 form 2",
  },
  space_code = {
    [0] = "blocks", [1] = "filemarks", [2] = "sequential filemarks",
    [3] = "end of data",
  },
}
