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

-- A disk whose writes fail while /tmp/bad exists, and hang while /tmp/slow does.
local BREAKING <const> = [[
  local tcmu = require "tcmu"
  local scsi = require "tcmu.scsi"
  return tcmu.handler {
    name = "breaking",
    open = function(dev) return { bytes = tcmu.store.memory(dev.size) } end,
    read = function(self, cmd, offset) self.bytes:read(cmd.data, offset) end,
    write = function(self, cmd, offset)
      while true do
        local slow <close> = io.open "/tmp/slow"
        if not slow then break end
        tcmu.sleep(20)
      end
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

-- A device with two stores: 100 changes of the one that hangs, and then some of
-- the other, which has to be done first.
local HUNG <const> = [[
  package.path = "/src/lua/?.lua;/src/lua/?/init.lua"
  package.cpath = "/src/build/?.so"
  local sim = require "tcmu.sim"
  local dev <close> = assert(sim.device(([=[=two
    local tcmu = require "tcmu"
    return tcmu.handler {
      name = "two",
      open = function(dev)
        return { slow = tcmu.store.file(%q, "rw", 0, { aio = %q }),
                 other = tcmu.store.file("/data/other.img", "c", dev.size,
                                         { writes = "async", aio = %q }) }
      end,
      on = { [0xC1] = function(self)
        local done = 0
        for i = 1, 100 do
          tcmu.spawn(function()
            self.slow:zero(i * 8192, 4096, true)
            done = done + 1
          end)
        end
        local b = tcmu.buffer(4096)
        for i = 1, 20 do self.other:write(b, i * 8192, true) end
        local before = done
        os.remove "/tmp/slow"
        while done < 100 do tcmu.sleep(20) end
        return tostring(before)
      end } }]=]):format(arg[1], arg[2], arg[2]), { size = 1 << 20 }))
  io.open("/tmp/slow", "w"):close()
  local r = dev:cmd("\xC1" .. ("\0"):rep(9))
  io.stdout:write(r.status == 0 and r.data or "failed")]]

describe("a disk that fails below a file store", function()
  local disk

  setup(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    guest.write_file("/tmp/breaking.lua", BREAKING)
    guest.write_file("/tmp/steps.lua", STEPS)
    guest.write_file("/tmp/hung.lua", HUNG)
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

    -- the kernel tells the other description as well: one write more fails
    it("fails the flush of what is in the cache, and every later one, with "
       .. options, function()
      assert.equal("good good good bad bad bad good",
                   steps(options, "cached"))
    end)
  end

  it("fails only the write that goes past the page cache", function()
    assert.equal("good good bad good good good",
                 steps("{ direct = true }", "stable"))
  end)

  for _, aio in ipairs { "auto", "threads" } do
    it("and hangs lets other stores go on, aio=" .. aio, function()
      assert.equal("0", guest.sh("lua5.4 /tmp/hung.lua %s %s", disk.path, aio))
    end)
  end
end)
