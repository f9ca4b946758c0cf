--- Makes, resizes and deletes tcm-user devices through configfs, for the
--- command line.
--
-- Everything waits: enable for the handler's open, a LUN for the disk's first
-- commands.  What a failed step leaves behind is undone.  Only user backstores
-- are touched, and of the fabrics only their LUNs.

local configfs = require "tcmu.configfs"
local core = require "tcmu.core"
local files = require "tcmu.files"
local keep = require "tcmu.keep"
local loopback = require "tcmu.loopback"
local processes = require "tcmu.processes"
local uio = require "tcmu.uio"
local uv = require "luv"

local admin = {}

-- One command of the initiator moves at most this much; the kernel's default
-- of 128 sectors would split it in sixteen.
local LARGEST_REQUEST <const> = 1 << 20

-- Milliseconds that a handler may take to open a device of which the kernel
-- does not wait to hear, and between looks.
local ATTACHES <const> = 25000
local STEP <const> = 50

local REFUSED <const> = "the handler refused (%s): the log of 'tcmu-lua " ..
  "serve' says why"

-- Names and configs travel through a comma list, a UIO name and a path.
local NAME <const> = "^[%w][%w._-]*$"
local CONFIG_MAX <const> = 255

local function modprobe(...)
  local names = table.concat({ ... }, " ")
  if os.execute("modprobe -a " .. names) then return true end
  return nil, ("the modules %s cannot be loaded: see 'tcmu-lua doctor'")
    :format(names)
end

-- Who would answer: without tcmu-lua, enable would wait for ever or make a disk
-- that answers nothing.
-- @return whether another program listens too; or nil, message
local function audience()
  local nl <close>, why = core.netlink.open()
  if not nl then return nil, why end
  local others = processes.listeners(nl:group())
  if not others then return false end

  local ours, foreign = false, false
  for _, other in ipairs(others) do
    if other.name == "tcmu-lua" then ours = true else foreign = true end
  end
  if not ours then return nil, "nobody serves: start 'tcmu-lua serve' first" end
  return foreign
end

-- rmdir locks the directories above a device until it is answered: whoever
-- looks into them hangs too.
local function free_of_rmdir()
  local rmdir = processes.hanging_rmdir()
  if not rmdir then return true end
  return nil, ("process %d (%s) hangs in rmdir, for nobody answers the " ..
    "kernel; to free it, type '%s'"):format(rmdir.pid, rmdir.name,
    processes.FREE)
end

local function ready()
  if not files.exists(configfs.ROOT .. "/core") or
     not files.exists("/sys/module/target_core_user") then
    local ok, why = modprobe("target_core_user")
    if not ok then return nil, why end
  end
  return free_of_rmdir()
end

-- Waits until a shard has opened the device, where enable did not.
local function attached(device)
  for _ = 1, ATTACHES // STEP do
    for _, found in ipairs(uio.scan()) do
      if found.hba == device.hba and found.name == device.name and
         uio.busy(found.uio) then
        return true
      end
    end
    uv.sleep(STEP)
  end
  return nil, REFUSED:format "nobody attached to the device"
end

local function make_directory(path)
  local ok, why, code = uv.fs_mkdir(path, tonumber("755", 8))
  if ok then return true end
  return nil, why, code
end

-- An HBA of its own: a hanging rmdir then locks nobody else's directory.
local function make_hba(root)
  for number = 0, 65535 do
    local hba = ("user_%d"):format(number)
    local ok, why, code = make_directory(("%s/core/%s"):format(root, hba))
    if ok then return hba end
    if code ~= "EEXIST" then return nil, why end
  end
  return nil, "all numbers of user_N are in use"
end

-- Refusals that need no kernel; nil if there are none.
local function wrong(of)
  local config = of.handler .. "/" .. of.options
  if not of.name:find(NAME) then
    return ("'%s' is no device name: letters, digits, '.', '_' and '-'")
      :format(of.name)
  end
  if config:find("[,%c]") then
    return "the options must not have a comma in them: the kernel would cut " ..
      "them off there; use ';' between options"
  end
  if #config > CONFIG_MAX then
    return ("the options are %d characters too long for the kernel")
      :format(#config - CONFIG_MAX)
  end
  return configfs.unsound(of.size, of.block_size)
end

local function configure(device, of, shared)
  local function control(key, value)
    return device:write("control", ("%s=%s"):format(key, value))
  end
  local config = of.handler .. "/" .. of.options
  local steps = {
    function() return control("dev_config", config) end,
    function() return control("dev_size", of.size) end,
    function() return control("hw_block_size", of.block_size) end,
    function()
      return control("hw_max_sectors", LARGEST_REQUEST // of.block_size)
    end,
    function()
      return device:write("attrib/emulate_write_cache",
                          of.write_cache and 1 or 0)
    end,
    function() return device:write("wwn/vpd_unit_serial", of.serial) end,
    function()
      if not of.product then return true end
      return device:write("wwn/product_id", of.product)
    end,
    function()
      -- libtcmu's programs answer ENOENT for every device that they do not
      -- know, and the first answer counts: so the kernel shall wait for none.
      if not shared then return true end
      return control("nl_reply_supported", -1)
    end,
    function()
      local ok, why = device:write("enable", 1)
      if ok then return true end
      return nil, REFUSED:format(why:match("[^:]*$"):gsub("^ ", ""))
    end,
    function()
      if not shared then return true end
      return attached(device)
    end,
  }
  for _, step in ipairs(steps) do
    local ok, why = step()
    if not ok then return nil, why end
  end
  return true
end

--- Takes a device away with its tcm_loop LUNs, as far as it exists.
-- @return true, or nil, message
function admin.remove(device)
  for _, lun in ipairs(device:luns()) do
    local ok, why = loopback.remove(lun)
    if not ok then return nil, why end
  end
  local ok, why, code = uv.fs_rmdir(device.path)
  if not ok and code ~= "ENOENT" then return nil, why end
  -- Another device may live under the same HBA, made by hand.
  uv.fs_rmdir(device.path:match("^(.*)/"))
  return true
end

-- All that is left of create() when nothing speaks against it.
local function make(of, shared)
  local hba, why = make_hba(configfs.ROOT)
  if not hba then return nil, why end
  local device = configfs.device(hba, of.name)
  local made = { hba = hba, name = of.name, path = device.path,
                 serial = of.serial }

  local ok
  ok, why = make_directory(device.path)
  if ok then ok, why = configure(device, of, shared) end
  if ok and of.disk then
    made.disk, why = loopback.add(device, of.serial)
    ok = made.disk
  end
  if ok then return made end
  admin.remove(device)
  return nil, why
end

--- Makes a device, and a disk of this machine if wanted.
-- @param of  { name, handler, options = text after "handler/" or nil, size and
-- block_size in bytes (512), write_cache (true), serial (a random UUID),
-- product, disk = whether to add a tcm_loop LUN, check = function(options) ->
-- true or nil, message: the handler's own }
-- @return { hba, name, path = its configfs directory, serial, disk =
-- "/dev/sdX" }, or nil, message
function admin.create(of)
  of = setmetatable({
    options = of.options or "",
    block_size = of.block_size or 512,
    write_cache = of.write_cache ~= false,
    serial = of.serial or files.read("/proc/sys/kernel/random/uuid"),
  }, { __index = of })
  local bad = wrong(of)
  if bad then return nil, bad end
  local fits, refusal = of.check(of.options)
  if not fits then return nil, refusal end

  local ok, why = ready()
  if not ok then return nil, why end
  local shared
  shared, why = audience()
  if shared == nil then return nil, why end
  if of.disk then
    ok, why = modprobe("tcm_loop", "sd_mod")
    if not ok then return nil, why end
  end
  if configfs.find(of.name) then
    return nil, ("there is a device '%s' already: choose another name, or " ..
                 "'tcmu-lua delete %s'"):format(of.name, of.name)
  end

  return make(of, shared)
end

-- The device, or nil and a message with what there is instead.
local function existing(name)
  local ok, why = free_of_rmdir()
  if not ok then return nil, why end
  local device = configfs.find(name)
  if device then return device end
  local names = {}
  for _, other in ipairs(configfs.devices()) do
    names[#names + 1] = other.name
  end
  return nil, ("there is no device '%s'; there is %s"):format(name,
    #names > 0 and table.concat(names, ", ") or "none at all")
end

--- Deletes a device.  Refused while it is exported over another fabric than
--- tcm_loop, or mounted, unless forced; data is not asked about.
-- @return true, or nil, message
function admin.delete(name, force)
  local device, why = existing(name)
  if not device then return nil, why end

  for _, lun in ipairs(device:luns()) do
    local disk = loopback.disk(lun)
    local use = disk and loopback.in_use(disk)
    if lun.fabric ~= "loopback" and not force then
      return nil, ("'%s' is exported over %s: take away %s first, or add " ..
                   "--force"):format(name, lun.fabric, lun.path)
    elseif use and not force then
      return nil, ("'%s' is in use: %s is %s; end that first, or add --force")
        :format(name, disk, use)
    end
  end
  local gone, message = admin.remove(device)
  if not gone then return nil, message end
  -- What it had to remember is not for the next one of its name.
  return keep.remove(device)
end

--- Gives a device another size and has its tcm_loop disks looked at again.
--- Shrinking one that is exported takes `force`: the size is then written to
--- `control` first, silently, by which the daemon knows that it is meant.
-- @param size  bytes
-- @return true, or nil, message
function admin.resize(name, size, force)
  local device, why = existing(name)
  if not device then return nil, why end
  local old, block_size
  old, why = device:number "attrib/dev_size"
  if not old then return nil, why end
  block_size, why = device:number "attrib/hw_block_size"
  if not block_size then return nil, why end
  local bad = configfs.unsound(size, block_size)
  if bad then return nil, bad end
  if size < old and not force then
    return nil, ("'%s' would shrink from %d to %d bytes and lose what is " ..
      "behind: add --force if that is meant"):format(name, old, size)
  end
  local shared
  shared, why = audience()
  if shared == nil then return nil, why end

  if force then device:write("control", ("dev_size=%d"):format(size)) end
  if not device:write("attrib/dev_size", size) then
    if force then device:write("control", ("dev_size=%d"):format(old)) end
    return nil, ("the new size was refused: the log of 'tcmu-lua serve' " ..
                 "says why")
  end
  for _, lun in ipairs(device:luns()) do loopback.rescan(lun) end
  return true
end

return admin
