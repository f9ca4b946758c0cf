--- C declarations: what the members of a structure are.
-- A recursive descent over the declarator grammar (C11 6.7.6), for member lists
-- and parameter lists: pointers, arrays, functions, bit fields, several
-- declarators to one type, nested structures.  Types come back as small trees
-- which `declare` writes out again with any name.
--
--   { kind = "base", text = "const struct se_cmd" }
--   { kind = "pointer", to = TYPE, qualifiers = "const" }
--   { kind = "array", of = TYPE, size = "16" }
--   { kind = "function", returns = TYPE, parameters = {...}, variadic = bool }

local declaration = {}

local QUALIFIER <const> = {
  const = true, volatile = true, restrict = true, static = true,
  extern = true, inline = true, register = true, _Atomic = true,
}
local ARITHMETIC <const> = {
  void = true, char = true, short = true, int = true, long = true,
  float = true, double = true, signed = true, unsigned = true, _Bool = true,
}
-- Part of the type for sparse; every other annotation is passed over.
local ADDRESS_SPACE <const> = {
  __user = true, __iomem = true, __percpu = true, __rcu = true,
}
local TAGGED <const> = { struct = true, union = true, enum = true }
-- Names with two leading underscores are annotations (__user, __rcu, ...)
-- unless they are one of the kernel's types.
local UNDERSCORED_TYPE <const> = {
  "^__[us]%d+$", "^__[bl]e%d+$", "^__sum16$", "^__wsum$", "^__kernel_",
}

local Parser = {}
Parser.__index = Parser

function Parser:peek(ahead) return self.tokens[self.at + (ahead or 0)] end

function Parser:text(ahead)
  local token = self:peek(ahead)
  return token and token.text
end

function Parser:fail(expected)
  local token = self:peek() or { text = "the end of the file", line = "end" }
  error(("%s:%s: cannot read this declaration: expected %s, found %s")
    :format(self.origin, token.line, expected, token.text), 0)
end

function Parser:take(mark)
  if self:text() ~= mark then self:fail(("%q"):format(mark)) end
  self.at = self.at + 1
end

function Parser:accept(mark)
  if self:text() == mark then
    self.at = self.at + 1
    return true
  end
  return false
end

--- Passes over a bracketed group; the current token opens it.
function Parser:skip_group(open, close)
  local depth = 0
  repeat
    local text = self:text() or self:fail(("%q"):format(close))
    if text == open then depth = depth + 1 end
    if text == close then depth = depth - 1 end
    self.at = self.at + 1
  until depth == 0
end

local function is_annotation(name)
  if name:sub(1, 2) ~= "__" or ADDRESS_SPACE[name] then return false end
  for _, pattern in ipairs(UNDERSCORED_TYPE) do
    if name:find(pattern) then return false end
  end
  return true
end

--- Passes over __attribute__((...)), __rcu, __aligned(8) and their like.
function Parser:skip_annotations()
  while self:peek() and self:peek().kind == "name"
        and is_annotation(self:text()) do
    self.at = self.at + 1
    if self:text() == "(" then self:skip_group("(", ")") end
  end
end

--- The words before the declarators.  Returns a base type; for a structure or
-- union with a body, `members` and `tag` are set on it.
function Parser:specifiers()
  local words, base, members, tag = {}, false, nil, nil
  while true do
    self:skip_annotations()
    local token = self:peek()
    if not token or token.kind ~= "name" then break end
    local word = token.text
    if QUALIFIER[word] or ARITHMETIC[word] or ADDRESS_SPACE[word] then
      base = base or ARITHMETIC[word]
      words[#words + 1] = word
      self.at = self.at + 1
    elseif TAGGED[word] then
      base, tag = true, word
      words[#words + 1] = word
      self.at = self.at + 1
      self:skip_annotations()
      if self:peek() and self:peek().kind == "name" then
        words[#words + 1] = self:text()
        self.at = self.at + 1
      end
      if self:text() == "{" then
        if word == "enum" then
          self:skip_group("{", "}")
        else
          members = self:members()
        end
      end
    elseif not base then            -- a name where a type must be is one
      base = true
      words[#words + 1] = word
      self.at = self.at + 1
    else
      break
    end
  end
  if not base then self:fail("a type") end
  return { kind = "base", text = table.concat(words, " "), members = members,
           tag = tag }
end

--- In a parameter, "(" after the type either groups a declarator or opens the
-- parameters of a function that has no name.
function Parser:groups()
  local next_text = self:text(1)
  return next_text == "*" or next_text == "(" or next_text == "["
    or (self:peek(1) and self:peek(1).kind == "name"
        and is_annotation(next_text))
end

--- One declarator around `type`.  Returns the complete type and the name, nil
-- for an abstract one.  `abstract` allows the name to be missing.
function Parser:declarator(type, abstract)
  self:skip_annotations()
  while self:accept("*") do
    local words = {}
    self:skip_annotations()
    while QUALIFIER[self:text()] or ADDRESS_SPACE[self:text()] do
      words[#words + 1] = self:text()
      self.at = self.at + 1
      self:skip_annotations()
    end
    type = { kind = "pointer", to = type,
             qualifiers = table.concat(words, " ") }
  end

  -- A group is read twice: what follows it belongs inside of it.
  local name, group
  if self:text() == "(" and (not abstract or self:groups()) then
    group = self.at
    self:skip_group("(", ")")
  elseif self:peek() and self:peek().kind == "name" then
    name = self:text()
    self.at = self.at + 1
  elseif not abstract and self:text() ~= ":" then
    self:fail("a name")
  end

  type = self:suffixes(type)
  self:skip_annotations()
  if group then
    local after = self.at
    self.at = group
    self:take("(")
    type, name = self:declarator(type, abstract)
    self:take(")")
    self.at = after
  end
  return type, name
end

function Parser:suffixes(type)
  if self:text() == "[" then
    local from = self.at + 1
    self:skip_group("[", "]")
    local words = {}
    for i = from, self.at - 2 do words[#words + 1] = self.tokens[i].text end
    -- the brackets further right belong to the element
    return { kind = "array", of = self:suffixes(type),
             size = table.concat(words, " ") }
  elseif self:text() == "(" then
    local parameters, variadic = self:parameters()
    return { kind = "function", returns = self:suffixes(type),
             parameters = parameters, variadic = variadic }
  end
  return type
end

function Parser:parameters()
  local list, variadic = {}, false
  self:take("(")
  if self:text() == "void" and self:text(1) == ")" then
    self.at = self.at + 1
  end
  while self:text() ~= ")" do
    if self:accept("...") then
      variadic = true
    else
      local type, name = self:declarator(self:specifiers(), true)
      list[#list + 1] = { type = type, name = name }
    end
    if not self:accept(",") then break end
  end
  self:take(")")
  return list, variadic
end

local function negate(condition)
  if condition:find("^!") then return condition:sub(2) end
  return "!" .. condition
end

--- Keeps track of #if lines: `guard` is the condition that holds here.
function Parser:directive(line)
  local word, rest = line:match("^#%s*(%a+)%s*(.*)$")
  local stack = self.conditions
  local top = stack[#stack]
  if word == "ifdef" then
    stack[#stack + 1] = { now = "defined(" .. rest .. ")", before = {} }
  elseif word == "ifndef" then
    stack[#stack + 1] = { now = "!defined(" .. rest .. ")", before = {} }
  elseif word == "if" then
    stack[#stack + 1] = { now = "(" .. rest .. ")", before = {} }
  elseif word == "elif" and top then
    top.before[#top.before + 1] = negate(top.now)
    top.now = "(" .. rest .. ")"
  elseif word == "else" and top then
    top.before[#top.before + 1] = negate(top.now)
    top.now = nil
  elseif word == "endif" and top then
    stack[#stack] = nil
  end
end

function Parser:guard()
  local all = {}
  for _, level in ipairs(self.conditions) do
    table.move(level.before, 1, #level.before, #all + 1, all)
    all[#all + 1] = level.now
  end
  return all[1] and table.concat(all, " && ")
end

--- A macro that stands for a member, RESERVE(1) or RESERVE(1);
function Parser:skip_macro()
  local token = self:peek()
  if token.kind == "name" and token.text:find("^[%u_][%u%d_]*$")
     and self:text(1) == "(" then
    self.at = self.at + 1
    self:skip_group("(", ")")
    self:accept(";")
    return true
  end
  return false
end

--- One member declaration, appended to `list`: all its declarators.
function Parser:member(list)
  local base = self:specifiers()
  if self:accept(";") then
    -- An anonymous structure lends its members; a union has room for one only.
    if base.members and base.tag == "struct" then
      table.move(base.members, 1, #base.members, #list + 1, list)
    end
    return
  end
  repeat
    local line = self:peek() and self:peek().line
    local type, name = self:declarator(base, false)
    local bits = self:accept(":") and self:text()
    if bits then self.at = self.at + 1 end
    self:skip_annotations()
    if name then
      list[#list + 1] = { name = name, type = type, bits = bits or nil,
                          guard = self:guard(), line = line }
    end
  until not self:accept(",")
  self:take(";")
end

--- The members between braces; the current token is the opening one.
function Parser:members()
  local list = {}
  self:take("{")
  while self:text() ~= "}" do
    local token = self:peek() or self:fail('"}"')
    if token.kind == "directive" then
      self:directive(token.text)
      self.at = self.at + 1
    elseif not self:accept(";") and not self:skip_macro() then
      self:member(list)
    end
  end
  self:take("}")
  return list
end

--- The members of `struct NAME { ... }`.
-- @param tokens what lexer.tokens returned
-- @param name the structure's tag
-- @param origin what to call the source in messages
-- @return a list of { name =, type =, bits =, guard =, line = } in the order of
--   declaration; `guard` is the preprocessor condition around it, if any.
--   nil if the source does not define the structure.
-- Raises a string for a declaration that it cannot read.
function declaration.members(tokens, name, origin)
  for i = 1, #tokens - 2 do
    if tokens[i].text == "struct" and tokens[i + 1].text == name
       and tokens[i + 2].text == "{" then
      local parser = setmetatable(
        { tokens = tokens, at = i + 2, origin = origin, conditions = {} },
        Parser)
      return parser:members()
    end
  end
end

--- The function type behind a pointer to a function, else nil.
function declaration.callback(type)
  if type.kind == "pointer" and type.to.kind == "function" then
    return type.to
  end
end

local function spaced(left, right)
  if right == "" or right:find("^%[") then return left .. right end
  return left:find("%*$") and left .. right or left .. " " .. right
end

--- Writes a declaration of `name` with this type; without a name, the type.
function declaration.declare(type, name)
  name = name or ""
  if type.kind == "base" then
    return spaced(type.text, name)
  elseif type.kind == "pointer" then
    local inner = "*" .. type.qualifiers
    if type.qualifiers ~= "" and name ~= "" then inner = inner .. " " end
    inner = inner .. name
    if type.to.kind == "function" or type.to.kind == "array" then
      inner = "(" .. inner .. ")"
    end
    return declaration.declare(type.to, inner)
  elseif type.kind == "array" then
    return declaration.declare(type.of, name .. "[" .. type.size .. "]")
  end
  local list = {}
  for i, parameter in ipairs(type.parameters) do
    list[i] = declaration.declare(parameter.type, parameter.name)
  end
  if type.variadic then list[#list + 1] = "..." end
  if not list[1] then list[1] = "void" end
  return declaration.declare(type.returns,
    name .. "(" .. table.concat(list, ", ") .. ")")
end

return declaration
