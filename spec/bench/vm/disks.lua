--- The disks that are compared, all of them there at the same time.
--
-- Order matters: tcmu-runner refuses every device that it does not know, so
-- it starts when ours are up; and it wants a bus, which in turn must not be
-- there when tcmu-lua looks for one.  Further daemons serve the same handlers
-- under other names, each from a copy with another name of its own.

local guest = require "spec.vm.guest"

local disks = {}

local SIZE <const> = 64 << 20
-- Requests of 1 MiB in one piece, as `tcmu-lua create` makes devices; and what
-- the kernel's own value is, which targetcli leaves to tcmu-runner's.
local CONTROL <const> = { "hw_max_sectors=2048" }
local KERNELS <const> = { "hw_max_sectors=128" }
local DETACHED <const> = { "hw_max_sectors=2048", "nl_reply_supported=-1" }
local CACHED <const> = { emulate_write_cache = 1 }
local UNCACHED <const> = { emulate_write_cache = 0 }

local options, made
local logs = {}
-- Whether disks are to have a write cache.  Ours and the floor's in memory or on
-- a tmpfs have none, as nothing there is volatile, so nobody has one there.
local attributes, buffered

local function wanted(name) return name:find(options.disks) ~= nil end

local function any(...)
  for _, name in ipairs { ... } do
    if wanted(name) then return true end
  end
  return false
end

-- A disk of a backstore that was enabled: its path, and whether Linux was told
-- of a write cache.
local function attach(backstore)
  local disk = guest.loop(backstore)

  disk:set("block/" .. disk.name .. "/queue/scheduler", "none")
  -- Every block is written, so that none is a hole of memory or file.
  guest.sh("dd if=/dev/urandom of=%s bs=1M count=%d oflag=direct 2>&1",
    disk.path, SIZE >> 20)
  local cache = disk:get(("scsi_disk/%s/cache_type"):format(disk.hctl))
  return disk.path, cache:find "back" ~= nil
end

-- `cpu` is the load's if that is bound; `pid` who serves it.
local function add(name, backstore, pid, cpu)
  local path, cached = attach(backstore)
  made[#made + 1] = { name = name, path = path, cached = cached, cpu = cpu,
                      pid = pid }
end

local function backing_file(name)
  local path = ("%s/%s.img"):format(options.dir, (name:gsub(" ", "-")))
  guest.sh("truncate -s %d %s", SIZE, path)
  return path
end

local function log_of(name)
  local log = ("/tmp/%s.log"):format((name:gsub(" ", "-")))
  logs[#logs + 1] = log
  return log
end

local function background(name, command)
  return guest.start("exec " .. command, log_of(name))
end

-- --- tcmu-lua ---------------------------------------------------------------

-- Starts one.  No second one called tcmu-lua would start beside another: those
-- with a `tag` come first.  Returns it, for device().
local function serve(arguments, tag, prefix)
  local program = "./tcmu-lua"

  if tag then
    local dir = "/tmp/" .. tag
    program = ("%s/lua-%s"):format(dir, tag)
    guest.sh("mkdir -p %s/handlers && cp -r lua %s && cp tcmu-lua %s", dir,
      dir, program)
    for _, handler in ipairs { "ram", "file" } do
      guest.sh([[sed 's/name = "%s"/name = "%s_%s"/' handlers/%s.lua \
        >%s/handlers/%s_%s.lua]], handler, tag, handler, handler, dir, tag,
        handler)
    end
  end
  local p = background("tcmu-lua" .. (tag and "-" .. tag or ""),
    ("%s %s serve --budget 2000 %s"):format(prefix or "", program, arguments))
  guest.wait_for("tcmu-lua to be ready", 60, function()
    return p:output():find "control: ready" ~= nil, "\n" .. p:output()
  end)
  return { tag = tag and tag .. "_" or "", pid = p.pid }
end

-- A device of such a daemon: a ram, or a file if there is a path.
local function device(daemon, path, control, attrib)
  return guest.device {
    config = daemon.tag .. (path and "file/path=" .. path or "ram"),
    size = SIZE, control = control or CONTROL, attrib = attrib or attributes,
  }
end

local function ram(name, daemon, control, cpu)
  if not wanted(name) then return end
  add(name, device(daemon, nil, control), daemon.pid, cpu)
end

-- `more` options of the handler's.
local function file(name, daemon, more, attrib)
  if not wanted(name) then return end
  add(name, device(daemon, backing_file(name) .. (more or ""), nil, attrib),
    daemon.pid)
end

local function ours()
  local policy = ";writes=" .. options.writes
  local polling = any("ram+poll", "file+poll") and
    serve("--poll auto --poll-limit " .. options.window, "polling")
  local sleeping = serve "--poll off"

  ram("ram", sleeping)
  file("file", sleeping, policy)
  if polling then
    ram("ram+poll", polling)
    file("file+poll", polling, policy)
  end
end

-- --- the others -------------------------------------------------------------

local function floor(name, window, path)
  if not wanted(name) then return end
  local backstore = guest.device {
    config = "floor/" .. name, size = SIZE, control = DETACHED,
    attrib = attributes,
  }
  local uio = guest.wait_for("a uio device", 20, function()
    return backstore:uio()
  end)
  local p = background(name, ("build/floor %s %d %d %s"):format(uio, SIZE,
    window, path or ""))
  add(name, backstore, p.pid)
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
    local backstore = guest.backstore {
      hba = "fileio_0", control = {
        ("fd_dev_name=%s,fd_dev_size=%d%s"):format(path, SIZE, buffered) },
    }
    backstore:enable()
    add("fileio", backstore)
  end
  if wanted "ramdisk" then
    local backstore = guest.backstore {
      hba = "rd_mcp_0", control = { ("rd_pages=%d"):format(SIZE >> 12) },
    }
    backstore:enable()
    add("ramdisk", backstore)
  end
end

local RUNNERS <const> = { ["runner"] = CONTROL, ["runner 64k"] = KERNELS }

local function runners(...)
  local p = any(...) and guest.tcmu_runner(log_of "tcmu-runner")

  for _, name in ipairs { ... } do
    if wanted(name) then
      add(name, guest.device {
        config = "qcow/" .. backing_file(name), size = SIZE,
        control = RUNNERS[name], attrib = attributes,
      }, p.pid)
    end
  end
end

-- --- what is compared -------------------------------------------------------

local sets = {}

-- Those that are held against each other come one after the other.
local COMPARED <const> = {
  "ram", "floor", "floor again", "file", "floor file", "runner", "runner 64k",
  "ram+poll", "floor+poll", "floor+poll again", "file+poll", "floor file+poll",
  "fileio", "ramdisk",
}

function sets.compare()
  local place = {}

  ours()
  floors()
  kernels_own()
  runners("runner", "runner 64k")
  for i, name in ipairs(COMPARED) do place[name] = i end
  table.sort(made, function(a, b) return place[a.name] < place[b.name] end)
end

-- Whose time is followed, all of them asleep between commands.
function sets.trace()
  ram("ram", serve "--poll off")
  floor("floor", 0)
  runners "runner"
end

-- Two devices under one load: fio wants the paths with a colon between.
local function pair(name, daemon)
  if not wanted(name) then return end
  local one, other = device(daemon), device(daemon)
  add(name, one, daemon.pid)
  made[#made].path = made[#made].path .. ":" .. attach(other)
end

-- What the manual page about tuning has its figures from.
function sets.settings()
  local bound = serve("--poll off", "bound", "taskset -c 1")
  local single = serve("--poll off --shards 1", "single")
  local short = serve("--poll auto --poll-limit 200", "short")
  local long = serve("--poll auto --poll-limit 2000", "long")
  local usual = serve "--poll off --shards 2"

  ram("ram", usual)
  for _, setting in ipairs {
    "hw_max_sectors=128", "hw_max_sectors=512", "data_pages_per_blk=16",
    "data_pages_per_blk=256", "max_data_area_mb=2",
  } do
    ram(setting, usual, { CONTROL[1], setting })
  end
  ram("poll-limit 200", short)
  ram("poll-limit 2000", long)
  ram("same cpu", bound, nil, 1)
  ram("other cpu", bound, nil, 0)
  pair("2 on 2 shards", usual)
  pair("2 on 1 shard", single)
  file("file", usual)
  file("file inline", usual, ";writes=inline")
  file("file no cache", usual, nil, UNCACHED)
end

--- Whether there is such a set.
function disks.has(set) return sets[set] ~= nil end

--- Makes those of options.set whose names match options.disks.
-- @return a list of { name =, path = "/dev/sdX", cached = whether it has a
--         write cache, cpu = the load's or nil, pid = who serves it or nil }
function disks.make(given)
  options, made = given, {}
  if guest.sh("stat -f -c %%T %s", options.dir) == "tmpfs" then
    attributes, buffered = UNCACHED, ""
  else
    attributes, buffered = CACHED, ",fd_buffered_io=1"
  end
  guest.modprobe("target_core_user", "target_core_file", "tcm_loop", "sd_mod",
    "sg")
  sets[options.set]()
  return made
end

--- What the programs have printed goes to /results.
function disks.keep_logs()
  if logs[1] then guest.sh("cp %s /results", table.concat(logs, " ")) end
end

return disks
