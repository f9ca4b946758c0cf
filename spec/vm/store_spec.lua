-- vm: time=900
-- vm: expect=(Buffer I/O error|critical medium error|lost async page write|I/O error).*
--- The file store on the real kernel: its specs on another kernel than the
--- host's, verified I/O past the page cache, and a disk that fails below it.

local guest = require "spec.vm.guest"

local MIB <const> = 1 << 20

describe("the file store's own specs", function()
  it("pass on this kernel", function()
    finally(function() guest.cleanup() end)
    guest.sh "mkdir -p /data/tmp && mount --bind /data/tmp /var/tmp"
    guest.defer(function() guest.sh "umount /var/tmp" end)
    local out = guest.sh_within(400, "cd /src && busted -o TAP "
      .. "spec/store_spec.lua spec/store_ways_spec.lua "
      .. "spec/durability_spec.lua")
    assert.is_nil(out:find("not ok", 1, true), out)
    assert.is_nil(out:find("# SKIP", 1, true), out)
  end)
end)

describe("fio verifies", function()
  for _, way in ipairs { "direct=yes", "direct=yes;aio=threads",
                         "reads=async;writes=async" } do
    it("what is served with " .. way, function()
      finally(function()
        guest.cleanup()
        os.remove "/data/disk.img"
      end)
      guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
      local daemon = guest.serve "--shards 2 --budget 2000"
      local dev = guest.device {
        config = "file/path=/data/disk.img;create=yes;" .. way,
        size = 128 * MIB, control = { "hw_max_sectors=2048" },
      }
      local disk = guest.loop(dev)
      guest.sh_within(200, table.concat({
        "fio --output-format=terse --minimal --ioengine=libaio --direct=1",
        "--filename=%s --iodepth=32 --time_based --runtime=20",
        "--bsrange=512-1m --blockalign=512 --randrepeat=0",
        "--name=verify --rw=randrw --verify=crc32c --verify_backlog=256",
        "--verify_fatal=1 --size=64m",
        "--name=trim --rw=randtrimwrite --offset=64m --size=32m",
      }, " "), disk.path)
      assert.is_nil(daemon:output():find("error", 1, true))
    end)
  end
end)

-- A disk whose writes fail while /tmp/bad exists.
local BREAKING <const> = [[
  local tcmu = require "tcmu"
  local scsi = require "tcmu.scsi"
  return tcmu.handler {
    name = "breaking",
    open = function(dev) return { bytes = tcmu.store.memory(dev.size) } end,
    read = function(self, cmd, offset) self.bytes:read(cmd.data, offset) end,
    write = function(self, cmd, offset)
      local bad <close> = io.open "/tmp/bad"
      if bad then error(scsi.WRITE_ERROR) end
      self.bytes:write(cmd.data, offset)
    end,
  }]]

-- What a store on the disk does with it: a word for each step.
local STEPS <const> = [[
  package.path = "/src/lua/?.lua;/src/lua/?/init.lua"
  package.cpath = "/src/build/?.so"
  local tcmu = require "tcmu"
  local buf = tcmu.buffer(4096)
  buf:fill(1)
  local store = tcmu.store.file(arg[1], "rw", 0, load("return " .. arg[2])())
  local function try(verb, ...)
    io.stdout:write(pcall(store[verb], store, ...) and "good " or "bad ")
  end
  local function breaks(yes)
    if yes then io.open("/tmp/bad", "w"):close() else os.remove "/tmp/bad" end
  end
  try("write", buf, 0, true) try("flush")
  breaks(true)
  try("write", buf, 4096, arg[3] == "stable")
  if arg[3] == "cached" then try("flush") end
  breaks(false)
  try("flush") try("write", buf, 8192, true)
  store:close()
  store = tcmu.store.file(arg[1], "rw")
  try("flush")]]

describe("a disk that fails below a file store", function()
  local disk

  setup(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    guest.write_file("/tmp/breaking.lua", BREAKING)
    guest.write_file("/tmp/steps.lua", STEPS)
    guest.serve "--shards 1 --budget 2000"
    disk = guest.loop(guest.device {
      config = "lua/path=/tmp/breaking.lua", size = 16 * MIB })
  end)
  teardown(guest.cleanup)

  local function steps(options, kind)
    return (guest.sh("lua5.4 /tmp/steps.lua %s %s %s", disk.path,
                     guest.quote(options), kind):gsub("%s+$", ""))
  end

  for _, options in ipairs { "{}", "{ aio = 'threads' }",
                             "{ writes = 'inline' }" } do
    it("fails the write that was to be stable, and flushes until it is opened "
       .. "again, with " .. options, function()
      assert.equal("good good bad bad good good", steps(options, "stable"))
    end)

    it("fails the flush of what is in the cache, and every later one, with "
       .. options, function()
      assert.equal("good good good bad bad good good",
                   steps(options, "cached"))
    end)
  end

  it("fails only the write that goes past the page cache", function()
    assert.equal("good good bad good good good",
                 steps("{ direct = true }", "stable"))
  end)
end)
