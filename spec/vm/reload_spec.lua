-- vm: time=600
--- SIGHUP under verified I/O: a disk whose data live in its handler's Lua
--- tables goes from one file to the next, and loses nothing.

local guest = require "spec.vm.guest"

local MiB <const> = 1 << 20
local PATH <const> = "/tmp/keeps.lua"

-- Each version keeps the data in pages of another size.
local HANDLER <const> = [[
local tcmu = require "tcmu"
local PAGE <const> = %d
return tcmu.handler {
  name = "keeps", version = "%s",
  open = function() return { pages = {}, unit = PAGE } end,
  read = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      local p = self.pages[page]
      if p then cmd.data:copy(at, p, from, n) else cmd.data:fill(0, at, n) end
      if page %% 7 == 0 then tcmu.sleep(2) end
    end
  end,
  write = function(self, cmd, offset, length)
    for page, from, at, n in cmd:split(offset, length, PAGE) do
      self.pages[page] = self.pages[page] or tcmu.buffer(PAGE)
      self.pages[page]:copy(from, cmd.data, at, n)
      if page %% 7 == 0 then tcmu.sleep(2) end
    end
  end,
  upgrade = function(self)
    local pages = {}
    local step <const> = math.min(PAGE, self.unit)
    for page, p in pairs(self.pages) do
      for at = 0, self.unit - 1, step do
        local offset = page * self.unit + at
        local q = pages[offset // PAGE] or tcmu.buffer(PAGE)
        pages[offset // PAGE] = q
        q:copy(offset %% PAGE, p, at, step)
      end
    end
    tcmu.sleep(100)
    return { pages = pages, unit = PAGE }
  end,
}
]]

-- Prints what is told to systemd.
local SYSTEMD <const> = [[exec python3 -uc '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/tmp/notify")
while True: print(s.recv(9999).decode())']]

describe("SIGHUP", function()
  local daemon, dev, disk, systemd

  local function put(version)
    guest.write_file(PATH, HANDLER:format(4096 << version % 4, version))
  end

  -- Sends it, and returns the line of the log that says how it went.
  local function hang_up()
    local from = #daemon:output()
    daemon:signal "sighup"
    return daemon:wait_for_log("is reloaded: %d+ devices", 60, from)
  end

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    put(1)
    systemd = guest.start(SYSTEMD)
    guest.wait_for("the socket", 20, function()
      return guest.exists "/tmp/notify"
    end)
    daemon = guest.serve("--shards 2 --handler " .. PATH,
                         "env NOTIFY_SOCKET=/tmp/notify")
    dev = guest.device { config = "keeps", size = 64 * MiB,
                         control = { "hw_max_sectors=2048" } }
    disk = guest.loop(dev)
  end)
  after_each(function()
    guest.cleanup()
    os.remove(PATH)
    os.remove "/tmp/notify"
  end)

  it("loses nothing under verified I/O, with the data laid out anew each time",
     function()
    local mark = guest.log_mark()
    local io = guest.start(("exec fio --name=x --filename=%s --rw=randrw "
      .. "--bsrange=4k-64k --iodepth=16 --ioengine=libaio --direct=1 "
      .. "--verify=crc32c --verify_backlog=128 --verify_fatal=1 --time_based "
      .. "--runtime=30 --minimal"):format(disk.path))
    guest.sh "sleep 4"
    local reloads = 0
    for version = 2, 9 do
      put(version)
      assert.matches("reloaded: 1 devices", hang_up())
      reloads = reloads + 1
      guest.sh "sleep 1"
    end
    assert.is_true(io:running(), "the I/O has ended before the reloads")
    assert.equal(8, reloads)
    assert.equal(0, io:wait(180), io:output())
    assert.is_nil(guest.kernel_log(mark):find("I/O error", 1, true))
  end)

  it("leaves a disk with its handler if the new file has a mistake", function()
    guest.sh("dd if=/dev/urandom of=%s bs=1M count=4 oflag=direct 2>/dev/null",
             disk.path)
    local before = guest.sh("dd if=%s bs=1M count=4 iflag=direct "
      .. "2>/dev/null | sha256sum", disk.path)
    guest.write_file(PATH, "return require 'tcmu'.handler { raed = 1 }")
    local from = #daemon:output()
    daemon:signal "sighup"
    assert.matches("unknown key 'raed', did you mean 'read'",
      daemon:wait_for_log("is not reloaded", 60, from))
    guest.wait_for("systemd to be told", 20, function()
      return systemd:output():find("RELOADING=1\nMONOTONIC_USEC=%d+\n"
        .. "READY=1\nSTATUS=user_%d+/[^\n]* is not reloaded: handler: "
        .. "unknown key 'raed'")
    end)
    assert.equal(before, guest.sh("dd if=%s bs=1M count=4 iflag=direct "
      .. "2>/dev/null | sha256sum", disk.path))
    put(2)
    hang_up()
    assert.equal(before, guest.sh("dd if=%s bs=1M count=4 iflag=direct "
      .. "2>/dev/null | sha256sum", disk.path))
  end)

  it("tells initiators of another name, once", function()
    disk:settle()
    put(1)
    guest.write_file(PATH, (HANDLER:format(4096, "2")
      :gsub('name = "keeps",', '%0 inquiry = { product = "Renamed" },')))
    hang_up()
    assert.matches("Renamed", guest.sh("sg_inq %s", disk.sg))
    local _, output = guest.try("sg_turs -v %s", disk.sg)
    assert.matches("nquiry data has changed", output)
    guest.sh("sg_turs %s", disk.sg)
  end)

  it("serves handlers that have come since the start", function()
    os.execute "mkdir -p /tmp/more"
    guest.defer(function() os.execute "rm -r /tmp/more" end)
    daemon:stop()
    daemon = guest.serve("--handler /tmp/more --handler " .. PATH)
    guest.write_file("/tmp/more/late.lua", [[
      local tcmu = require "tcmu"
      return tcmu.handler { name = "late", open = function(dev)
        return { store = tcmu.store.memory(dev.size) } end }]])
    hang_up()
    local late = guest.loop(guest.device { config = "late", size = 8 * MiB })
    guest.sh("dd if=/dev/zero of=%s bs=1M count=1 oflag=direct", late.path)
  end)
end)
