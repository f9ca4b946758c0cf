--- Which file a handler's name on the command line means.

local suggest = require "tcmu.suggest"

local places = {}

local function readable(path)
  local f <close> = io.open(path, "r")
  -- A directory opens, but gives nothing to read.
  return f ~= nil and f:read(0) ~= nil
end

--- True if the word is meant as a path rather than a name.
function places.is_path(word)
  return word:find("/", 1, true) ~= nil or word:find("%.lua$") ~= nil
end

--- The names of the installed handlers in order, and their paths by name.
-- Needs luv.
function places.installed(env)
  local paths, names = require("tcmu.catalog").find { env.paths.handlers }
  return names, paths
end

-- Without luv nothing can be suggested, but a name can still be found.
local function hint(env, word)
  local ok, names = pcall(places.installed, env)
  return ok and suggest.hint(word, names) or ""
end

--- The file of a handler given by name or path.
-- @return its path; or nil and one sentence
function places.find(env, word)
  if places.is_path(word) then
    if readable(word) then return word end
    return nil, ("there is no handler file '%s' that could be read")
                :format(word)
  end
  local path = ("%s/%s.lua"):format(env.paths.handlers, word)
  if readable(path) then return path end
  return nil, ("there is no handler '%s'%s 'tcmu-lua list' shows those "
               .. "installed; another file is given by its path"):format(word,
                 (hint(env, word) .. ":"):gsub("%?:$", "?"))
end

--- The path from the root, for a process that runs elsewhere.  Needs luv.
function places.absolute(path)
  if path:sub(1, 1) == "/" then return path end
  return require("luv").cwd() .. "/" .. path:gsub("^%./", "")
end

return places
