--- The parameter list of EXTENDED COPY, checked and taken apart (SPC-4 6.4).
--
-- Both forms, LID1 and LID4, give the same: { id, keep, targets, segments }.
-- A target is the designator that names it with the block size that it is said
-- to have; a segment { from, to (numbers of targets), blocks, by_destination
-- (whose blocks), source, destination (LBAs), at (its place in the list) }.

local sense = require "tcmu.sense"

local copy_list = {}

--- What one command may ask for: also what RECEIVE COPY OPERATING PARAMETERS
-- and page 8Fh tell.  Lengths in bytes.
copy_list.limits = {
  targets = 8, segments = 64, descriptors = 8 * 32 + 64 * 28,
  segment_blocks = 0xFFFF,
}

--- Type codes of the descriptors that are known, in ascending order.
copy_list.types = { 0x02, 0xE4 }

local BLOCK_TO_BLOCK <const>, IDENTIFICATION <const> = 0x02, 0xE4
local TARGET_LENGTH <const>, SEGMENT_LENGTH <const> = 32, 28
-- LIST ID USAGE: 11b is without an identifier, and nothing is kept.
local RESERVED <const>, NO_ID <const> = 1, 3
local IMMED <const>, G_SENSE <const> = 0x01, 0x02       -- in byte 15 of LID4

local BAD_LENGTH <const> = sense.constant.PARAMETER_LIST_LENGTH_ERROR
local BAD_FIELD <const> = sense.constant.INVALID_FIELD_IN_PARAMETER_LIST
local BAD_CDB <const> = sense.constant.INVALID_FIELD_IN_CDB

-- True if the result is to be kept; `id_at` is where the identifier is (SPC-4
-- 6.4.3.2).
local function keeps(list, id, id_at)
  local usage <const> = list:byte(2) >> 3 & 3
  if usage == RESERVED then error(BAD_FIELD:at_param(1, 4)) end
  if usage == NO_ID and id ~= 0 then error(BAD_FIELD:at_param(id_at)) end
  return usage ~= NO_ID
end

-- IMMED of LID4.  G_SENSE wants sense data with GOOD, which the kernel does not
-- pass on; "in CDB" are the words of SPC-4 6.4.2 for what does not go with
-- IMMED.
local function immediate(flags, keep)
  local immed <const> = flags & IMMED ~= 0
  if immed and (flags & G_SENSE ~= 0 or not keep) then error(BAD_CDB) end
  if flags & G_SENSE ~= 0 then error(BAD_FIELD:at_param(15, 1)) end
  return immed
end

-- LID1: SPC-4 table 101; LID4: table 105.
local function short_header(list)
  if #list < 16 then error(BAD_LENGTH) end
  local id, targets, segments, inline = string.unpack(">BxI2xxxxI4I4", list)
  return { id = id, keep = keeps(list, id, 0), length = 16,
           targets = targets, segments = segments, inline = inline,
           targets_at = 2, segments_at = 8, inline_at = 12 }
end

local function long_header(list)
  if #list < 48 then error(BAD_LENGTH) end
  if list:byte(1) ~= 1 then error(BAD_FIELD:at_param(0)) end
  local id = string.unpack(">I4", list, 21)
  local targets, segments, inline = string.unpack(">I2I2I2", list, 43)
  local keep = keeps(list, id, 20)
  return { id = id, keep = keep, length = 48,
           immed = immediate(list:byte(16), keep),
           targets = targets, segments = segments, inline = inline,
           targets_at = 42, segments_at = 44, inline_at = 46 }
end

-- The designator in an identification descriptor (SPC-4 table 128).
local function target(list, at)
  local kind, flags = list:byte(at + 1, at + 2)
  if kind ~= IDENTIFICATION then
    error(sense.constant.UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE:at_param(at))
  end
  if flags & 0x1F ~= 0 then           -- a disk is all that can be copied to
    error(BAD_FIELD:at_param(at + 1, 4))
  end
  if flags & 0x20 ~= 0 then           -- NUL: no device at all
    error(BAD_FIELD:at_param(at + 1, 5))
  end
  local length = list:byte(at + 8)
  if length > 20 then error(BAD_FIELD:at_param(at + 7)) end
  return { code_set = list:byte(at + 5) & 0x0F,
           kind = list:byte(at + 6) & 0x3F,
           name = list:sub(at + 9, at + 8 + length),
           block_size = string.unpack(">I3", list, at + 30),
           block_size_at = at + 29 }
end

-- SPC-4 table 139.
local function segment(list, at)
  if list:byte(at + 1) ~= BLOCK_TO_BLOCK then
    error(sense.constant.UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE:at_param(at))
  end
  if at + SEGMENT_LENGTH > #list then error(BAD_LENGTH) end
  local length, from, to, blocks, source, destination =
    string.unpack(">I2I2I2xxI2I8I8", list, at + 3)
  if length ~= SEGMENT_LENGTH - 4 then error(BAD_FIELD:at_param(at + 2)) end
  return { from = from, to = to, blocks = blocks, source = source,
           by_destination = list:byte(at + 2) & 0x02 ~= 0,
           destination = destination, at = at }
end

--- Takes a list apart; raises for what is wrong with it.  `long` for LID4.
function copy_list.read(list, long)
  local head = (long and long_header or short_header)(list)
  local most <const> = copy_list.limits
  if head.targets + head.segments > most.descriptors then error(BAD_LENGTH) end
  local first_segment <const> = head.length + head.targets
  if first_segment + head.segments + head.inline > #list then
    error(BAD_LENGTH)
  end
  if head.inline ~= 0 then error(BAD_FIELD:at_param(head.inline_at)) end
  if head.targets % TARGET_LENGTH ~= 0 then
    error(BAD_FIELD:at_param(head.targets_at))
  end
  if head.targets // TARGET_LENGTH > most.targets then
    error(sense.constant.TOO_MANY_TARGET_DESCRIPTORS:at_param(head.targets_at))
  end

  local result = { id = head.id, keep = head.keep, immed = head.immed,
                   targets = {}, segments = {} }
  for at = head.length, first_segment - 1, TARGET_LENGTH do
    result.targets[#result.targets + 1] = target(list, at)
  end
  local at = first_segment
  while at < first_segment + head.segments do
    if #result.segments == most.segments then
      error(sense.constant.TOO_MANY_SEGMENT_DESCRIPTORS
            :at_param(head.segments_at))
    end
    result.segments[#result.segments + 1] = segment(list, at)
    at = at + SEGMENT_LENGTH
  end
  return result
end

return copy_list
