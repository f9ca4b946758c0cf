--- C tokens, as far as a kernel header needs them.
-- Splits source text into identifiers, numbers, literals and punctuation;
-- drops comments and white space; keeps each preprocessor line as one token,
-- because a member of a structure may depend on it.

local lexer = {}

-- Longest first: the first that matches is taken.
local PUNCTUATION <const> = {
  "...", "<<=", ">>=",
  "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||",
  "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "##",
}

--- Where the comment or literal that starts at `at` ends (its last byte), or
-- nil when the text ends first.
local function comment_end(text, at)
  if text:sub(at, at + 1) == "//" then
    return (text:find("\n", at, true) or #text + 1) - 1
  end
  local _, last = text:find("*/", at + 2, true)
  return last
end

local function literal_end(text, at)
  local quote = text:sub(at, at)
  local i = at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == "\\" then
      i = i + 1
    elseif c == quote then
      return i
    elseif c == "\n" then
      return nil
    end
    i = i + 1
  end
end

--- A preprocessor line without its comments; continuation lines are joined.
-- Returns the text and the position of the line's last byte.
local function directive(text, at)
  local parts, i = {}, at
  while i <= #text do
    local c = text:sub(i, i)
    local two = text:sub(i, i + 1)
    if two == "\\\n" then
      parts[#parts + 1] = " "
      i = i + 2
    elseif c == "\n" then
      break
    elseif two == "//" or two == "/*" then
      parts[#parts + 1] = " "
      i = (comment_end(text, i) or #text) + 1
    elseif c == '"' or c == "'" then
      local last = literal_end(text, i) or i
      parts[#parts + 1] = text:sub(i, last)
      i = last + 1
    else
      parts[#parts + 1] = c
      i = i + 1
    end
  end
  local line = table.concat(parts):gsub("%s+", " "):gsub(" $", "")
  return line, i - 1
end

local function punctuation(text, at)
  for _, mark in ipairs(PUNCTUATION) do
    if text:sub(at, at + #mark - 1) == mark then
      return mark
    end
  end
  return text:sub(at, at)
end

--- The token at `at`, which is neither white space nor a comment: its kind and
-- its text.  `fresh` says that only white space stands before it on the line.
local function token_at(text, at, fresh)
  local c = text:sub(at, at)
  if c == "#" and fresh then
    return "directive", directive(text, at)
  elseif c:find("[%a_]") then
    return "name", text:match("^[%w_]+", at)
  elseif c:find("%d") then
    return "number", text:match("^[%w_.]+", at)
  elseif c == '"' or c == "'" then
    local last = literal_end(text, at)
    return last and "literal", last and text:sub(at, last)
  end
  return "mark", punctuation(text, at)
end

--- Splits C source into tokens.
-- @param text the source
-- @param origin what to call it in messages, usually its path
-- @return a list of { kind =, text =, line = }; kind is "name", "number",
--   "literal", "mark" or "directive"
-- Raises a string when a comment or literal does not end.
function lexer.tokens(text, origin)
  local list, at, line, fresh = {}, 1, 1, true
  local function unfinished(what)
    error(("%s:%d: %s that does not end; is this file whole?")
      :format(origin, line, what), 0)
  end

  while at <= #text do
    local c, two = text:sub(at, at), text:sub(at, at + 1)
    local last
    if c == "\n" then
      last, fresh = at, true
    elseif c:find("%s") or two == "\\\n" then
      last = two == "\\\n" and at + 1 or at
    elseif two == "//" or two == "/*" then
      last = comment_end(text, at) or unfinished("a comment")
    else
      local kind, body, stop = token_at(text, at, fresh)
      if not kind then unfinished("a literal") end
      list[#list + 1] = { kind = kind, text = body, line = line }
      last, fresh = stop or at + #body - 1, false
    end
    local _, breaks = text:sub(at, last):gsub("\n", "")
    line, at = line + breaks, last + 1
  end
  return list
end

return lexer
