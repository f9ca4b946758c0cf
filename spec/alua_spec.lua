--- Target port groups: how control reads them from configfs, and what a device
--- answers with them.
local configfs = require "tcmu.configfs"
local files = require "tcmu.files"
local hex = require "spec.hex"
local jobs = require "tcmu.jobs"
local luns = require "tcmu.luns"
local port_groups = require "tcmu.port_groups"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local stage = require "spec.stage"
local tree = require "spec.tree"
local uv = require "luv"

local make = scsi.cdb

describe("a disk with port groups", function()
  -- 17 cannot be set by initiators.
  local GROUPS <const> = "16 0 1 143 0 1 1 1 2;17 2 0 15 1 1 0 3"
  local dev

  before_each(function() dev = assert(sim.device "handlers/ram.lua") end)
  after_each(function() dev:close() end)

  local function tpgs()
    return dev:cmd(make.inquiry { length = 36 }).data:byte(6) >> 4 & 3
  end

  it("has the commands only while there are groups", function()
    local command = make.report_target_port_groups { length = 64 }
    assert.has.sense(dev:cmd(command), scsi.INVALID_FIELD_IN_CDB, 1, 4)
    assert.equal(0, tpgs())
    dev:change("alua", { groups = GROUPS })
    assert.is.good(dev:cmd(command))
    assert.equal(3, tpgs())
    dev:change("alua", { groups = "17 2 0 15 1 1 0 3" })
    assert.equal(1, tpgs())
    dev:change("alua", {})
    assert.has.sense(dev:cmd(command), scsi.INVALID_FIELD_IN_CDB, 1, 4)
  end)

  it("reports them", function()
    dev:change("alua", { groups = GROUPS })
    local body = "808f0010" .. "00000002" .. "00000001" .. "00000002"
                 .. "020f0011" .. "00010001" .. "00000003"
    assert.equal("0000001c" .. body, hex(dev:cmd(
      make.report_target_port_groups { length = 64 }).data))
    assert.equal("00000020" .. "10000000" .. body, hex(dev:cmd(
      make.report_target_port_groups { length = 64,
                                       parameter_data_format = 1 }).data))
  end)

  describe("that an initiator sets", function()
    local function set(...)
      local list = "\0\0\0\0"
      for _, descriptor in ipairs { ... } do
        list = list .. string.pack(">BxI2", descriptor[1], descriptor[2])
      end
      return dev:submit(make.set_target_port_groups { length = #list }, list)
    end

    -- What control has been asked to write.
    local function asked()
      local key = dev.id .. "set_port_groups"
      dev:run(function() return dev.host.reports[key] end)
      local report = dev.host.reports[key]
      dev.host.reports[key] = nil
      return report and report.why
    end

    before_each(function() dev:change("alua", { groups = GROUPS }) end)

    it("are written by control before the command is answered", function()
      local command = set { 2, 16 }
      assert.equal("16 2", asked())
      assert.is_nil(command.result)
      dev:change("alua", { groups = GROUPS:gsub("^16 0", "16 2"), set = 0 })
      assert.is.good(dev:wait(command))
      local data = dev:cmd(make.report_target_port_groups { length = 64 }).data
      assert.equal(2, data:byte(5) & 0x0F)
    end)

    it("stay as they are when configfs refuses", function()
      local command = set { 2, 16 }
      asked()
      dev:change("alua", { groups = GROUPS, set = 22, why = "no" })
      assert.has.sense(dev:wait(command),
                       scsi.SET_TARGET_PORT_GROUPS_COMMAND_FAILED)
    end)

    it("are answered for in turn, also when one has been aborted", function()
      local first, second = set { 2, 16 }, set { 1, 16 }
      asked()
      dev:abort(first)
      assert.has.status(dev:wait(first), 0x40)
      dev:change("alua", { groups = GROUPS, set = 22, why = "the first" })
      assert.is_nil(second.result)
      dev:change("alua", { groups = GROUPS, set = 0 })
      assert.is.good(dev:wait(second))
    end)

    it("are not asked for if the list is wrong", function()
      local bad <const> = scsi.INVALID_FIELD_IN_PARAMETER_LIST
      for _, descriptor in ipairs { { 0, 17 }, { 0, 18 }, { 14, 16 },
                                    { 5, 16 } } do
        assert.has.sense(dev:wait(set(descriptor)), bad)
      end
      assert.is.good(dev:wait(set()))
      assert.has.sense(dev:cmd(make.set_target_port_groups { length = 6 },
                               ("\0"):rep(6)),
                       scsi.INVALID_FIELD_IN_CDB, 6)
      assert.is_nil(asked())
    end)
  end)
end)

describe("a port's designators", function()
  local function page(port, code)
    local dev <close> = assert(sim.device "handlers/ram.lua")
    dev:change("alua", { groups = "0 0 0 143 0 1 1 1", port = port })
    return dev:cmd(make.inquiry { evpd = true, page_code = code or 0x83,
                                  length = 252 })
  end

  it("name the transport that the port's name belongs to", function()
    assert.matches("6194000400000007" .. "6195000400000003" .. "63980018"
                   .. hex "naa.6001405100000001\0\0\0\0",
                   hex(page("3 7 naa.6001405100000001").data), 1, true)
  end)

  it("do not number a port that the kernel has not numbered", function()
    local name <const> = hex "naa.6001405100000001\0\0\0\0"
    assert.equal("6195000400000003" .. "63980018" .. name,
                 hex(page("3 0 naa.6001405100000001").data:sub(5)))
    assert.has.sense(page("3 0 naa.6001405100000001", 0x88),
                     scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("are two, and there is no page 88h, where it has none that SCSI knows",
     function()
    local result = page "3 7 "
    assert.equal("0114000400000007" .. "0115000400000003",
                 hex(result.data:sub(5)))
    assert.has.sense(page("3 7 ", 0x88), scsi.INVALID_FIELD_IN_CDB, 2)
  end)
end)

describe("port groups in configfs", function()
  local root

  before_each(function() root = tree.make {} end)
  after_each(function() tree.remove(root) end)

  local function device(name) return configfs.device("user_0", name, root) end

  local function group(name, values)
    tree.add(root, tree.group("user_0/d", name, values))
  end

  local function lun(at, indx)
    tree.add(root, { [at .. "/statistics/scsi_port/indx"] = indx .. "\n" })
  end

  it("are read with states, abilities and ports, by id", function()
    group("second", {
      tg_pt_gp_id = "17\n", alua_access_state = "2\n", preferred = "1\n",
      alua_access_status = "Altered by Explicit STPG\n",
      alua_access_type = "Implicit\n", alua_support_offline = "0\n",
      alua_support_lba_dependent = "0\n",
      members = "iSCSI/iqn.2026-01.lab:t/tpgt_1/lun_3\n\0" ..
                "loopback/naa.6001405000000001/tpgt_2/lun_0\n\0",
    })
    group("default_tg_pt_gp", {})
    group("unfinished", { tg_pt_gp_id = "" })
    lun("iscsi/iqn.2026-01.lab:t/tpgt_1/lun/lun_3", 1)
    lun("loopback/naa.6001405000000001/tpgt_2/lun/lun_0", 2)
    assert.same({ groups = "0 0 0 223 0 1 1;17 2 1 143 1 1 0 1 2" },
                port_groups.read(device "d"))
  end)

  it("name the port if there is one only", function()
    local function port(member, at)
      group("g", { tg_pt_gp_id = "5\n", members = member .. "\n\0" })
      lun(at, 9)
      return port_groups.read(device "d").port
    end
    assert.equal("5 9 iqn.2026-01.lab:t,t,0x000a",
                 port("iSCSI/iqn.2026-01.lab:t/tpgt_10/lun_0",
                      "iscsi/iqn.2026-01.lab:t/tpgt_10/lun/lun_0"))
    assert.equal("5 9 naa.500140500000000A",
                 port("loopback/naa.500140500000000a/tpgt_1/lun_0",
                      "loopback/naa.500140500000000a/tpgt_1/lun/lun_0"))
    assert.equal("5 9 ", port("qla2xxx/21:00:00:24:ff:31:4c:48/tpgt_1/lun_0",
                      "qla2xxx/21:00:00:24:ff:31:4c:48/tpgt_1/lun/lun_0"))
  end)

  it("do not list a port that has no number", function()
    group("g", { tg_pt_gp_id = "5\n",
                 members = "loopback/naa.6001405000000001/tpgt_1/lun_0\n\0" })
    lun("loopback/naa.6001405000000001/tpgt_1/lun/lun_0", 0)
    assert.same({ groups = "5 0 0 223 0 1 1",
                  port = "5 0 naa.6001405000000001" },
                port_groups.read(device "d"))
  end)

  it("are nobody's to set where configfs would refuse it", function()
    group("g", { tg_pt_gp_id = "5\n", alua_access_type = "Explicit\n" })
    assert.equal("5 0 0 223 0 0 0", port_groups.read(device "d").groups)
  end)

  it("do not exist for a device on which the core takes no part", function()
    group("g", {})
    tree.add(root, { ["core/user_0/d/attrib/alua_support"] = "0\n" })
    assert.same({}, port_groups.read(device "d"))
  end)

  it("are set by id, and told to have been set by a command", function()
    group("a", { tg_pt_gp_id = "1\n" })
    group("b", { tg_pt_gp_id = "2\n" })
    assert.is_true(port_groups.set(device "d", 2, 3))
    local at = root .. "/core/user_0/d/alua/"
    assert.equal("3", tree.read(at .. "b/alua_access_state"))
    assert.equal("1", tree.read(at .. "b/alua_access_status"))
    assert.equal("0\n", tree.read(at .. "a/alua_access_state"))
    local ok, why = port_groups.set(device "d", 3, 3)
    assert.is_nil(ok)
    assert.equal("there is no target port group 3", why)
  end)

  it("change with those of the same logical unit group", function()
    tree.add(root, {
      ["core/user_0/d/alua_lu_gp"] =
        "LU Group Alias: pair\nLU Group ID: 4\n",
      ["core/user_0/e/alua_lu_gp"] =
        "LU Group Alias: default_lu_gp\nLU Group ID: 0\n",
      ["core/alua/lu_gps/pair/members"] = "user_0/d\n\0user_1/x\n\0",
      ["core/alua/lu_gps/default_lu_gp/members"] = "user_0/e\n\0user_1/y\n\0",
    })
    assert.same({ "user_1/x" }, port_groups.peers(device "d"))
    assert.same({}, port_groups.peers(device "e"))
    assert.same({}, port_groups.peers(device "none"))
  end)
end)

describe("LUNs", function()
  local root, seen, watched

  local function start(io)
    jobs.start(function(_, _, text) error(text) end, function()
      watched = luns.start {
        root = root, io = io or files,
        log = function(_, _, text) seen[#seen + 1] = text end,
        changed = function(device) seen[#seen + 1] = device end,
      }
    end)
  end

  local function watches()
    local all = {}
    uv.walk(function(handle)
      if uv.handle_get_type(handle) == "fs_event" and
         not uv.is_closing(handle) then
        table.insert(all, handle)
      end
    end)
    return all
  end

  -- Turns the loop until this has been told, and nothing else.
  local function told(...)
    local want = { ... }
    local limit = uv.new_timer()
    limit:start(2000, 0, function() limit:close() end)
    while #seen < #want and not limit:is_closing() do uv.run "once" end
    if not limit:is_closing() then limit:close() end
    uv.run "nowait"
    assert.same(want, seen)
    seen = {}
  end

  local function link(at, device)
    tree.add(root, { [at .. "/x"] = { link =
      "../../../../../../target/core/" .. device } })
  end

  before_each(function()
    root = tree.make { ["core/user_0/d/"] = "", ["version"] = "" }
    seen, watched = {}, nil
  end)
  after_each(function()
    if watched then watched:stop() end
    for _, left in ipairs(watches()) do left:close() end
    uv.run()
    tree.remove(root)
  end)

  it("are found that were there before", function()
    link("loopback/naa.1/tpgt_1/lun/lun_0", "user_0/d")
    link("loopback/naa.1/tpgt_1/lun/lun_1", "fileio_0/f")
    start()
    told "user_0/d"
  end)

  it("are seen to come, below whatever is new, and to go", function()
    start()
    told()
    tree.add(root, { ["iscsi/iqn.x/tpgt_1/lun/lun_0/"] = "" })
    uv.run "nowait"
    link("iscsi/iqn.x/tpgt_1/lun/lun_0", "user_0/d")
    told "user_0/d"
    os.remove(root .. "/iscsi/iqn.x/tpgt_1/lun/lun_0/x")
    told "user_0/d"
    link("iscsi/iqn.x/tpgt_1/lun/lun_0", "user_0/e")
    told "user_0/e"
    tree.add(root, { ["iscsi/iqn.x/tpgt_1/lun/lun_1/"] = "" })
    uv.run "nowait"
    link("iscsi/iqn.x/tpgt_1/lun/lun_1", "user_0/f")
    told "user_0/f"
  end)

  it("are seen to join another port group", function()
    tree.add(root, { ["loopback/n/tpgt_1/lun/lun_0/alua_tg_pt_gp"] = "" })
    link("loopback/n/tpgt_1/lun/lun_0", "user_0/d")
    start()
    told "user_0/d"
    tree.add(root, { ["loopback/n/tpgt_1/lun/lun_0/alua_tg_pt_gp"] = "g" })
    told "user_0/d"
  end)

  it("are seen to get a number when their target is enabled", function()
    tree.add(root, { ["iscsi/n/tpgt_1/enable"] = "0",
                     ["iscsi/n/tpgt_1/attrib"] = "" })
    link("iscsi/n/tpgt_1/lun/lun_0", "user_0/d")
    start()
    told "user_0/d"
    for _, what in ipairs { "attrib", "enable" } do
      local f <close> = assert(io.open(root .. "/iscsi/n/tpgt_1/" .. what, "r+"))
      f:write "1"
    end
    told "user_0/d"
  end)

  it("are seen when a target has gone and come again", function()
    link("loopback/naa.1/tpgt_1/lun/lun_0", "user_0/d")
    start()
    told "user_0/d"
    os.execute("rm -r " .. root .. "/loopback")
    told "user_0/d"
    link("loopback/naa.1/tpgt_1/lun/lun_0", "user_0/d")
    told "user_0/d"
  end)

  describe("that are looked at slowly", function()
    local held                          -- what lets each look answer

    -- As threads do it: answers come when, and in the order, that they like.
    local function slow(verb)
      held = {}
      local io <const> = { list = files.list, links = files.links }
      io[verb] = function(path)
        local before <const> = files[verb](path)
        if not held then return before end
        jobs.wait(20000, function(wake) table.insert(held, wake) end)
        return verb == "list" and files.list(path) or before
      end
      return io
    end

    after_each(function()
      local rest <const> = held or {}
      held = nil
      for _, answer in ipairs(rest) do answer() end
    end)

    local function looks(n)
      stage.settle(function() return #held == n end)
    end

    it("are seen to go though an old answer came after a new one", function()
      tree.add(root, { ["iscsi/n/tpgt_1/lun/lun_0/"] = "" })
      start(slow "links")
      link("iscsi/n/tpgt_1/lun/lun_0", "user_0/d")
      looks(2)
      held[2]()
      told "user_0/d"
      held[1]()
      told()
      os.remove(root .. "/iscsi/n/tpgt_1/lun/lun_0/x")
      looks(3)
      held[3]()
      told "user_0/d"
    end)

    it("are seen to have gone while they were looked at", function()
      link("iscsi/n/tpgt_1/lun/lun_0", "user_0/d")
      start(slow "links")
      os.execute("rm -r " .. root .. "/iscsi")
      stage.settle(function() return #watches() == 1 end)
      held[1]()
      told "user_0/d"
    end)

    it("are watched once, and no more when they have gone", function()
      local io <const> = slow "list"
      tree.add(root, { ["iscsi/"] = "" })
      start(io)
      held[1]()
      looks(2)
      held[2]()
      stage.settle(function() return watched end)
      local before <const> = #watches()
      tree.add(root, { ["iscsi/n/"] = "" })
      looks(3)
      tree.add(root, { ["iscsi/n/tpgt_1/lun/"] = "" })
      looks(4)
      held[3]()                         -- has tpgt_1 too, by now
      local last <const> = held
      held = nil
      for i = 4, #last do last[i]() end
      link("iscsi/n/tpgt_1/lun/lun_0", "user_0/d")
      told "user_0/d"
      os.execute("rm -r " .. root .. "/iscsi/n")
      stage.settle(function() return #watches() == before end)
    end)
  end)
end)
