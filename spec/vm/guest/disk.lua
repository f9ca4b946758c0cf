--- Disks of the guest: a LUN on a backstore and the SCSI device it becomes.
-- Through tcm_loop, or through the kernel's iSCSI target and an initiator on
-- loopback.  Both are bound to the order that configfs wants.

local file = require "spec.vm.guest.file"
local kernel = require "spec.vm.guest.kernel"
local process = require "spec.vm.guest.process"
local undo = require "spec.vm.guest.undo"
local wait = require "spec.vm.guest.wait"

local disk = {}

local TARGET <const> = "/sys/kernel/config/target"
-- A LUN whose device does not answer is scanned six times over, cmd_time_out
-- each, before the link to it is made or away.
local LIMIT <const> = 240

-- A target that lets everybody in, to read and write.
local OPEN <const> = {
  authentication = 0, generate_node_acls = 1, cache_dynamic_acls = 1,
  demo_mode_write_protect = 0,
}

local methods = {}
methods.__index = methods

local count = 0

--- Takes LUN and target away; flushes the disk first, as Linux does.
function methods:remove() return self.undo() end

--- A file in the SCSI device's folder in sysfs, "timeout" or "model".
function methods:get(name) return file.read_line(self.sysfs .. "/" .. name) end
function methods:set(name, value)
  file.write_file(self.sysfs .. "/" .. name, value)
end

--- Its size in bytes as this machine sees it.
function methods:size()
  return file.read_line(("/sys/block/%s/size"):format(self.name)) * 512 // 1
end

--- Has Linux ask for size and parameters anew.
function methods:rescan() self:set("rescan", 1) end

--- Waits until Linux has looked at a new disk of loop() for the last time, which
-- it does once more after the disk is there: it would be the one that hears of
-- what changes next.
function methods:settle()
  wait.wait_for("Linux to be done with " .. self.name, 60, function()
    return kernel.kernel_log(self.mark)
      :find(("[%s] Attached SCSI disk"):format(self.name), 1, true) ~= nil
  end)
end

-- The names of a SCSI device, once it has them: those in the folders `block`
-- and `scsi_generic` below its own.  What the queue of a block device can be set
-- to comes last.
local function find(d, sysfs, wants_block)
  local block = file.names(sysfs .. "/block")[1]
  local sg = file.names(sysfs .. "/scsi_generic")[1]

  if not (sg and file.exists("/dev/" .. sg)) then
    return nil, "no sg device"
  end
  if wants_block and not (block and file.exists("/dev/" .. block) and
                          file.exists(("/sys/block/%s/queue/scheduler")
                                      :format(block))) then
    return nil, "no block device"
  end
  d.sysfs, d.hctl = sysfs, sysfs:match "[^/]+$"
  d.name, d.path = block, block and "/dev/" .. block
  d.sg = "/dev/" .. sg
  return d
end

local function unlink_lun(tpg)
  file.unlink(tpg .. "/lun/lun_0/dev", LIMIT)
  file.rmdir(tpg .. "/lun/lun_0", LIMIT)
end

--- Makes a disk of a backstore by tcm_loop.  `opts.block` is false for what is
-- no disk.  Returns an object with path ("/dev/sdX"), name ("sdX"), sg
-- ("/dev/sgN"), hctl, and the methods above.
function disk.loop(device, opts)
  count = count + 1
  local wwn = ("%s/loopback/naa.60014051%08x"):format(TARGET, count)
  local tpg = wwn .. "/tpgt_1"
  local d = setmetatable({ mark = kernel.log_mark() }, methods)
  local linked

  file.mkdir(tpg)
  d.undo = undo.defer(function()
    if linked then unlink_lun(tpg) end
    file.rmdir(tpg, LIMIT)
    file.rmdir(wwn)
  end)
  file.write_file(tpg .. "/nexus", ("naa.60014052%08x"):format(count))
  file.mkdir(tpg .. "/lun/lun_0")
  linked = true
  file.symlink(device.dir, tpg .. "/lun/lun_0/dev", LIMIT)
  local sysfs = ("/sys/class/scsi_device/%s:0/device"):format(
    file.read_line(tpg .. "/address"))
  wait.wait_for("the disk of " .. device.name, 60, function()
    return find(d, sysfs, not (opts and opts.block == false))
  end)
  d.hctl = sysfs:match "([%d:]+)/device$"
  return d
end

local function start_initiator()
  if file.exists "/run/iscsid.pid" then return end
  process.sh "modprobe iscsi_tcp && iscsid"
  wait.wait_for("iscsid", 20, function()
    return file.exists "/run/iscsid.pid"
  end)
end

-- The SCSI address of LUN 0 in a session: sessionN/device/targetH:C:T/H:C:T:0.
local function session_lun(at)
  for _, target in ipairs(file.names(at .. "/device")) do
    local hct = target:match "^target(.*)$"
    local lun = hct and hct .. ":0"
    if hct and file.exists(("%s/device/%s/%s"):format(at, target, lun)) then
      return lun
    end
  end
end

local function session_disk(d, iqn)
  for _, session in ipairs(file.names "/sys/class/iscsi_session") do
    local at = "/sys/class/iscsi_session/" .. session
    local ok, name = pcall(file.read_line, at .. "/targetname")
    local lun = ok and name == iqn and session_lun(at)
    if lun then
      return find(d, ("/sys/class/scsi_device/%s/device"):format(lun), true)
    end
  end
  return nil, "no session with a LUN"
end

--- Exports a backstore by the kernel's iSCSI target on 127.0.0.1:3260, to
-- whoever asks.  Returns an object with iqn, url (for libiscsi) and remove().
function disk.export(device)
  count = count + 1
  local t = setmetatable({ iqn = "iqn.2026-01.lab:t" .. count }, methods)
  local dir = ("%s/iscsi/%s"):format(TARGET, t.iqn)
  local tpg = dir .. "/tpgt_1"
  local portal = tpg .. "/np/127.0.0.1:3260"
  local linked, listens

  t.url = ("iscsi://127.0.0.1:3260/%s/0"):format(t.iqn)
  file.mkdir(tpg)
  t.undo = undo.defer(function()
    file.write_file(tpg .. "/enable", 0)
    if linked then unlink_lun(tpg) end
    if listens then file.rmdir(portal) end
    file.rmdir(tpg)
    file.rmdir(dir)
  end)
  file.mkdir(tpg .. "/lun/lun_0")
  linked = true
  file.symlink(device.dir, tpg .. "/lun/lun_0/dev", LIMIT)
  file.mkdir(portal)
  listens = true
  for attribute, value in pairs(OPEN) do
    file.write_file(tpg .. "/attrib/" .. attribute, value)
  end
  file.write_file(tpg .. "/enable", 1)
  return t
end

--- Makes a disk of a backstore by way of iSCSI: target, login and all.  An
-- object as loop() returns it, with iqn and url besides.
function disk.iscsi(device)
  local t = disk.export(device)
  local d = setmetatable({ iqn = t.iqn, url = t.url }, methods)
  local node = ("iscsiadm -m node -T %s -p 127.0.0.1:3260"):format(t.iqn)

  start_initiator()
  process.sh(node .. " -o new")
  local log_out = undo.defer(function()
    process.try(node .. " -u")
    process.try(node .. " -o delete")
  end)
  d.undo = function()
    log_out()
    t.undo()
  end
  process.sh(node .. " -l")
  return wait.wait_for("the iSCSI disk of " .. device.name, 60, function()
    return session_disk(d, t.iqn)
  end)
end

return disk
