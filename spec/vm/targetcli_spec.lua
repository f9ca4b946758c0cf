-- vm: time=900
--- targetcli makes disks of our handlers, exports them and takes them away.
-- It learns of them on the system bus, as it does of tcmu-runner's.

local guest = require "spec.vm.guest"

local MIB <const> = 1 << 20
local POLICY <const> = "/usr/share/dbus-1/system.d/"
local NAME <const> = "org.kernel.TCMUService1"
local WWN <const> = "naa.5001405123456789"
local SAVED <const> = "/tmp/saveconfig.json"

local function targetcli(words) return guest.sh("targetcli %s 2>&1", words) end

-- What it says when it refuses.
local function refusal(words)
  local status, text = guest.try("targetcli %s", words)
  assert.not_equal(0, status, text)
  return text
end

local function start_bus()
  os.remove "/run/dbus/system_bus_socket"
  local bus = guest.start "exec dbus-daemon --system --nofork --nopidfile"
  guest.wait_for("the bus", 10, function()
    return guest.exists "/run/dbus/system_bus_socket"
  end)
  return bus
end

-- The disk of the LUN, made by targetcli.
local function disk_of_lun()
  local address = guest.read_line(
    "/sys/kernel/config/target/loopback/" .. WWN .. "/tpgt_1/address")
  local at = ("/sys/class/scsi_device/%s:0/device/block"):format(address)
  return "/dev/" .. guest.wait_for("the disk", 30, function()
    return guest.names(at)[1]
  end)
end

local function export(backstore)
  targetcli("/loopback create " .. WWN)
  targetcli(("/loopback/%s/luns create %s"):format(WWN, backstore))
  return disk_of_lun()
end

describe("targetcli", function()
  local bus, daemon, depth

  setup(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    -- Only our own policy counts: tcmu-runner ships one for the same name.
    guest.sh("rm -f /etc/dbus-1/system.d/tcmu-runner.conf " ..
      "/usr/share/dbus-1/system-services/%s.service", NAME)
    guest.sh("mkdir -p %s && cp dist/%s.conf %s", POLICY, NAME, POLICY)
    bus = start_bus()
    daemon = guest.serve "--shards 2"
    daemon:wait_for_log("targetcli can make disks of", 200)
    depth = guest.depth()
  end)

  after_each(function()
    guest.try "targetcli clearconfig confirm=True"
    guest.cleanup(depth)
  end)
  teardown(guest.cleanup)

  it("lists the handlers and shows their options", function()
    local text = targetcli "/backstores ls"
    assert.matches("user:ram", text, 1, true)
    assert.matches("user:file", text, 1, true)
    text = targetcli "/backstores/user:file help create"
    assert.matches("path=PATH  the file or block device to serve", text, 1,
                   true)
  end)

  it("makes a memory disk that is sound, and takes it away", function()
    targetcli "/backstores/user:ram create d1 64M cfgstring=removable=no"
    local disk = export "/backstores/user:ram/d1"
    local serial = guest.read_line(
      "/sys/kernel/config/target/core/user_0/d1/wwn/vpd_unit_serial")
      :match "([%x-]+)$"
    assert.equal(64 * MIB, guest.sh("blockdev --getsize64 %s", disk) // 1)
    assert.matches(serial, guest.sh("sg_vpd -p sn %s", disk), 1, true)
    -- LIO's NAA: 6, company 001405h, and the first digits of the serial.
    local naa = "0x6001405" .. serial:gsub("-", ""):sub(1, 25)
    assert.matches(naa, guest.sh("sg_vpd -p di %s", disk), 1, true)
    guest.sh("dd if=/dev/urandom of=%s bs=1M count=8 oflag=direct", disk)

    targetcli("/loopback delete " .. WWN)
    targetcli "/backstores/user:ram delete d1"
    daemon:wait_for_log "user_0/d1: removed"
  end)

  it("makes a disk of a file and restores it from a saved config", function()
    targetcli("/backstores/user:file create d2 32M "
      .. "cfgstring='path=/data/t.img;create=yes'")
    local disk = export "/backstores/user:file/d2"
    guest.sh("dd if=/dev/urandom of=%s bs=1M count=8 oflag=direct", disk)
    local before = guest.sh("sg_vpd -p di %s", disk)
    targetcli("saveconfig " .. SAVED)
    targetcli "clearconfig confirm=True"
    targetcli("restoreconfig " .. SAVED)
    disk = disk_of_lun()
    assert.equal(before, guest.sh("sg_vpd -p di %s", disk))
    guest.sh("cmp -n %d %s /data/t.img", 8 * MIB, disk)
  end)

  it("makes a disk of a handler that is not installed", function()
    targetcli("/backstores/user:lua create d3 16M "
      .. "cfgstring=path=/src/examples/02-name.lua")
    assert.matches("Lesson two", guest.sh("sg_inq %s",
      export "/backstores/user:lua/d3"), 1, true)
  end)

  it("refuses a wrong cfgstring in our words, before anything is made",
     function()
    assert.matches("cfgstring invalid: there is no option 'pth'",
      refusal "/backstores/user:file create d4 16M cfgstring=pth=/data/x", 1,
      true)
    assert.matches("separated by ';'",
      refusal "/backstores/user:file create d4 16M cfgstring=path=/x,mode=ro",
      1, true)
    assert.same({}, guest.names "/sys/kernel/config/target/core/user_0")
  end)

  it("lets root alone have options checked", function()
    local as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups "
    local call = "dbus-send --system --print-reply --dest=" .. NAME
      .. " /org/kernel/TCMUService1/ram " .. NAME .. ".CheckConfig string:ram/"
    assert.matches("boolean true", guest.sh(call), 1, true)
    local status, text = guest.try(as_nobody .. call)
    assert.not_equal(0, status)
    assert.matches("not permitted", text, 1, true)   -- by us, not the bus
  end)

  it("goes without us when the bus goes, and disks are served on", function()
    targetcli "/backstores/user:ram create d5 16M cfgstring=removable=no"
    local disk = export "/backstores/user:ram/d5"
    bus:kill()
    daemon:wait_for_log "the system bus is gone"
    guest.sh("dd if=%s of=/dev/null bs=1M count=4 iflag=direct", disk)
    bus = start_bus()
  end)
end)
