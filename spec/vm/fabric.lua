--- Generated fabric modules in a guest: loaded, configured, and unloaded at the
-- end of a spec.

local guest = require "spec.vm.guest"

local TARGET <const> = "/sys/kernel/config/target"
local fabric = {}

--- Where spec/mod_builder/modules has put the modules for this kernel.
fabric.BUILT = "build/mod_builder/"
  .. (guest.sh "uname -r"):match "^%d+%.%d+"

--- Loads a module and makes its directory; both go at the end of the spec.
function fabric.load(path)
  local module = path:match "([^/]+)%.ko$"
  guest.sh("insmod %s", path)
  guest.defer(function() guest.sh("rmmod %s", module) end)
  local dir = TARGET .. "/" .. module:gsub("^tcm_", "")
  guest.mkdir(dir)
  guest.defer(function() guest.rmdir(dir) end)
  return dir
end

--- The same with the module of a protocol as it came from the generator.
function fabric.load_plain(p)
  return fabric.load(("%s/%s/%s.ko"):format(fabric.BUILT, p.module, p.module))
end

--- mkdir, taken back at the end.
function fabric.make(dir)
  guest.mkdir(dir)
  guest.defer(function() guest.rmdir(dir) end)
  return dir
end

--- A symbolic link, likewise.
function fabric.link(target, path)
  guest.symlink(target, path)
  guest.defer(function() guest.unlink(path) end)
end

--- A disk in memory, served by the kernel.
function fabric.ramdisk(name)
  local dev = guest.backstore { hba = "rd_mcp_0", name = name,
    control = { "rd_pages=1024" } }
  dev:enable()
  return dev
end

-- Warnings that any module from outside of the tree earns, and those of a slow
-- emulator.
local EXPECTED <const> = {
  "out%-of%-tree module taints kernel", "module verification failed",
  "hrtimer: interrupt took", "clocksource", "perf: interrupt took",
}

--- The kernel's warnings and errors since the mark.
function fabric.complaints(mark)
  local lines = {}
  local log = guest.sh "dmesg --decode --notime"
  local _, from = log:find(mark .. "\n", 1, true)
  for line in log:sub(from + 1):gmatch "[^\n]+" do
    local known = line:find "^%l+ *:info" or line:find "^%l+ *:notice"
      or line:find "^%l+ *:debug"
    for _, pattern in ipairs(EXPECTED) do known = known or line:find(pattern) end
    if not known then lines[#lines + 1] = line end
  end
  return lines
end

return fabric
