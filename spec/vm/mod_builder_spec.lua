-- vm: time=300 kernel=6.1,6.12
--- Generated fabric modules in the kernel that they were generated for, each as
-- it came from the generator.  spec/mod_builder/modules has built them on the
-- host; here names and directories meet the core.

local fabric = require "spec.vm.fabric"
local guest = require "spec.vm.guest"
local protocols = require "spec.vm.protocols"

local MiB <const> = 1 << 20
local BUILT <const>, PROTOCOLS <const> = fabric.BUILT, protocols.list

local complaints <const>, link <const>, load_plain <const>, make <const> =
  fabric.complaints, fabric.link, fabric.load_plain, fabric.make

local function iblock(name)
  guest.sh "truncate -s 8M /tmp/lvm_test0"
  local loop = guest.sh "losetup --find --show /tmp/lvm_test0"
  guest.defer(function() guest.sh("losetup -d %s", loop) end)
  local dev = guest.backstore { hba = "iblock_0", name = name,
    control = { "udev_path=" .. loop } }
  dev:enable()
  return dev
end

--- The paths in the output of tree(1); links with where they point to.
local function paths(text)
  local found, above = {}, {}
  for line in text:gmatch "[^\n]+" do
    local at, name = line:find "^[|` \194\160]*%-%- ", line:match "%-%- (.*)$"
    if at then
      local bars = line:match "^(.-)[|`]%-%- "
      local depth = #bars:gsub("\194\160", " ") // 4 + 1
      above[depth] = name
      found[table.concat(above, "/", 1, depth)] = true
    end
  end
  return found
end

-- From the how-to of the first generator, October 2010.
local DOCUMENTED <const> = [[
/sys/kernel/config/target/nab5000/
|-- discovery_auth
|-- iqn.foo
|   `-- tpgt_1
|       |-- acls
|       |-- attrib
|       |-- lun
|       |   `-- lun_0
|       |       |-- alua_tg_pt_gp
|       |       |-- alua_tg_pt_offline
|       |       |-- alua_tg_pt_status
|       |       |-- alua_tg_pt_write_md
|       |       `-- nab5000_port -> ../../../../../../target/core/iblock_0/lvm_test0
|       |-- np
|       `-- param
`-- version
]]

describe("a generated module", function()
  local mark, devices, depth

  setup(function()
    assert.is_true(guest.exists(BUILT),
      "there are no modules; run spec/mod_builder/modules on the host first")
    guest.modprobe("target_core_mod", "target_core_user", "target_core_iblock",
      "loop")
    guest.serve()
    devices = { fabric.ramdisk "ram", iblock "lvm_test0",
      guest.device { config = "ram", size = MiB, name = "user" } }
    depth = guest.depth()
  end)
  teardown(guest.cleanup)
  before_each(function() mark = guest.log_mark() end)
  after_each(function() guest.cleanup(depth) end)

  it("is configured as the how-to of the first generator says", function()
    guest.sh("insmod %s/tcm_nab5000/tcm_nab5000.ko", BUILT)
    guest.defer(function() guest.sh "rmmod tcm_nab5000" end)
    guest.defer(function()
      guest.sh [[
        cd /sys/kernel/config/target
        rm nab5000/iqn.foo/tpgt_1/lun/lun_0/nab5000_port
        rmdir nab5000/iqn.foo/tpgt_1/lun/lun_0 nab5000/iqn.foo/tpgt_1
        rmdir nab5000/iqn.foo nab5000
      ]]
    end)
    guest.sh [[
      mkdir -p /sys/kernel/config/target/nab5000/iqn.foo/tpgt_1/lun/lun_0
      cd /sys/kernel/config/target/nab5000/iqn.foo/tpgt_1/lun/lun_0/
      ln -s /sys/kernel/config/target/core/iblock_0/lvm_test0 nab5000_port
    ]]

    local shown = paths(guest.sh(
      "tree --charset=ascii /sys/kernel/config/target/nab5000/"))
    for path in pairs(paths(DOCUMENTED)) do
      assert.is_true(shown[path], path .. " is missing")
    end
    assert.matches("tcm_nab5000 .* 4$", guest.sh "lsmod | grep ^tcm_nab5000")
    guest.cleanup(depth)
    assert.same({}, complaints(mark))
  end)

  it("says in the log where it is configured", function()
    load_plain(PROTOCOLS[1])
    assert.matches(
      "tcm_nab5000: iSCSI fabric, to be configured at target/nab5000\n",
      guest.kernel_log(mark) .. "\n")
  end)

  for _, p in ipairs(PROTOCOLS) do
    describe("for " .. p.name, function()
      it("takes LUNs of the kernel's back ends and of our own", function()
        local tpg = load_plain(p) .. "/" .. p.wwn .. "/tpgt_1"
        make(tpg:match "^(.*)/")
        make(tpg)
        for i, dev in ipairs(devices) do
          local lun = make(("%s/lun/lun_%d"):format(tpg, i))
          link(dev.dir, lun .. "/port")
          assert.matches("default_tg_pt_gp",
            guest.read_file(lun .. "/alua_tg_pt_gp"))
          assert.matches(p.wwn .. "+", guest.read_file(
            lun .. "/statistics/scsi_transport/dev_name"), 1, true)
        end
        assert.equal(p.module .. " fabric module v0.1",
          guest.read_line(tpg .. "/../../version"))
        guest.write_file(tpg .. "/enable", "1")
        assert.equal("1", guest.read_line(tpg .. "/enable"))
        guest.cleanup(depth)
        assert.same({}, complaints(mark))
      end)

      it("takes names of ports in the one spelling of the core", function()
        local dir = load_plain(p)
        for _, name in ipairs(p.good) do
          guest.mkdir(dir .. "/" .. name)
          guest.rmdir(dir .. "/" .. name)
        end
        assert.same({}, complaints(mark))
        for _, name in ipairs(p.bad) do
          assert.has_error(function() guest.mkdir(dir .. "/" .. name) end)
          assert.is_false(guest.exists(dir .. "/" .. name))
        end
        for name in pairs(p.other) do
          assert.has_error(function() guest.mkdir(dir .. "/" .. name) end)
        end
        local log = guest.kernel_log(mark)
        for _, name in ipairs(p.bad) do
          assert.matches(("%s: %s names no %s port"):format(p.module, name,
            p.name), log, 1, true)
        end
        for name, right in pairs(p.other) do
          assert.matches(("%s: %s has to be written %s"):format(p.module, name,
            right), log, 1, true)
        end
      end)

      it("takes initiators that have an ACL, and lets them go", function()
        local tpg = load_plain(p) .. "/" .. p.wwn .. "/tpgt_7"
        local name = next(p.ids)
        make(tpg:match "^(.*)/")
        make(tpg)
        local nexus = tpg .. "/nexus"

        local function refused(code, text)
          local ok, _, why = guest.try_write(nexus, text)
          assert.is_nil(ok)
          assert.equal(code, why)
        end
        refused("EACCES", name)
        refused("ENODEV", "NULL")
        refused("EINVAL", p.bad[1])

        guest.mkdir(tpg .. "/acls/" .. name)
        guest.write_file(nexus, name .. "\n")
        assert.equal(name, guest.read_line(nexus))
        refused("EEXIST", name)
        guest.write_file(nexus, "NULL")
        refused("ENODEV", "NULL")

        guest.write_file(nexus, name)
        guest.rmdir(tpg .. "/acls/" .. name, 20)
        refused("ENODEV", "NULL")

        guest.mkdir(tpg .. "/acls/" .. name)
        guest.write_file(nexus, name)
        guest.write_file(nexus, "NULL")
        guest.rmdir(tpg .. "/acls/" .. name, 20)
        for spelled in pairs(p.other) do
          assert.has_error(function() guest.mkdir(tpg .. "/acls/" .. spelled) end)
        end
      end)

      it("refuses portal groups that have no number", function()
        local port = make(load_plain(p) .. "/" .. p.wwn)
        for _, name in ipairs { "tpgt_", "tpgt_x", "tpgt_65536", "lun_1", "1" } do
          assert.has_error(function() guest.mkdir(port .. "/" .. name) end)
        end
        guest.mkdir(port .. "/tpgt_65535")
        guest.rmdir(port .. "/tpgt_65535")
        assert.same({}, complaints(mark))
      end)
    end)
  end
end)
