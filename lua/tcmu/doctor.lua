--- Why it does not work: one sentence per finding, with the command to type.
--
-- Looks and changes nothing.  The first findings are what `serve` checks
-- before it starts.

local catalog = require "tcmu.catalog"
local configfs = require "tcmu.configfs"
local core = require "tcmu.core"
local files = require "tcmu.files"
local processes = require "tcmu.processes"
local uio = require "tcmu.uio"
local uv = require "luv"

local doctor = {}

local MODULES <const> = "/sys/module"
local CONFIGFS <const> = "/sys/kernel/config"

local function fine(text) return { ok = true, text = text } end
local function bad(text) return { ok = false, text = text } end

local function rights()
  if uv.getuid() == 0 then return fine "running as root" end
  return bad("not root, and the kernel's target obeys nobody else: put " ..
             "'sudo' before the command")
end

local function module()
  if files.exists(MODULES .. "/target_core_user") then
    return fine "the module target_core_user is loaded"
  end
  local release = uv.os_uname().release
  if files.exists("/lib/modules/" .. release) then
    return bad("the module target_core_user is not loaded: type " ..
               "'modprobe target_core_user'")
  end
  return bad(("the module target_core_user is not loaded, and there are no " ..
    "modules for kernel %s here, as in a container: type 'modprobe " ..
    "target_core_user' on the machine itself; 'tcmu-lua try' needs no " ..
    "kernel"):format(release))
end

local function tree()
  if files.exists(configfs.ROOT .. "/core") then
    return fine "configfs has the target's tree"
  end
  if #files.list(CONFIGFS) > 0 then
    return bad "configfs has no target in it: type 'modprobe target_core_user'"
  end
  return bad("configfs is not mounted: type 'mount -t configfs none " ..
             CONFIGFS .. "'")
end

--- What must hold before anything can be served.
-- @return list of { ok, text }
function doctor.kernel()
  return { rights(), module(), tree() }
end

local function listeners(add)
  local nl <close>, why = core.netlink.open()
  if not nl then return add(bad(why)) end
  add(fine "the kernel's netlink family TCM-USER answers")

  local others = processes.listeners(nl:group())
  if not others then
    return add(fine "who else listens to TCMU events cannot be seen")
  end
  local served = false
  for _, other in ipairs(others) do
    if other.name == "tcmu-lua" then
      served = true
      add(fine(("tcmu-lua serves, process %d"):format(other.pid)))
    else
      add(bad(("process %d (%s) listens to TCMU events too; one made with " ..
        "libtcmu, such as tcmu-runner, makes the enable of our devices fail " ..
        "with ENOENT: type 'kill %d', or make them with 'tcmu-lua create', " ..
        "which knows"):format(other.pid, other.name, other.pid)))
    end
  end
  if not served then
    add(bad "no tcmu-lua serves: type 'tcmu-lua serve'")
  end
end

local function hanging(add)
  for _, wait in ipairs(processes.waiting()) do
    add(bad(("process %d (%s) hangs in %s and no program has answered for " ..
      "its device: start the one that serves it, or free all that hang with " ..
      "'%s'"):format(wait.pid, wait.process,
      wait.name and ("%s/%s/%s"):format(wait.hba, wait.name, wait.file) or
      "rmdir", processes.FREE)))
  end
end

local function device_finding(found, holder, paths)
  local who = found.hba .. "/" .. found.name
  local device = configfs.device(found.hba, found.name)
  local blocked = device:read("action/block_dev") == "blocked"
  local ours = catalog.resolve(paths, found.config) ~= nil

  if holder and not blocked then
    return fine(("%s (%s) is served by process %d (%s)"):format(
                who, found.uio, holder.pid, holder.name))
  elseif holder then
    return bad(("%s is open in process %d (%s) but blocked, so initiators " ..
      "get BUSY: type 'echo 0 >%s/action/block_dev'"):format(
      who, holder.pid, holder.name, device.path))
  elseif ours then
    return bad(("%s has no reader%s: type 'tcmu-lua serve', or restart it " ..
      "if it runs"):format(who, blocked and " and is blocked" or ""))
  end
  return bad(("%s has no reader, and no handler '%s' is installed: start " ..
    "what serves it, or type 'tcmu-lua delete %s'"):format(
    who, found.subtype, found.name))
end

local function present(add, paths)
  local all = uio.scan()
  local open = {}
  for _, found in ipairs(all) do open[#open + 1] = found.uio end
  local holders = processes.holders(open)
  for _, found in ipairs(all) do
    add(device_finding(found, holders[found.uio], paths))
  end
  if #all == 0 then add(fine "there is no TCMU device yet") end

  local any = configfs.devices()[1]
  if any and not any:exists("attrib/tmr_notification") then
    add(bad("this kernel has no tmr_notification: handlers are not told of " ..
            "aborts; a kernel from 5.9 on does it"))
  end
end

--- Looks at everything.
-- @param places  directories of handlers and single files
-- @return list of { ok, text }, and whether all are ok
function doctor.examine(places)
  local findings = {}
  local function add(finding) findings[#findings + 1] = finding end

  for _, finding in ipairs(doctor.kernel()) do add(finding) end
  local usable = true
  for _, finding in ipairs(findings) do usable = usable and finding.ok end

  local paths, names = catalog.find(places)
  if #names > 0 then
    add(fine("handlers: " .. table.concat(names, " ")))
  else
    add(bad(("no handler in %s: 'make install' puts some there, and " ..
             "'tcmu-lua serve --handler DIR' takes others"):format(
             table.concat(places, " or "))))
  end
  if usable then
    listeners(add)
    hanging(add)
    -- Its device's files would hang this process too.
    if not processes.hanging_rmdir() then present(add, paths) end
  end

  local ok = true
  for _, finding in ipairs(findings) do ok = ok and finding.ok end
  return findings, ok
end

return doctor
