--- Parameter lists of EXTENDED COPY, for specs.
local scsi = require "tcmu.scsi"

local lists = {}

--- The designators in the data of page 83h, each with its header.
function lists.designators(page)
  local found, at = {}, 5
  while at < #page do
    local text = page:sub(at, at + 3 + page:byte(at + 3))
    found[#found + 1] = text
    at = at + #text
  end
  return found
end

--- Those of a device, which it is asked for.
function lists.names(dev)
  return lists.designators(dev:cmd(scsi.cdb.inquiry {
    evpd = true, page_code = 0x83, length = 255 }).data)
end

--- An identification descriptor (SPC-4 table 128) of a disk.
function lists.target(designator, block_size)
  return "\xE4\0\0\0" .. designator .. ("\0"):rep(24 - #designator)
         .. string.pack(">xI3", block_size or 512)
end

--- A segment from blocks to blocks (SPC-4 table 139).
function lists.segment(from, to, blocks, source, destination, flags)
  return string.pack(">BBI2I2I2xxI2I8I8", 2, flags or 0, 24, from, to, blocks,
                     source, destination)
end

--- The list of EXTENDED COPY (LID1).
function lists.lid1(targets, segments, id, usage)
  return string.pack(">BBI2xxxxI4I4", id or 1, (usage or 0) << 3, #targets,
                     #segments, 0) .. targets .. segments
end

--- The list of EXTENDED COPY (LID4).  `flags` is byte 15: 1 is IMMED, 2 G_SENSE
--- (SPC-4 table 105).
function lists.lid4(targets, segments, id, flags, usage)
  return string.pack(">BBI2c11BBc3I4c18I2I2I2", 1, (usage or 0) << 3, 32,
                     ("\0"):rep(11), flags or 0, 0xFF, "\0\0\0", id,
                     ("\0"):rep(18), #targets, #segments, 0)
         .. targets .. segments
end

--- `n` blocks that are all different.
function lists.numbered(n, block_size, from)
  local list = {}
  for i = 1, n do
    list[i] = ("%08d"):format((from or 0) + i):rep((block_size or 512) // 8)
  end
  return table.concat(list)
end

return lists
