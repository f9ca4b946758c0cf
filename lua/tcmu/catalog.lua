--- Which handlers there are: a name for every Lua file of some directories.
--
-- A handler's file carries its name ("file" is file.lua), so that knowing the
-- names runs no foreign code.  What the handler calls itself counts for nothing
-- here; `tcmu-lua check` tells when that is something else.

local files = require "tcmu.files"
local uio = require "tcmu.uio"

local catalog = {}

--- @param places  directories of handlers and single handler files; the
-- first of two that share a name counts
-- @return { [name] = path }, and the names in order
function catalog.find(places)
  local paths, names = {}, {}
  local function add(path)
    local name = path:match("([^/]+)%.lua$")
    if name and not paths[name] then
      paths[name] = path
      names[#names + 1] = name
    end
  end

  for _, place in ipairs(places) do
    if place:find("%.lua$") then
      add(place)
    else
      for _, entry in ipairs(files.list(place)) do
        add(place .. "/" .. entry)
      end
    end
  end
  table.sort(names)
  return paths, names
end

--- Who serves a dev_config.  "lua/path=FILE;..." names its handler itself, one
--- that need not be installed.
-- @return path of the handler, its options' text; or nil: nobody
function catalog.resolve(paths, config)
  local subtype, rest = uio.split_config(config)
  if subtype ~= "lua" or paths.lua then return paths[subtype], rest end

  local path, others = rest:match("^path=([^;]+);?(.*)$")
  return path, others
end

return catalog
