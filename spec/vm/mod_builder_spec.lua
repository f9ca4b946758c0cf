-- vm: time=400 kernel=6.1,6.12
--- Generated fabric modules in the kernel that they were generated for.
-- spec/mod_builder/modules has built them on the host: each as it came from the
-- generator, and as tcm_lesson with the additions of examples/mod-builder,
-- which carry commands.  So here names, directories and TransportIDs meet the
-- core.

local guest = require "spec.vm.guest"

local TARGET <const> = "/sys/kernel/config/target"
local BUILT <const> = "build/mod_builder/"
  .. (guest.sh "uname -r"):match "^%d+%.%d+"
local MiB <const> = 1 << 20

local function hex(text)
  return (text:gsub("%X", ""):gsub("%x%x", function(x)
    return string.char(tonumber(x, 16))
  end))
end

local function pad(text, length) return text .. ("\0"):rep(length - #text) end

--- A TransportID of the 24 byte formats (SPC-4 7.6.4): `name` at byte `at`.
local function transport_id(protocol, at, name)
  return pad(string.char(protocol) .. ("\0"):rep(at - 1) .. hex(name), 24)
end

--- SPC-4 table 508: an iSCSI initiator port, name and ISID.
local function iscsi_transport_id(name, isid)
  local text = name .. ",i,0x" .. isid .. "\0"
  text = pad(text, (#text + 3) // 4 * 4)
  return string.pack(">BBs2", 0x45, 0, text)
end

-- For each protocol: the module, a target port, two initiator ports with their
-- TransportIDs, what is not a name, and other spellings of the target port.
local PROTOCOLS <const> = {
  {
    name = "iSCSI", module = "tcm_nab5000", wwn = "iqn.2026-01.org.example:disk",
    ids = {
      ["iqn.2026-01.org.example:alice"] =
        iscsi_transport_id("iqn.2026-01.org.example:alice", "00023d000001"),
      ["eui.0123456789abcdef"] =
        iscsi_transport_id("eui.0123456789abcdef", "00023d000002"),
    },
    login = { ["iqn.2026-01.org.example:alice"] =
        "iqn.2026-01.org.example:alice,i,0x00023D000001",
      ["eui.0123456789abcdef"] = "eui.0123456789abcdef,i,0x00023d000002" },
    good = { "iqn.foo", "naa.5001405123456789",
      "naa.50014051234567890000000000000001", "iqn." .. ("x"):rep(219) },
    bad = { "foo", "iqn.", "iqn.a_b", "iqn.a b", "eui.0123", "naa.5001",
      "eui.0123456789abcdeg", "iqn.\u{e4}", "iqn." .. ("x"):rep(220) },
    other = { ["IQN.Foo"] = "iqn.foo" },
  },
  {
    name = "FC", module = "tcm_mb_fc", wwn = "21:00:00:24:ff:31:4c:48",
    ids = {
      ["10:00:00:00:c9:00:00:01"] = transport_id(0, 8, "10000000c9000001"),
      ["10:00:00:00:c9:00:00:02"] = transport_id(0, 8, "10000000c9000002"),
    },
    good = { "ff:ff:ff:ff:ff:ff:ff:ff" },
    bad = { "foo", "21:00:00:24:ff:31:4c", "21000024ff314c48",
      "21:00:00:24:ff:31:4c:4g", "21-00-00-24-ff-31-4c-48",
      "21:00:00:24:ff:31:4c:48:00", "naa.21000024ff314c" },
    other = { ["naa.21000024ff314c48"] = "21:00:00:24:ff:31:4c:48",
      ["21:00:00:24:FF:31:4C:48"] = "21:00:00:24:ff:31:4c:48" },
  },
  {
    name = "SAS", module = "tcm_mb_sas", wwn = "naa.5001405123456789",
    ids = {
      ["naa.500000e000000001"] = transport_id(6, 4, "500000e000000001"),
      ["naa.500000e000000002"] = transport_id(6, 4, "500000e000000002"),
    },
    good = { "naa.0000000000000001" },
    bad = { "foo", "naa.", "naa.50014051234567", "naa.500140512345678g",
      "naa.50014051234567890", "5001405123456789" },
    other = { ["naa.500140512345678A"] = "naa.500140512345678a" },
  },
  {
    name = "SRP", module = "tcm_mb_srp",
    wwn = "0xfe800000000000000002c903000e8acd",
    ids = {
      ["0xfe800000000000000002c90300000001"] =
        transport_id(4, 8, "fe800000000000000002c90300000001"),
      ["0x0000000000000000000000000000000a"] =
        transport_id(4, 8, "0000000000000000000000000000000a"),
    },
    good = { "0x00000000000000000000000000000001" },
    bad = { "foo", "0x", "0xfe80", "fe800000000000000002c903000e8acd",
      "0xge800000000000000002c903000e8acd", "fe80::2:c903:e:8acd" },
    other = { ["fe80:0000:0000:0000:0002:c903:000e:8acd"] =
        "0xfe800000000000000002c903000e8acd" },
  },
  {
    name = "SBP", module = "tcm_mb_sbp", wwn = "0123456789abcdef",
    ids = {
      ["0001020304050607"] = transport_id(3, 8, "0001020304050607"),
      ["08090a0b0c0d0e0f"] = transport_id(3, 8, "08090a0b0c0d0e0f"),
    },
    good = { "ffffffffffffffff" },
    bad = { "foo", "0123456789abcde", "0123456789abcdeg", "eui.0123456789abcdef",
      "0123456789abcdef0" },
    other = { ["0123456789ABCDEF"] = "0123456789abcdef" },
  },
}

local function fabric_dir(module)
  return TARGET .. "/" .. module:gsub("^tcm_", "")
end

--- Loads a module and makes its directory; both go at the end of the spec.
local function load(path)
  local module = path:match "([^/]+)%.ko$"
  guest.sh("insmod %s", path)
  guest.defer(function() guest.sh("rmmod %s", module) end)
  local dir = fabric_dir(module)
  guest.mkdir(dir)
  guest.defer(function() guest.rmdir(dir) end)
  return dir
end

local function load_plain(p)
  return load(("%s/%s/%s.ko"):format(BUILT, p.module, p.module))
end

--- mkdir, taken back at the end.
local function make(dir)
  guest.mkdir(dir)
  guest.defer(function() guest.rmdir(dir) end)
  return dir
end

local function link(target, path)
  guest.symlink(target, path)
  guest.defer(function() guest.unlink(path) end)
end

local function ramdisk(name)
  local dev = guest.backstore { hba = "rd_mcp_0", name = name,
    control = { "rd_pages=1024" } }
  dev:enable()
  return dev
end

local function iblock(name)
  guest.sh "truncate -s 8M /tmp/lvm_test0"
  local loop = guest.sh "losetup --find --show /tmp/lvm_test0"
  guest.defer(function() guest.sh("losetup -d %s", loop) end)
  local dev = guest.backstore { hba = "iblock_0", name = name,
    control = { "udev_path=" .. loop } }
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
local function complaints(mark)
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
    guest.serve "--budget 2000"
    devices = { ramdisk "ram", iblock "lvm_test0",
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

--- A filled-in module with `dev` as LUN 0 of a portal group, and a session of
-- `initiator`; those in `acls` have an ACL.  Returns two functions: one runs a
-- command and returns its status, data and sense; the other logs another in.
local function lesson(p, dev, initiator, acls)
  local dir = load(("%s/lesson/%s/tcm_lesson/tcm_lesson.ko"):format(BUILT, p.name))
  local tpg = make(make(dir .. "/" .. p.wwn) .. "/tpgt_1")
  link(dev.dir, make(tpg .. "/lun/lun_0") .. "/port")
  for _, name in ipairs(acls) do
    link(tpg .. "/lun/lun_0", make(make(tpg .. "/acls/" .. name) .. "/lun_0")
      .. "/lun")
  end
  local nexus = tpg .. "/nexus"
  local function login(name)
    guest.try_write(nexus, "NULL")
    guest.write_file(nexus, p.login and p.login[name] or name)
  end
  login(initiator)

  local file = ("/sys/kernel/debug/tcm_lesson,%s,tpgt_1"):format(p.wwn)
  local function command(length, cdb, data)
    local line = ("0 %d %s"):format(length, cdb:gsub("%s", ""))
    if data then
      line = line .. " " .. data:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end)
    end
    guest.write_file(file, line)
    local answer = guest.read_file(file)
    return answer:match "^status (%x%x)\n", hex(answer:match "data (%x+)" or ""),
      answer:match "sense (%x+)"
  end
  return command, login
end

--- What READ FULL STATUS (SPC-4 6.15.5) says: TransportIDs to keys, the
-- TransportID of the holder, and the target port's relative identifier.
local function full_status(command)
  local status, data = command(1024, "5e 03 00 00 00 00 00 04 00 00")
  assert.equal("00", status)
  local stop = 9 + string.unpack(">I4", data, 5)
  local registered, holder, port, at = {}, nil, nil, 9
  while at < stop do
    local key, flags, relative, id
    key, flags, relative, id, at =
      string.unpack(">I8xxxxBxxxxxI2s4", data, at)
    registered[id] = key
    port = relative
    if flags & 1 == 1 then holder = id end
  end
  return registered, holder, port
end

describe("a module filled in as the example shows", function()
  local mark

  setup(function()
    guest.modprobe("target_core_mod", "target_core_user")
    if guest.sh "grep -c ' /sys/kernel/debug ' /proc/mounts || true" == "0" then
      guest.sh "mount -t debugfs debugfs /sys/kernel/debug"
    end
  end)
  before_each(function() mark = guest.log_mark() end)
  after_each(guest.cleanup)

  it("carries commands to a LUN, and its answers back", function()
    local p = PROTOCOLS[3]
    local command = lesson(p, ramdisk "ram", next(p.ids), {})

    local status, data = command(36, "12 00 00 00 24 00")
    assert.equal("00", status)
    assert.equal(36, #data)
    assert.equal("LIO-ORG RAMDISK-MCP", data:sub(9, 27))

    local block = ("tcmu"):rep(128)
    assert.equal("00", (command(512, "2a 00 00 00 00 07 00 00 01 00", block)))
    status, data = command(512, "28 00 00 00 00 07 00 00 01 00")
    assert.equal("00", status)
    assert.equal(block, data)

    local sense
    status, data, sense = command(0, "de ad 00 00 00 00")
    assert.equal("02", status)
    assert.equal("", data)
    -- ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE
    assert.matches("^70 00 05 .. .. .. .. .. .. .. .. .. 20 00",
      (sense:gsub("%x%x", "%0 ")))
    assert.equal("00", (command(0, "00 00 00 00 00 00")))

    -- the portal group goes with its session, as no ACL holds it
    guest.cleanup()
    assert.same({}, complaints(mark))
  end)

  it("does what the page of the example says", function()
    local blocks = {}
    for block in (guest.read_file "examples/mod-builder/README.md")
        :gmatch "```sh\n(.-)```" do
      blocks[#blocks + 1] = "set -e\n" .. block
    end
    local _, try, undo = table.unpack(blocks)
    guest.defer(function() guest.sh("%s", undo) end)
    local answer = guest.sh("cd %s/lesson/SAS; %s", BUILT, try)
    local status, data = answer:match "^status (%x%x)\ndata (%x+)$"
    assert.equal("00", status)
    assert.equal("LIO-ORG RAMDISK-MCP", hex(data):sub(9, 27))
    guest.cleanup()
    assert.same({}, complaints(mark))
  end)

  it("carries commands to a handler in Lua", function()
    guest.serve "--budget 2000"
    local p = PROTOCOLS[1]
    local dev = guest.device { config = "whoami", size = MiB }
    local command = lesson(p, dev, next(p.ids), {})
    local status, data = command(96, "12 00 00 00 60 00")
    assert.equal("00", status)
    assert.equal("ACME    Teaching disk   ", data:sub(9, 32))
    status, data = command(512, "28 00 00 00 00 00 00 00 01 00")
    assert.equal("00", status)
    assert.equal(("\0"):rep(512), data)
    guest.cleanup()
    assert.same({}, complaints(mark))
  end)

  for _, p in ipairs(PROTOCOLS) do
    it("stores persistent reservations with TransportIDs of " .. p.name, function()
      local dev = ramdisk "ram"
      dev:set("wwn/vpd_unit_serial", "spec-" .. p.name)
      local names = {}
      for name in pairs(p.ids) do names[#names + 1] = name end
      table.sort(names)
      local first, second = names[1], names[2]
      local command, login = lesson(p, dev, first, names)

      -- REGISTER both (SPC-4 6.16), RESERVE for the first, write exclusive
      local function register(key)
        local keys = string.pack(">I8I8I4Bxxx", 0, key, 0, 0x01)  -- APTPL
        assert.equal("00", (command(24, "5f 00 00 00 00 00 00 00 18 00", keys)))
      end
      login(second)
      register(0xBEEF)
      login(first)
      register(0xABCD)
      local keys = string.pack(">I8I8I8", 0xABCD, 0, 0)
      assert.equal("00", (command(24, "5f 01 01 00 00 00 00 00 18 00", keys)))
      local registered, holder, port = full_status(command)
      assert.same({ [p.ids[first]] = 0xABCD, [p.ids[second]] = 0xBEEF },
        registered)
      assert.equal(p.ids[first], holder)

      -- what the core keeps for the time after a loss of power
      local kept = guest.sh("cat /*/target/pr/aptpl_spec-%s", p.name)
      for name in pairs(p.ids) do
        assert.matches("initiator_node=" .. name .. "\n", kept, 1, true)
      end
      assert.matches("target_fabric=lesson\ntarget_node=" .. p.wwn .. "\n",
        kept, 1, true)

      -- REGISTER AND MOVE: the core reads the second one's TransportID.  (An
      -- initiator that only this, or SPEC_I_PT, makes known leaves the core's
      -- own reference counts wrong, in 6.1 and 6.12.)
      local list = string.pack(">I8I8xBI2s4", 0xABCD, 0xBEE0, 0, port,
        p.ids[second])
      assert.equal("00", (command(#list,
        ("5f 07 01 00 00 %08x 00"):format(#list), list)))
      registered, holder = full_status(command)
      assert.same({ [p.ids[first]] = 0xABCD, [p.ids[second]] = 0xBEE0 },
        registered)
      assert.equal(p.ids[second], holder)

      -- what the core tells of it in configfs
      local shown = dev:get "pr/res_pr_registered_i_pts"
      assert.matches("lesson Node: " .. first, shown, 1, true)
      assert.matches("lesson Node: " .. second, shown, 1, true)
      assert.matches("SPC-3 Reservation: lesson Initiator: " .. second,
        dev:get "pr/res_holder", 1, true)
      assert.matches("SPC-3 Reservation: lesson Target Node Endpoint: " .. p.wwn,
        dev:get "pr/res_pr_holder_tg_port", 1, true)

      -- the new holder is recognized: RESERVATION CONFLICT until it comes
      assert.equal("18", (command(512, "2a 00 00 00 00 07 00 00 01 00",
        ("x"):rep(512))))
      login(second)
      assert.equal("00", (command(512, "2a 00 00 00 00 07 00 00 01 00",
        ("x"):rep(512))))

      -- CLEAR
      keys = string.pack(">I8I8I8", 0xBEE0, 0, 0)
      assert.equal("00", (command(24, "5f 03 00 00 00 00 00 00 18 00", keys)))
      assert.same({}, (full_status(command)))
      guest.cleanup()
      assert.same({}, complaints(mark))
    end)
  end
end)
