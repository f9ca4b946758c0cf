--- The disks that are compared, all of them there at the same time.
--
-- Order matters: tcmu-runner refuses every device that it does not know, so
-- it starts when ours are up; and it wants a bus, which in turn must not be
-- there when tcmu-lua looks for one.  A second daemon that polls serves the
-- same handlers under other names, from a copy with another name of its own.

local guest = require "spec.vm.guest"

local disks = {}

local SIZE <const> = 64 << 20
local POLLING <const> = "/tmp/polling"
-- Requests of 1 MiB in one piece; Linux is told of a write cache everywhere.
local CONTROL <const> = { "hw_max_sectors=2048" }
local DETACHED <const> = { "hw_max_sectors=2048", "nl_reply_supported=-1" }
local ATTRIB <const> = { emulate_write_cache = 1 }

local options, made, logs

local function wanted(name) return name:find(options.disks) ~= nil end

local function any(...)
  for _, name in ipairs { ... } do
    if wanted(name) then return true end
  end
  return false
end

local function add(name, backstore, cpu)
  local disk = guest.loop(backstore)

  disk:set("block/" .. disk.name .. "/queue/scheduler", "none")
  made[#made + 1] = { name = name, path = disk.path, cpu = cpu }
  -- Every block has been written, so that none is a hole of memory or file.
  guest.sh("dd if=/dev/urandom of=%s bs=1M count=%d oflag=direct 2>&1",
    disk.path, SIZE >> 20)
end

local function backing_file(name)
  local path = ("%s/%s.img"):format(options.dir, name)
  guest.sh("truncate -s %d %s", SIZE, path)
  return path
end

local function background(name, command)
  local log = ("/tmp/%s.log"):format((name:gsub(" ", "-")))
  logs[#logs + 1] = log
  return guest.start("exec " .. command, log)
end

-- --- tcmu-lua ---------------------------------------------------------------

local function serve(name, program, arguments)
  local p = background(name, ("%s serve --budget 2000 %s"):format(program,
    arguments))
  guest.wait_for("tcmu-lua to be ready", 60, function()
    return p:output():find "control: ready" ~= nil, "\n" .. p:output()
  end)
end

local function tcmu_lua(name, handler, path, control, attrib)
  if not wanted(name) then return end
  add(name, guest.device {
    config = handler .. (path and "/path=" .. path or ""), size = SIZE,
    control = control or CONTROL, attrib = attrib or ATTRIB,
  })
end

-- A daemon that has the option says so in its help.
local function can_poll()
  return guest.sh("./tcmu-lua serve --help"):find("--poll", 1, true) ~= nil
end

local function copy_for_polling()
  guest.sh("mkdir -p %s/handlers && cp -r lua %s && cp tcmu-lua %s/lua-polling",
    POLLING, POLLING, POLLING)
  for _, handler in ipairs { "ram", "file" } do
    guest.sh([[sed 's/name = "%s"/name = "polling_%s"/' handlers/%s.lua \
      >%s/handlers/polling_%s.lua]], handler, handler, handler, POLLING,
      handler)
  end
end

-- The one that polls comes first: no second one called tcmu-lua would start.
local function ours()
  local polls = can_poll() and any("ram+poll", "file+poll")

  if polls then
    copy_for_polling()
    serve("tcmu-lua-polling", POLLING .. "/lua-polling",
      ("--poll auto --poll-limit %d"):format(options.window))
  end
  serve("tcmu-lua", "./tcmu-lua", can_poll() and "--poll off" or "")
  tcmu_lua("ram", "ram")
  tcmu_lua("file", "file", backing_file "file")
  if polls then
    tcmu_lua("ram+poll", "polling_ram")
    tcmu_lua("file+poll", "polling_file", backing_file "file+poll")
  end
end

-- --- the others -------------------------------------------------------------

-- `cpus` are the floor's own and the load's, if they are bound.
local function floor(name, window, path, cpus)
  if not wanted(name) then return end
  local device = guest.device {
    config = "floor/" .. name, size = SIZE, control = DETACHED, attrib = ATTRIB,
  }
  local uio = guest.wait_for("a uio device", 20, function()
    return device:uio()
  end)
  background(name, ("%s build/floor %s %d %d %s"):format(
    cpus and "taskset -c " .. cpus[1] or "", uio, SIZE, window, path or ""))
  add(name, device, cpus and cpus[2])
end

local function floors()
  floor("floor", 0)
  floor("floor again", 0)
  floor("floor file", 0, backing_file "floor-file")
  floor("floor+poll", options.window)
  floor("floor+poll again", options.window)
  floor("floor file+poll", options.window, backing_file "floor-file+poll")
end

local function kernels_own()
  if wanted "fileio" then
    local path = backing_file "fileio"
    local device = guest.backstore {
      hba = "fileio_0", control = {
        ("fd_dev_name=%s,fd_dev_size=%d,fd_buffered_io=1"):format(path, SIZE) },
    }
    device:enable()
    add("fileio", device)
  end
  if wanted "ramdisk" then
    local device = guest.backstore {
      hba = "rd_mcp_0", control = { ("rd_pages=%d"):format(SIZE >> 12) },
    }
    device:enable()
    add("ramdisk", device)
  end
end

local function runner()
  if not wanted "runner" then return end
  guest.sh "dbus-daemon --system --fork"
  local p = background("tcmu-runner", "tcmu-runner")
  guest.wait_for("tcmu-runner", 60, function()
    local status = guest.try("dbus-send --system --print-reply " ..
      "--dest=org.kernel.TCMUService1 /org/kernel/TCMUService1/qcow " ..
      "org.freedesktop.DBus.Peer.Ping")
    return status == 0, p:output()
  end)
  add("runner", guest.device {
    config = "qcow/" .. backing_file "runner", size = SIZE, control = CONTROL,
    attrib = ATTRIB,
  })
end

-- --- what is compared -------------------------------------------------------

local sets = {}

function sets.compare()
  ours()
  floors()
  kernels_own()
  runner()
end

-- What the manual page about tuning has its figures from.
function sets.settings()
  serve("tcmu-lua", "./tcmu-lua", can_poll() and "--poll off" or "")
  tcmu_lua("ram", "ram")
  tcmu_lua("max_sectors 128", "ram", nil, { "hw_max_sectors=128" })
  for _, pages in ipairs { 16, 256 } do
    tcmu_lua("data_pages " .. pages, "ram", nil,
      { CONTROL[1], "data_pages_per_blk=" .. pages })
  end
  tcmu_lua("file", "file", backing_file "file")
  tcmu_lua("file no cache", "file", backing_file "file-no-cache", nil,
    { emulate_write_cache = 0 })
  floor("same cpu", 0, nil, { 1, 1 })
  floor("other cpu", 0, nil, { 0, 1 })
  for _, window in ipairs { 50, 200, 500, 2000 } do
    floor("floor polls " .. window, window)
  end
end

--- Makes those of options.set whose names match options.disks.
-- @return a list of { name =, path = "/dev/sdX", cpu = the load's or nil }
function disks.make(given)
  options, made, logs = given, {}, {}
  guest.modprobe("target_core_user", "target_core_file", "tcm_loop", "sd_mod",
    "sg")
  sets[options.set]()
  return made
end

--- What the programs have printed goes to /results.
function disks.keep_logs()
  guest.sh("cp %s /results", table.concat(logs, " "))
end

return disks
