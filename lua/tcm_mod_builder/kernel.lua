--- What a kernel asks of a fabric module, read from its own headers.
-- Finds the headers in what people pass (a build directory, a source tree, one
-- of Debian's header packages), reads `struct target_core_fabric_ops` and, when
-- the sources are there, the members that registration insists on.

local declaration = require "tcm_mod_builder.declaration"
local lexer = require "tcm_mod_builder.lexer"

local kernel = {}

local HEADER <const> = "include/target/target_core_fabric.h"
local CHECKS <const> = "drivers/target/target_core_configfs.c"
-- What generated files include: none of it may have a generated name.
local INCLUDED <const> = {
  HEADER, "include/target/target_core_base.h", "include/scsi/scsi_proto.h",
  "include/linux/configfs.h", "include/linux/err.h", "include/linux/kernel.h",
  "include/linux/module.h", "include/linux/mutex.h", "include/linux/slab.h",
  "include/linux/string.h",
}

local function slurp(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")          -- nil for a directory
end

--- Where the headers proper are when `dir` is only a build directory: kbuild
-- leaves a `source` link there, Debian a Makefile of one include line.
local function root_of(dir)
  local candidates = { dir, dir .. "/source", dir .. "/build" }
  for _, build in ipairs { dir, dir .. "/build" } do
    local makefile = slurp(build .. "/Makefile") or ""
    candidates[#candidates + 1] =
      makefile:match("^%s*include%s+(%S+)/Makefile%s*$")
  end
  for _, root in ipairs(candidates) do
    if slurp(root .. "/" .. HEADER) then return root end
  end
end

--- The names of the members which registration refuses to miss: every
-- `!tfo->member` in target_fabric_tf_ops_check().
local function insisted(tokens)
  local names, depth = {}, nil
  for i, token in ipairs(tokens) do
    if token.text == "target_fabric_tf_ops_check" and not depth then
      depth = 0
    elseif depth == 0 and token.text == ";" then    -- a prototype or a call
      depth = nil
    elseif depth and token.text == "{" then
      depth = depth + 1
    elseif depth and token.text == "}" then
      depth = depth - 1
      if depth == 0 then break end
    elseif depth and token.text == "!" and tokens[i + 2]
           and tokens[i + 2].text == "->" then
      names[#names + 1] = tokens[i + 3].text
    end
  end
  return names[1] and names
end

--- Reads a kernel's headers.
-- @param dir a build directory, a source tree or /lib/modules/VERSION
-- @return on success { header = path, members = list, declared = set,
--   insisted = list or nil }: `members` as from declaration.members, `declared`
--   every name that the headers mention, `insisted` the members that
--   registration checks, known only where the sources are.
--   nil and a message when there is no such header or it has no such structure.
function kernel.read(dir)
  dir = dir:gsub("(.)/+$", "%1")
  local root = root_of(dir)
  if not root then
    return nil, ("%s has no %s; install the kernel's header package and pass "
      .. "its build directory, for instance /lib/modules/VERSION/build")
      :format(dir, HEADER)
  end

  local path = root .. "/" .. HEADER
  local declared, members = {}, nil
  for _, name in ipairs(INCLUDED) do
    local text = slurp(root .. "/" .. name)
    local tokens = lexer.tokens(text or "", root .. "/" .. name)
    for _, token in ipairs(tokens) do
      if token.kind == "name" then declared[token.text] = true end
      -- a name that is only ever a macro counts as well
      local macro = token.kind == "directive"
        and token.text:match("^#%s*define%s+([%a_][%w_]*)")
      if macro then declared[macro] = true end
    end
    if name == HEADER then
      members = declaration.members(tokens, "target_core_fabric_ops", path)
    end
  end
  if not members then
    return nil, path .. " does not define struct target_core_fabric_ops"
  end

  local checks = slurp(root .. "/" .. CHECKS)
  return {
    header = path,
    members = members,
    declared = declared,
    insisted = checks and insisted(lexer.tokens(checks, root .. "/" .. CHECKS)),
  }
end

return kernel
