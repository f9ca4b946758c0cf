--- The target's configfs tree: what a device is told to be, and its levers.
--
-- Paths are made from a root, so that specs can use a tree of their own.
-- Nothing here is called on the command path.  Control has its files read and
-- written by the deputy, and never lists directories: rmdir holds their locks
-- until control has answered the kernel.

local files = require "tcmu.files"

local configfs = {}

configfs.ROOT = "/sys/kernel/config/target"

local BLOCK_SIZE_MIN <const> = 512

local Device = {}
Device.__index = Device

--- A device's directory, whether it exists or not.
-- @param hba   "user_0"
-- @param root  the target's configfs directory, for tests
-- @param io    who reads and writes files: tcmu.files, or the deputy
function configfs.device(hba, name, root, io)
  return setmetatable({
    hba = hba,
    name = name,
    io = io or files,
    path = ("%s/core/%s/%s"):format(root or configfs.ROOT, hba, name),
  }, Device)
end

--- Reads a file of the device: device:read("attrib/dev_size").
-- @return text without its newline, or nil, message, errno
function Device:read(file)
  return self.io.read(self.path .. "/" .. file)
end

-- @return integer, or nil, message, errno
function Device:number(file)
  local text, why, code = self:read(file)
  if not text then return nil, why, code end
  local n = math.tointeger(tonumber(text))
  if not n then
    return nil, ("%s/%s: '%s' is no number"):format(self.path, file, text)
  end
  return n
end

-- @return true, or nil, message, errno
function Device:write(file, value)
  return self.io.write(self.path .. "/" .. file, tostring(value))
end

function Device:exists(file)
  return files.exists(file and self.path .. "/" .. file or self.path)
end

--- New commands are answered BUSY until unblock(); EINVAL while the device is
--- not configured, that is, also while its ADDED waits for an answer.
function Device:block() return self:write("action/block_dev", 1) end

function Device:unblock() return self:write("action/block_dev", 0) end

--- Empties the ring; what was in it ends BUSY.  Only while blocked, and with
--- no consumer attached.
function Device:reset_ring() return self:write("action/reset_ring", 1) end

--- Whether a LUN of any fabric stands on the device.
function Device:exported()
  local info = self:read("info")
  return info ~= nil and info:find("Status: ACTIVATED", 1, true) ~= nil
end

--- The number by which netlink knows the device.
function Device:id()
  return self:number("statistics/scsi_dev/indx")
end

-- What the kernel puts there when nobody has set a vendor.
local NO_VENDOR <const> = "LIO-ORG"

local function text_of(device, file)
  return (device:read("wwn/" .. file) or ""):match("^(.-)%s*$")
end

--- The names that an initiator is to see, "" for what nobody has set.
-- @return { serial, vendor, product, revision, company_id }; company_id is six
-- hexadecimal digits
function Device:wwn()
  local serial = self:read("wwn/vpd_unit_serial") or ""
  local company = tonumber(self:read("wwn/company_id") or "")
  local vendor = text_of(self, "vendor_id")
  return {
    serial = serial:match("Serial Number: (.*)$") or "",
    vendor = vendor ~= NO_VENDOR and vendor or "",
    product = text_of(self, "product_id"),
    revision = text_of(self, "revision"),
    company_id = company and ("%06x"):format(company & 0xffffff) or "",
  }
end

--- All that the attributes say about the disk.
-- @return { size, block_size, max_sectors, write_cache, cmd_time_out,
-- reservations }: bytes, bytes, blocks, boolean, seconds (0: none), boolean (the
-- kernel answers them); or nil, message
function Device:facts()
  local why
  local function number(file)
    local n, message = self:number("attrib/" .. file)
    why = why or message
    return n
  end
  local facts = {
    size = number("dev_size"),
    block_size = number("hw_block_size"),
    max_sectors = number("hw_max_sectors"),
    write_cache = number("emulate_write_cache") == 1,
    cmd_time_out = number("cmd_time_out"),
  }
  if why then return nil, why end
  -- Who answers PERSISTENT RESERVE and RESERVE; older kernels always do.
  facts.reservations = self:number("attrib/emulate_pr") ~= 0
                       and self:number("attrib/pgr_support") ~= 0
  return facts
end

--- Why nobody can serve a disk of this shape; nil if it is sound.  The kernel
--- checks none of it.
function configfs.unsound(size, block_size)
  if block_size < BLOCK_SIZE_MIN or block_size & (block_size - 1) ~= 0 then
    return ("hw_block_size %d is no power of two from 512 on: set another " ..
            "one before enable"):format(block_size)
  end
  if size <= 0 then
    return "dev_size is not set: write dev_size=BYTES to control before enable"
  end
  if size % block_size ~= 0 then
    return ("dev_size %d is no multiple of hw_block_size %d: round it to %d")
      :format(size, block_size, size // block_size * block_size)
  end
end

--- Every user backstore, as configfs.device() gives them.
function configfs.devices(root)
  root = root or configfs.ROOT
  local found = {}
  for _, hba in ipairs(files.list(root .. "/core")) do
    if hba:find("^user_%d+$") then
      for _, name in ipairs(files.list(("%s/core/%s"):format(root, hba))) do
        local device = configfs.device(hba, name, root)
        if device:exists("enable") then found[#found + 1] = device end
      end
    end
  end
  return found
end

--- The user backstore of this name, or nil.
function configfs.find(name, root)
  for _, device in ipairs(configfs.devices(root)) do
    if device.name == name then return device end
  end
end

-- @return fabric, wwn, tpgt, lun of every LUN directory, with its path
local function each_lun(root)
  return coroutine.wrap(function()
    for _, fabric in ipairs(files.list(root)) do
      for _, wwn in ipairs(files.list(("%s/%s"):format(root, fabric))) do
        local target = ("%s/%s/%s"):format(root, fabric, wwn)
        for _, tpgt in ipairs(files.list(target)) do
          local luns = ("%s/%s/lun"):format(target, tpgt)
          for _, lun in ipairs(files.list(luns)) do
            coroutine.yield {
              fabric = fabric,
              tpg = ("%s/%s"):format(target, tpgt),
              path = ("%s/%s"):format(luns, lun),
              number = math.tointeger(lun:match("^lun_(%d+)$")),
            }
          end
        end
      end
    end
  end)
end

--- Every LUN that stands on the device.
-- @return list of { fabric = "loopback", tpg = its directory, path = the LUN's
-- directory, number, link = the link in it }
function Device:luns()
  local root = self.path:match("^(.*)/core/[^/]+/[^/]+$")
  local tail = ("/core/%s/%s"):format(self.hba, self.name)
  local found = {}
  for lun in each_lun(root) do
    for _, entry in ipairs(files.list(lun.path)) do
      local link = lun.path .. "/" .. entry
      local to = files.link(link)
      if to and to:sub(-#tail) == tail then
        lun.link = link
        found[#found + 1] = lun
      end
    end
  end
  return found
end

return configfs
