--- Disks of this machine: LUNs of the tcm_loop fabric.
--
-- Each device gets a target of its own, naa.5001405 and nine digits of its
-- serial, so that taking a disk away touches no other.

local configfs = require "tcmu.configfs"
local files = require "tcmu.files"
local uv = require "luv"

local loopback = {}

-- How long a disk may take to appear after its LUN is made, in milliseconds:
-- the LUN's own creation has waited for the disk's first commands already.
local APPEARS <const> = 10000
local STEP <const> = 50

-- NAA 5, the company id of LIO, and what distinguishes this one.
local function target_name(serial, salt)
  local hash = 0
  for i = 1, #serial do hash = (hash * 31 + serial:byte(i)) & 0xfffffffff end
  return ("naa.5001405%09x"):format(hash + salt & 0xfffffffff)
end

local function make_directory(path)
  local ok, why, code = uv.fs_mkdir(path, tonumber("755", 8))
  if ok then return true end
  return nil, why, code
end

local function make_target(root, serial)
  for salt = 0, 15 do
    local path = ("%s/loopback/%s"):format(root, target_name(serial, salt))
    if not files.exists(path) then
      local ok, why = make_directory(path)
      if not ok then return nil, why end
      return path
    end
  end
  return nil, "sixteen targets of this serial exist: choose another serial"
end

-- SCSI address of a LUN, "H:C:T:L", or nil.
local function address(lun)
  local hct = lun.fabric == "loopback" and files.read(lun.tpg .. "/address")
  return hct and ("%s:%d"):format(hct, lun.number)
end

--- The disk of a LUN, "/dev/sdX"; nil if it has none on this machine.
function loopback.disk(lun)
  local at = address(lun)
  local names = at and
    files.list(("/sys/class/scsi_device/%s/device/block"):format(at)) or {}
  return names[1] and "/dev/" .. names[1]
end

--- Makes a disk of a device; waits until it is there.
-- @return "/dev/sdX", or nil, message
function loopback.add(device, serial, root)
  root = root or configfs.ROOT
  local made, why, code = make_directory(root .. "/loopback")
  if not made and code ~= "EEXIST" then return nil, why end
  local target
  target, why = make_target(root, serial)
  if not target then return nil, why end

  local tpg = target .. "/tpgt_1"
  local lun = { fabric = "loopback", tpg = tpg, path = tpg .. "/lun/lun_0",
                number = 0, link = tpg .. "/lun/lun_0/dev" }
  local ok
  ok, why = make_directory(tpg)
  if ok then ok, why = files.write(tpg .. "/nexus", target:match("[^/]+$")) end
  if ok then ok, why = make_directory(lun.path) end
  if ok then ok, why = uv.fs_symlink(device.path, lun.link) end
  if not ok then
    loopback.remove(lun)
    return nil, why
  end

  for _ = 1, APPEARS // STEP do
    local disk = loopback.disk(lun)
    if disk and files.exists(disk) then return disk end
    uv.sleep(STEP)
  end
  return nil, "the LUN is there but no disk appeared: 'dmesg' says why"
end

--- Takes a LUN away, and its target if that was all of it.
-- @param lun  as configfs gives it
-- @return true, or nil, message
function loopback.remove(lun)
  local ok, why, code = uv.fs_unlink(lun.link)
  if not ok and code ~= "ENOENT" then return nil, why end
  ok, why, code = uv.fs_rmdir(lun.path)
  if not ok and code ~= "ENOENT" then return nil, why end
  if lun.fabric == "loopback" and #files.list(lun.tpg .. "/lun") == 0 then
    uv.fs_rmdir(lun.tpg)
    uv.fs_rmdir((lun.tpg:match("^(.*)/")))
  end
  return true
end

--- What a disk is used for: "mounted on /mnt", "part of dm-0"; nil if nothing
--- can be seen.
function loopback.in_use(disk)
  local name = disk:match("[^/]+$")
  for line in (files.read("/proc/self/mounts") or ""):gmatch("[^\n]+") do
    local source, at = line:match("^(%S+) (%S+)")
    if source:sub(1, #disk) == disk and
       source:sub(#disk + 1):find("^p?%d*$") then
      return "mounted on " .. at
    end
  end
  local holder = files.list(("/sys/block/%s/holders"):format(name))[1]
  return holder and "part of " .. holder
end

--- Has Linux ask the disk for its size again.
function loopback.rescan(lun)
  local at = address(lun)
  if at then
    files.write(("/sys/class/scsi_device/%s/device/rescan"):format(at), "1")
  end
end

return loopback
