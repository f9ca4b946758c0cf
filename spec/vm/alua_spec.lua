-- vm: time=600 kernel=6.1,6.12
--- Target port groups on the real kernel: what the core leaves to us, what
--- configfs tells of, and what Linux's tools make of our answers.

local guest = require "spec.vm.guest"

local MIB <const> = 1 << 20
local DEFAULT <const> = "alua/default_tg_pt_gp/"

describe("target port groups", function()
  local daemon

  before_each(function()
    guest.modprobe("target_core_user", "tcm_loop", "sd_mod", "sg")
    daemon = guest.serve "--shards 2"
  end)
  after_each(guest.cleanup)

  local function ram()
    return guest.device { config = "ram", size = 16 * MIB }
  end

  local function make_group(dev, name, id)
    local at = ("%s/alua/%s"):format(dev.dir, name)
    guest.mkdir(at)
    guest.defer(function() guest.rmdir(at) end)
    guest.write_file(at .. "/tg_pt_gp_id", id)
  end

  -- What REPORT TARGET PORT GROUPS says, as { [id] = { state, status, ports } }.
  local function groups(disk)
    local found, group = {}, nil
    for line in guest.sh("sg_rtpg -d %s", disk.sg):gmatch "[^\n]+" do
      local id = line:match "target port group id : (0x%x+)"
      if id then
        group = { ports = {} }
        found[tonumber(id)] = group
      elseif group then
        local state = line:match "asymmetric access state : (0x%x+)"
        local status = line:match "status code : (0x%x+)"
        group.state = tonumber(state) or group.state
        group.status = tonumber(status) or group.status
        table.insert(group.ports, tonumber(line:match "^%s+(0x%x+)%s*$"))
      end
    end
    return found
  end

  -- Waits until the first disk tells this state of the group.
  local function wait_for_state(disk, id, state)
    guest.wait_for(("state %d of group %d"):format(state, id), 20, function()
      local group = groups(disk)[id]
      return group and group.state == state, guest.sh("sg_rtpg %s", disk.sg)
    end)
  end

  -- The number of tcm_loop's first port; 6.12 gives it none.
  local function numbered()
    return guest.sh("cat /sys/kernel/config/target/loopback/*/tpgt_1/lun/" ..
                    "lun_0/statistics/scsi_port/indx") ~= "0"
  end

  local function vpd(disk, page)
    return guest.sh("sg_vpd -p %s %s", page, disk.sg)
  end

  it("are told with their states, and with states that are written", function()
    local dev = ram()
    local disk = guest.loop(dev)
    wait_for_state(disk, 0, 0)
    assert.matches("TPGS=3", guest.sh("sg_inq %s", disk.sg))
    -- Non-optimized; in standby the core itself would refuse most commands.
    dev:set(DEFAULT .. "alua_access_state", 1)
    guest.try("sg_turs %s", disk.sg)            -- takes the unit attention
    wait_for_state(disk, 0, 1)
    assert.equal(2, groups(disk)[0].status)
  end)

  it("are told with the ports that join them, and new ones too", function()
    guest.modprobe "iscsi_target_mod"
    local dev = ram()
    local one = guest.iscsi(dev)
    assert.same({ 1 }, groups(one)[0].ports)
    make_group(dev, "second", 7)
    guest.wait_for("the group", 20, function() return groups(one)[7] end)
    local two = guest.export(dev)
    guest.wait_for("the second port", 20, function()
      return #groups(one)[0].ports == 2
    end)
    guest.write_file(("/sys/kernel/config/target/iscsi/%s/tpgt_1/lun/lun_0/" ..
                      "alua_tg_pt_gp"):format(two.iqn), "second\n")
    guest.wait_for("the port to move", 20, function()
      local now = groups(one)
      return #now[7].ports == 1 and #now[0].ports == 1
    end)
    two:remove()
    guest.wait_for("a port to go", 20, function()
      local now = groups(one)
      return #now[7].ports == 0 and #now[0].ports == 1
    end)
  end)

  it("are set by an initiator, and the kernel has it", function()
    local dev = ram()
    local disk = guest.loop(dev)
    wait_for_state(disk, 0, 0)
    guest.sh("sg_stpg --tp=0 --state=1 %s", disk.sg)
    assert.equal("1", dev:get(DEFAULT .. "alua_access_state"))
    assert.equal("Altered by Explicit STPG",
                 dev:get(DEFAULT .. "alua_access_status"))
    guest.try("sg_turs %s", disk.sg)
    wait_for_state(disk, 0, 1)
    assert.equal(1, groups(disk)[0].status)
    guest.sh("sg_stpg --tp=0 --state=0 %s", disk.sg)
    guest.try("sg_turs %s", disk.sg)
    wait_for_state(disk, 0, 0)
  end)

  it("cannot be set where configfs would refuse it", function()
    local dev = ram()
    local disk = guest.loop(dev)
    dev:set(DEFAULT .. "alua_access_type", 1)
    guest.wait_for("TPGS=1", 20, function()
      return guest.sh("sg_inq %s", disk.sg):find "TPGS=1"
    end)
    -- sg_stpg ends with 0 in any case.
    local _, output = guest.try("head -c 8 /dev/zero | sg_raw -s 8 %s a4 0a 00 "
      .. "00 00 00 00 00 00 08 00 00", disk.sg)
    assert.matches("Invalid field in cdb", output)
    assert.equal("0", dev:get(DEFAULT .. "alua_access_state"))
  end)

  it("change with those of the same logical unit group", function()
    local lu_group <const> =
      "/sys/kernel/config/target/core/alua/lu_gps/pair"
    local a, b = ram(), ram()
    guest.mkdir(lu_group)
    guest.defer(function() guest.rmdir(lu_group) end)
    guest.write_file(lu_group .. "/lu_gp_id", 5)
    for _, dev in ipairs { a, b } do
      dev:set("alua_lu_gp", "pair\n")
      guest.defer(function() dev:set("alua_lu_gp", "NULL\n") end)
    end
    local disk = guest.loop(b)
    wait_for_state(disk, 0, 0)
    a:set(DEFAULT .. "alua_access_state", 1)
    guest.try("sg_turs %s", disk.sg)
    assert.equal("1", b:get(DEFAULT .. "alua_access_state"))
    wait_for_state(disk, 0, 1)
  end)

  it("are nobody's where the core takes no part", function()
    local dev = ram()
    if not guest.exists(dev.dir .. "/attrib/alua_support") then
      pending "this kernel has no attrib/alua_support"
    end
    dev:set("attrib/alua_support", 0)
    local disk = guest.loop(dev)
    guest.wait_for("TPGS=0", 20, function()
      return guest.sh("sg_inq %s", disk.sg):find "TPGS=0"
    end)
    -- If the core answered it, it would not ask us.
    local status, output = guest.try("sg_rtpg %s", disk.sg)
    assert.not_equal(0, status)
    assert.matches("unsupported service action", output)
  end)

  it("do not keep a device from going while they are written to", function()
    for i = 1, 10 do
      local dev = guest.device { config = "ram", size = 16 * MIB,
                                 hba = "user_" .. i }
      guest.sh("cd %s/alua; mkdir g; echo 3 >g/tg_pt_gp_id; " ..
               "echo 1 >default_tg_pt_gp/alua_access_state; rmdir g", dev.dir)
      dev:remove()
    end
    assert.equal(16 * MIB, guest.loop(ram()):size())
  end)

  it("and ports are in VPD while exactly one exports the disk", function()
    local dev = ram()
    local one = guest.loop(dev)
    guest.wait_for("the port's designators", 20, function()
      return vpd(one, "di"):find "Target port group: 0x0"
    end)
    local page = vpd(one, "di")
    assert.matches("naa%.60014051%x+", page)
    assert.matches("transport: Serial Attached SCSI", page)
    assert.equal(numbered(), page:find "Relative target port: 0x1" ~= nil)
    local status, ports = guest.try("sg_vpd -p 0x88 %s", one.sg)
    assert.equal(numbered(), status == 0)
    assert.equal(numbered(), ports:find "naa%.60014051%x+" ~= nil)

    local two = guest.loop(dev)
    guest.wait_for("no designators of ports", 20, function()
      return not vpd(two, "di"):find "arget port"
    end)
    assert.not_equal(0, (guest.try("sg_vpd -p 0x88 %s", one.sg)))

    two:remove()
    guest.wait_for("the one port's designators", 20, function()
      return vpd(one, "di"):find "Target port group: 0x0"
    end)
  end)

  it("and the port are known to the first command over iSCSI", function()
    guest.modprobe "iscsi_target_mod"
    local disk = guest.iscsi(ram())
    local page = vpd(disk, "di")
    assert.matches("Relative target port: 0x1", page)
    assert.matches("iqn", vpd(disk, "0x88"))
    assert.matches(disk.iqn .. ",t,0x0001", page, 1, true)
    assert.matches("transport: Internet SCSI %(iSCSI%)", page)
  end)

  it("and ports are known again after a restart", function()
    local disk = guest.loop(ram())
    guest.wait_for("the port's designators", 20, function()
      return vpd(disk, "di"):find "Target port group: 0x0"
    end)
    local before, ports = vpd(disk, "di"), groups(disk)[0].ports
    daemon:stop()
    daemon = guest.serve "--shards 2"
    assert.equal(before, vpd(disk, "di"))
    assert.same(ports, groups(disk)[0].ports)
  end)
end)
