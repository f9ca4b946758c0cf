--- Writes a module's files: all of them, or none.
-- A new directory is filled beside its place, under a hidden name, and moved
-- there when it is complete.  In a kernel tree, two of the tree's files can be
-- made to know the new directory.  Only the standard library is used, and
-- mkdir(1).

local store = {}

local ENOENT <const> = 2

--- True if something is there, readable or not.
function store.exists(path)
  local file, _, code = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil or code ~= ENOENT
end

local function quoted(path) return "'" .. path:gsub("'", "'\\''") .. "'" end

local function write(path, text)
  local file, why = io.open(path, "wb")
  if not file then return nil, why end
  local ok
  ok, why = file:write(text)
  local closed, late = file:close()         -- a full disk may show only here
  if not ok then return nil, path .. ": " .. why end
  if not closed then return nil, path .. ": " .. late end
  return true
end

--- Makes the directory `parent`/`name` with these files.
-- @param files a list of { name =, text = }
-- @param say called with the path of each file before it is written
-- @return true, or nil and one sentence; then there is no new directory
function store.create(parent, name, files, say)
  local place = parent .. "/" .. name
  if store.exists(place) then
    return nil, place .. " exists already; remove it, or take another name"
  end
  local aside = parent .. "/." .. name .. ".new"
  if store.exists(aside) then
    return nil, aside .. " is in the way: another run is busy or was "
      .. "interrupted; remove it if none is"
  end
  if not os.execute("mkdir -- " .. quoted(aside) .. " 2>/dev/null") then
    return nil, ("cannot make a directory in %s; does it exist, and may you "
      .. "write there?"):format(parent)
  end

  local ok, why = true, nil
  for _, file in ipairs(files) do
    say(place .. "/" .. file.name)
    ok, why = write(aside .. "/" .. file.name, file.text)
    if not ok then break end
  end
  if ok then ok, why = os.rename(aside, place) end
  if ok then return true end

  for _, file in ipairs(files) do os.remove(aside .. "/" .. file.name) end
  os.remove(aside)
  return nil, why
end

--- Replaces a file of the tree by `change(text)`, unless it has `line`.
local function edit(path, line, change)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text = file:read("a")
  file:close()
  if not text then return nil, path .. " cannot be read" end
  if ("\n" .. text):find("\n" .. line .. "\n", 1, true) then return true end

  local ok
  ok, why = write(path .. ".new", change(text))
  if ok then ok, why = os.rename(path .. ".new", path) end
  if not ok then os.remove(path .. ".new") end
  return ok, why
end

--- Has drivers/target/Makefile descend into the new directory.
-- @return true, or nil and a message; then the file is as before
function store.add_to_makefile(tree, name)
  local line = ("obj-$(CONFIG_%s)\t+= %s/"):format(name:upper(), name)
  return edit(tree .. "/drivers/target/Makefile", line, function(text)
    return text .. (text:find("\n$") and "" or "\n") .. line .. "\n"
  end)
end

--- Has drivers/target/Kconfig read the new directory's: inside of the block
-- that depends on TARGET_CORE, when the file ends with one.
-- @return true, or nil and a message; then the file is as before
function store.add_to_kconfig(tree, name)
  local line = ('source "drivers/target/%s/Kconfig"'):format(name)
  return edit(tree .. "/drivers/target/Kconfig", line, function(text)
    local before = text:match("^(.*\n)%s*endif[^\n]*%s*$")
    if not before then
      return text .. (text:find("\n$") and "" or "\n") .. line .. "\n"
    end
    local above = before:gsub("\n+$", "\n")
    return above .. line .. "\n" .. before:sub(#above + 1)
      .. text:sub(#before + 1)
  end)
end

--- True if the tree's Kconfig files, from drivers/target/Kconfig on, define the
-- symbol.
function store.has_symbol(tree, symbol)
  local function search(path)
    local file <close> = io.open(tree .. "/" .. path, "rb")
    local text = "\n" .. (file and file:read("a") or "")
    for found in text:gmatch("\n%s*m?e?n?u?config%s+([%w_]+)") do
      if found == symbol then return true end
    end
    for source in text:gmatch('\n%s*source%s+"([^"\n]+)"') do
      if search(source) then return true end
    end
    return false
  end
  return search("drivers/target/Kconfig")
end

return store
