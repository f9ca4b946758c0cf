--- What /proc tells about the others: who listens to the kernel's TCMU events,
--- and which configfs writes hang because nobody answered one.
--
-- A hanging write sits in state D, so its kernel stack shows it; what it writes
-- to is among its open files.  Reading stacks takes root.

local files = require "tcmu.files"
local uv = require "luv"

local processes = {}

processes.ROOT = "/proc"

--- What frees every hanging operation, to be typed in a shell.  It ends with
--- EINTR, upon which a shell writes again: while blocked, that fails.
processes.FREE = "cd /sys/module/target_core_user/parameters; " ..
  "echo 1 >block_netlink; echo 1 >reset_netlink; sleep 1; echo 0 >block_netlink"

local NETLINK_GENERIC <const> = 16

-- The file that is written says which event the kernel has sent.
local COMMANDS <const> = {
  ["enable"] = "added",
  ["attrib/dev_size"] = "reconfig",
  ["attrib/dev_config"] = "reconfig",
  ["attrib/emulate_write_cache"] = "reconfig",
}

local function name_of(root, pid)
  return files.read(("%s/%s/comm"):format(root, pid)) or "?"
end

--- Processes, but this one, that listen to a netlink group.
-- @param group  its number
-- @return list of { pid, name }, or nil if that cannot be known
function processes.listeners(group, root)
  root = root or processes.ROOT
  local text = group <= 32 and files.read(root .. "/net/netlink")
  if not text then return nil end

  local found, seen = {}, { [uv.os_getpid()] = true }
  for line in text:gmatch("[^\n]+") do
    local protocol, port, groups = line:match("^%x+%s+(%d+)%s+(%d+)%s+(%x+)")
    if protocol and tonumber(protocol) == NETLINK_GENERIC and
       tonumber(groups, 16) >> (group - 1) & 1 == 1 then
      -- libnl counts a process's sockets above bit 22 of the port.
      local pid = math.tointeger(tonumber(port)) & 0x3fffff
      if not seen[pid] then
        seen[pid] = true
        found[#found + 1] = { pid = pid, name = name_of(root, pid) }
      end
    end
  end
  return found
end

-- Calls fn(pid, stack) for each task in state D.
local function each_hanging(root, fn)
  for _, pid in ipairs(files.list(root)) do
    local process = pid:find("^%d+$") and ("%s/%s"):format(root, pid)
    for _, tid in ipairs(process and files.list(process .. "/task") or {}) do
      local task = process .. "/task/" .. tid
      local stat = files.read(task .. "/stat")
      local stack = stat and stat:match("%) (%a)") == "D" and
        (files.read(task .. "/stack") or files.read(task .. "/wchan"))
      if stack then fn(pid, stack) end
    end
  end
end

local function waits_for_answer(stack)
  return stack:find("tcmu_", 1, true) and
    (stack:find("netlink", 1, true) or stack:find("genl", 1, true))
end

local function written_file(process)
  for _, fd in ipairs(files.list(process .. "/fd")) do
    local to = files.link(process .. "/fd/" .. fd)
    local hba, name, file =
      (to or ""):match("/core/(user_%d+)/([^/]+)/(.+)$")
    if hba and COMMANDS[file] then return hba, name, file end
  end
end

--- Processes that have one of `paths` open.
-- @return { [path] = { pid, name } }
function processes.holders(paths, root)
  root = root or processes.ROOT
  local wanted, found = {}, {}
  for _, path in ipairs(paths) do wanted[path] = true end
  if not next(wanted) then return found end

  for _, pid in ipairs(files.list(root)) do
    local fds = pid:find("^%d+$") and ("%s/%s/fd"):format(root, pid)
    for _, fd in ipairs(fds and files.list(fds) or {}) do
      local to = files.link(fds .. "/" .. fd)
      if wanted[to] then
        found[to] = { pid = math.tointeger(pid), name = name_of(root, pid) }
      end
    end
  end
  return found
end

--- Configfs operations that wait for somebody's netlink answer now.
-- @return list of { pid, process, command = "added", "reconfig" or "removed" }
-- and, but for "removed", which /proc cannot tell, { hba, name, file }
function processes.waiting(root)
  root = root or processes.ROOT
  local found = {}
  each_hanging(root, function(pid, stack)
    if not waits_for_answer(stack) then return end
    local wait = {
      pid = math.tointeger(pid),
      process = name_of(root, pid),
      command = "removed",
    }
    if not stack:find("rmdir", 1, true) then
      wait.hba, wait.name, wait.file = written_file(root .. "/" .. pid)
      wait.command = COMMANDS[wait.file]
    end
    found[#found + 1] = wait
  end)
  return found
end

--- A process that hangs in the removal of a configfs directory, for whatever
--- reason: who looks at that directory hangs with it.
-- @return { pid, name }, or nil
function processes.hanging_rmdir(root)
  root = root or processes.ROOT
  local found
  each_hanging(root, function(pid, stack)
    if stack:find("configfs_rmdir", 1, true) then
      found = { pid = math.tointeger(pid), name = name_of(root, pid) }
    end
  end)
  return found
end

return processes
