--- Generated text: placeholders, line breaking and comments, the kernel's way.
-- Lines have 80 columns with tabs of 8, if they can; what follows an opening
-- bracket is aligned under it.  Nothing here knows what the text is about.

local layout = {}

local WIDTH <const> = 80
local TOLERATED <const> = 100           -- what checkpatch lets pass

local function columns(line)
  local width = 0
  for c in line:gmatch(".") do
    width = c == "\t" and (width // 8 + 1) * 8 or width + 1
  end
  return width
end

local function indent(width)
  return ("\t"):rep(width // 8) .. (" "):rep(width % 8)
end

--- The words of `text` in lines that begin with `prefix`.
local function flow(text, prefix)
  local lines, line = {}, prefix
  for word in text:gmatch("%S+") do
    if columns(line .. " " .. word) > WIDTH and line ~= prefix then
      lines[#lines + 1] = line
      line = prefix
    end
    line = line .. " " .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

--- Replaces @name@ by values.name; a line that becomes empty disappears.
-- Raises a string for a name without a value: a mistake in a template.
function layout.fill(template, values)
  local filled = template:gsub("[^\n]*\n?", function(line)
    local text, count = line:gsub("@([%w_]+)@", function(name)
      return values[name] or error("no value for @" .. name .. "@", 0)
    end)
    if count > 0 and text:find("^%s*$") then return "" end
    return text
  end)
  return filled
end

--- Where `line` may be broken: after the commas directly inside its first
-- bracket that is not closed before them.  Returns the bracket's position and
-- the positions of the commas.
local function breaks(line)
  local depth, open, commas, quoted = 0, nil, {}, false
  local i = 1
  while i <= #line do
    local c = line:sub(i, i)
    if quoted then
      if c == "\\" then
        i = i + 1
      elseif c == '"' then
        quoted = false
      end
    elseif c == '"' then
      quoted = true
    elseif c == "(" then
      depth = depth + 1
      if depth == 1 and not commas[1] then open = i end
    elseif c == ")" then
      depth = depth - 1
    elseif c == "," and depth == 1 then
      commas[#commas + 1] = i
    end
    i = i + 1
  end
  return open, commas
end

--- Packs what is in a bracket into lines that start at column `at`.
local function pack(head, pieces, at)
  local lines, line = {}, head
  for i, piece in ipairs(pieces) do
    local joined = line .. (line:find("[(\t]$") and "" or " ") .. piece
    if i > 1 and columns(joined) > WIDTH then
      lines[#lines + 1] = line
      joined = indent(at) .. piece
    end
    line = joined
  end
  lines[#lines + 1] = line
  return lines
end

local function widest(lines)
  local width = 0
  for _, line in ipairs(lines) do width = math.max(width, columns(line)) end
  return width
end

--- `line` broken after the commas of its first bracket, as a list; nil when
-- there is nothing to break at.
local function by_arguments(line)
  local open, commas = breaks(line)
  if not commas[1] then return nil end
  local pieces, from = {}, open + 1
  for _, comma in ipairs(commas) do
    pieces[#pieces + 1] = line:sub(from, comma)
    from = comma + 2
  end
  pieces[#pieces + 1] = line:sub(from)
  local head = line:sub(1, open)
  return pack(head, pieces, columns(head))
end

--- Breaks one line of C that is too long, at the first of these places that
-- makes it short enough: the commas of its arguments, the "=", the type of the
-- function that it declares.  Returns it as it is when none is there.
local function wrap(line)
  if columns(line) <= WIDTH then return line end
  local prefix, words = line:match("^(%s*%*) (.+)$")
  if prefix then return flow(words, prefix) end

  local ways = { by_arguments(line) or { line } }
  local target, value = line:match("^([^(\"]* =) (.+)$")
  if target then
    local inner = line:match("^\t*") .. "\t" .. value
    ways[#ways + 1] = { target, inner }
  end
  local type, declared = line:match("^(%l[%w_ ]*[ *])([%w_]+%(.*)$")
  if type and not type:find("return") then
    local lines = by_arguments(declared) or { declared }
    table.insert(lines, 1, (type:gsub(" $", "")))
    ways[#ways + 1] = lines
  end

  local best = ways[1]
  for _, lines in ipairs(ways) do
    local width = widest(lines)
    if width <= WIDTH then return table.concat(lines, "\n") end
    if width < widest(best) then best = lines end
  end
  -- A little too long is easier to read than a type on its own line.
  if widest(ways[1]) <= TOLERATED then best = ways[1] end
  return table.concat(best, "\n")
end

--- Breaks every line of `text` that is longer than 80 columns.
function layout.wrap(text)
  return (text:gsub("[^\n]+", wrap))
end

--- `text` as a C comment, on one line if it fits there.
function layout.comment(text, prefix)
  prefix = prefix or ""
  local one = prefix .. "/* " .. text .. " */"
  if columns(one) <= WIDTH then return one end
  return ("%s/*\n%s\n%s */"):format(prefix, flow(text, prefix .. " *"), prefix)
end

return layout
