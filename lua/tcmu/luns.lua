--- Sees LUNs come and go: through which ports a device is reached.
--
-- A LUN is a symbolic link to the device,
-- FABRIC/TARGET/tpgt_N/lun/lun_M/ANYTHING, and no netlink event tells of it.  So
-- inotify watches that tree from its root; what is new is looked through after
-- the watch is set, since something may have come before it.  A link is seen
-- when it is complete: after the first commands of the disk that tcm_loop makes
-- of it.

local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local uv = require "luv"

local luns = {}

local LUN <const> = 4               -- the depth of a LUN's directory

-- Per depth: where below an entry its own entries are, which of them count, and
-- what gives all of them another number when it is written (Linux 6.12).
local LEVELS <const> = {
  [0] = { entries = ".", but = { core = true, version = true, dbroot = true } },
  { entries = ".", but = { lio_version = true, version = true,
                           discovery_auth = true } },
  { entries = "^tpgt_%d+$" },
  { below = "/lun", entries = "^lun_%d+$",
    numbers = { enable = true, rtpi = true } },
  {},
}

local Luns = {}
Luns.__index = Luns

-- Of the link: "user_0/NAME", or nil for another kind of backstore.
local function device_of(self, path)
  for _, target in pairs(self.io.links(path)) do
    local device = target:match("/core/(user_%d+/[^/]+)$")
    if device then return device end
  end
end

-- Says of a LUN which device it stands on, and on which it stood.  Answers may
-- come in another order than they were asked for.
local function look(self, node)
  local number <const> = node.looks + 1
  node.looks = number
  local device <const> = device_of(self, node.path)
  if number > node.answered then
    local before <const> = node.device
    node.answered, node.device = number, device
    if before and before ~= device then self.changed(before) end
  end
  if device then self.changed(device) end
end

local function forget(self, node)
  if node.handle then node.handle:close() end
  if node.numbers then node.numbers:close() end
  node.gone = true
  for _, child in pairs(node.children) do forget(self, child) end
  if node.device then self.changed(node.device) end
end

local open, look_through

local function open_child(self, node, name)
  local level <const> = LEVELS[node.depth]
  if node.children[name] then
    forget(self, node.children[name])
    node.children[name] = nil
  end
  if name:find(level.entries) and not (level.but and level.but[name]) then
    local child <const> = open(self, node.path .. "/" .. name, node.depth + 1)
    node.children[name] = child
    if child then look_through(self, child) end
  end
end

local function on_event(self, node, name, kind)
  if node.gone then return end
  if node.depth == LUN then
    look(self, node)
  elseif kind.rename then
    open_child(self, node, name)
  end
end

-- Calls fn(name, kind) for what happens in a directory; nil if there is none.
local function watch(self, path, fn)
  local handle = uv.new_fs_event()
  local ok = handle:start(path, {}, jobs.callback(self.log,
    function(err, name, kind)
      if not err and name then fn(name, kind) end
    end))
  if ok then return handle end
  handle:close()
end

local function renumbered(self, node)
  for _, child in pairs(node.children) do
    if child.device then self.changed(child.device) end
  end
end

-- Watches a directory; nil if there is nothing to watch.  Does not wait: who
-- sees its name next must find it among the children.
function open(self, path, depth)
  local level <const> = LEVELS[depth]
  local node = { path = path .. (level.below or ""), depth = depth,
                 children = {}, looks = 0, answered = 0 }
  node.handle = watch(self, node.path, function(name, kind)
    on_event(self, node, name, kind)
  end)
  if not node.handle then return nil end
  if level.numbers then
    node.numbers = watch(self, path, function(name)
      if level.numbers[name] then renumbered(self, node) end
    end)
  end
  return node
end

-- Finds what is there already; in a job.
function look_through(self, node)
  if node.depth == LUN then return look(self, node) end
  for _, name in ipairs(self.io.list(node.path)) do
    if node.gone then return end
    if not node.children[name] then open_child(self, node, name) end
  end
end

--- Begins to look; in a job.
-- @param of  { root = the target's configfs directory, io = who lists
-- directories: tcmu.files or the deputy, log = function(level, who, text),
-- changed = function(device): the ports of "user_0/NAME" may be others now }
-- @return an object with stop(); or nil where there is no such tree
function luns.start(of)
  local self = setmetatable({
    io = of.io or files, log = of.log, changed = of.changed,
  }, Luns)
  self.top = open(self, of.root, 0)
  if not self.top then return nil end
  look_through(self, self.top)
  return self
end

function Luns:stop()
  self.changed = function() end
  forget(self, self.top)
end

return luns
