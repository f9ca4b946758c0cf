--- Commands that many specs send: CDB and, for a write, Data-Out.
local scsi = require "tcmu.scsi"

local BLOCK <const>, BUSY <const> = 512, 8

local commands = {}

--- A command of 10 bytes, the first of which are given.
function commands.vendor(opcode, ...)
  local bytes = string.char(opcode, ...)
  return bytes .. ("\0"):rep(10 - #bytes)
end

function commands.read(lba, blocks)
  return scsi.cdb.read_10 { lba = lba, length = blocks or 1 }
end

--- Writes `blocks` blocks that have this byte everywhere.
function commands.write(lba, blocks, byte)
  return scsi.cdb.write_10 { lba = lba, length = blocks },
         byte:rep(blocks * BLOCK)
end

--- SANITIZE OVERWRITE with its parameter list; `fields` are more of the CDB's.
function commands.overwrite(pattern, passes, fields)
  local list <const> = string.pack(">BxI2", passes or 1, #pattern) .. pattern
  local cdb <const> = { length = #list }
  for name, value in pairs(fields or {}) do cdb[name] = value end
  return scsi.cdb.sanitize_overwrite(cdb), list
end

--- MODE SELECT of the Control page with SWP: protects the disk by software.
function commands.write_protect()
  local page <const> = "\x0A\x0A\x02\x10\x08\x40\0\0\xFF\xFF\0\0"
  local list <const> = "\0\0\0\0" .. page
  return scsi.cdb.mode_select_6 { pf = true, length = #list }, list
end

--- Sends a command again as long as the device is busy; its result.
function commands.insist(dev, ...)
  local result
  repeat result = dev:cmd(...) until result.status ~= BUSY
  return result
end

return commands
