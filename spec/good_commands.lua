--- For each command of a disk one that is answered with GOOD, for specs that
--- change a bit or a length of it: id -> { fields, data = Data-Out or nil,
--- unknown = a field that names what is not there, so that it is refused,
--- also = a field that may be wrong when another one is changed }.
--
-- For disks of 128 blocks of 512 bytes and more, with a port group 16.

local BLOCK <const> = 512

local good = {}

local function blocks(n) return ("k"):rep(n * BLOCK) end

local function add(id, fields, data)
  good[id] = { fields = fields, data = data }
end

local function add_unknown(id, fields, field)
  good[id] = { fields = fields, unknown = field }
end

add("test_unit_ready", {})
add("request_sense", { length = 252 })
add("inquiry", { length = 96 })
add("mode_sense_6", { page = 8, length = 192 })
add("mode_sense_10", { page = 8, length = 512 })
add("mode_select_6", { pf = 1, length = 16 },
    "\0\0\0\0" .. "\x01\x0A" .. ("\0"):rep(10))
add("mode_select_10", { pf = 1, length = 20 },
    ("\0"):rep(8) .. "\x01\x0A" .. ("\0"):rep(10))
add("log_sense", { page_code = 0x2F, pc = 1, length = 512 })
add("report_supported_operation_codes", { length = 4096 })
good.report_supported_operation_codes.also = "requested_operation_code"
add("report_supported_task_management_functions", { length = 16 })
add("report_target_port_groups", { length = 512 })
add("set_target_port_groups", { length = 0 }, "")
add("report_timestamp", { length = 64 })
add("set_timestamp", { length = 12 }, ("\0"):rep(12))
add("report_identifying_information", { length = 64 })
add("set_identifying_information", { length = 4 }, "abcd")

for _, size in ipairs { 6, 10, 12, 16, 32 } do
  add("read_" .. size, { lba = 4, length = 2 })
  add("write_" .. size, { lba = 4, length = 2 }, blocks(2))
end
for _, size in ipairs { 10, 12, 16, 32 } do
  add("verify_" .. size, { lba = 4, length = 2 }, "")
  add("write_and_verify_" .. size, { lba = 4, length = 2 }, blocks(2))
end
for _, size in ipairs { 10, 16, 32 } do
  add("write_same_" .. size, { lba = 4, length = 2 }, blocks(1))
end
for _, size in ipairs { 10, 16 } do
  add("pre_fetch_" .. size, { lba = 4, length = 2 })
  add("synchronize_cache_" .. size, { lba = 4, length = 2 })
end
add("write_atomic_16", { lba = 4, length = 2 }, blocks(2))
add("orwrite_16", { lba = 4, length = 2 }, blocks(2))
-- Where nobody writes.
add("compare_and_write", { lba = 100, blocks = 1 }, ("\0"):rep(2 * BLOCK))
add("read_capacity_10", {})
add("read_capacity_16", { length = 32 })
add("read_defect_data_10", { length = 8 })
add("read_defect_data_12", { length = 8 })
add("get_lba_status", { lba = 0, length = 512 })
add("unmap", { length = 24 },
    string.pack(">I2I2xxxxI8I4xxxx", 22, 16, 4, 2))

add("start_stop_unit", { start = 1 })
add("prevent_allow_medium_removal", {})
add("format_unit", {}, "")
add("sanitize_overwrite", { length = 8 }, "\1\0\0\4abcd")
add("sanitize_block_erase", {}, "")
add("sanitize_exit_failure_mode", {}, "")

add("extended_copy_lid1", { length = 16 },
    "\0\x18" .. ("\0"):rep(14))
add("extended_copy_lid4", { length = 48 },
    "\1\x18\0\x20" .. ("\0"):rep(12) .. "\xFF" .. ("\0"):rep(31))
add("receive_copy_operating_parameters", { length = 512 })
add_unknown("copy_operation_abort", { list_identifier = 77 },
            "list_identifier")
for _, id in ipairs {
  "receive_copy_status_lid1", "receive_copy_status_lid4",
  "receive_copy_failure_details_lid1", "receive_rod_token_information",
} do
  add_unknown(id, { list_identifier = 77, length = 512 }, "list_identifier")
end
add("populate_token", { list_identifier = 7, length = 32 },
    string.pack(">I2xxI4I4xxI2I8I4xxxx", 30, 0, 0, 16, 4, 2))
add("write_using_token", { list_identifier = 9, length = 0 }, "")

return good
