--- Every command of a device kind as a table in Markdown, made from the tables
--- that answer the commands: what is in this list is what is there.

local offer = require "tcmu.offer"
local rsoc = require "tcmu.rsoc"

local matrix = {}

-- What a device may lack, and how the list says that a command needs it.
local ABILITIES <const> = { "write", "unmap", "flush", "eject",
                             "atomic" }

-- A device of the kind that can do all but `lacking`.
local function example(kind, lacking)
  local dev = { kind = kind, handler = {}, can = { read = true },
                removable = lacking ~= "eject", reservations = true,
                port_groups = { { explicit = 1, implicit = 1 } } }
  for _, ability in ipairs(ABILITIES) do
    dev.can[ability] = ability ~= lacking
  end
  return dev
end

local function needs(kind, layout)
  local missing = {}
  for _, ability in ipairs(ABILITIES) do
    if not offer.has(example(kind, ability), layout.opcode, layout.action) then
      missing[#missing + 1] = ability
    end
  end
  return table.concat(missing, ", ")
end

local FIXED <const> = { operation_code = true, service_action = true,
                        additional_cdb_length = true, control = true }

-- The names of fields that are honoured, of those that must be 0, and of those
-- that are ignored.
local function fields(layout)
  local yes, no, ignored = {}, {}, {}
  for _, field in ipairs(layout.fields) do
    if not FIXED[field.name] then
      local name = field.name:gsub("_", " ")
      if field.no then
        no[#no + 1] = name
      elseif field.ignored then
        ignored[#ignored + 1] = name
      else
        yes[#yes + 1] = field.needs and ("%s (needs %s)"):format(name,
                                         field.needs) or name
      end
    end
  end
  return table.concat(yes, ", "), table.concat(no, ", "),
         table.concat(ignored, ", ")
end

local function code_of(layout)
  if not layout.action then return ("%02Xh"):format(layout.opcode) end
  return ("%02Xh/%02Xh"):format(layout.opcode, layout.action)
end

local function is_direct(kind, opcode, action)
  local direct = kind.direct and kind.direct[opcode]
  if type(direct) == "table" then return direct[action] end
  return direct
end

--- The list for a device kind such as tcmu.disk.
function matrix.text(kind)
  local dev = example(kind)
  local out = {
    "| Code | Command | Standard | Answered by | Honoured | Must be 0 | "
    .. "Ignored | Needs |",
    "|---|---|---|---|---|---|---|---|",
  }
  for _, entry in ipairs(rsoc.commands(dev)) do
    local layout = assert(entry.layout)
    local ours = offer.has(dev, entry.opcode, entry.action)
    local who = "the kernel"
    if ours then
      who = is_direct(kind, entry.opcode, entry.action) and "C or Lua" or "Lua"
    end
    local row = { code_of(layout), layout.name, layout.standard, who }
    if ours then
      row[5], row[6], row[7] = fields(layout)
      row[8] = needs(kind, layout)
    end
    for i = #row + 1, 8 do row[i] = "" end
    out[#out + 1] = "| " .. table.concat(row, " | ") .. " |"
  end
  return table.concat(out, "\n") .. "\n"
end

return matrix
