-- vm: time=300 kernel=6.1,6.12
--- Generated fabric modules with the additions of examples/mod-builder, which
-- carry commands: commands, sessions and TransportIDs meet the core.
-- spec/mod_builder/modules has built them on the host, as tcm_lesson.

local fabric = require "spec.vm.fabric"
local guest = require "spec.vm.guest"
local protocols = require "spec.vm.protocols"

local MiB <const> = 1 << 20
local BUILT <const>, PROTOCOLS <const> = fabric.BUILT, protocols.list

local complaints <const>, hex <const>, link <const>, make <const> =
  fabric.complaints, protocols.hex, fabric.link, fabric.make

--- A filled-in module with `dev` as LUN 0 of a portal group, and a session of
-- `initiator`; those in `acls` have an ACL.  Returns two functions: one runs a
-- command and returns its status, data and sense; the other logs another in.
local function lesson(p, dev, initiator, acls)
  local dir = fabric.load(("%s/lesson/%s/tcm_lesson/tcm_lesson.ko")
                          :format(BUILT, p.name))
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
    local command = lesson(p, fabric.ramdisk "ram", next(p.ids), {})

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
    guest.serve()
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
      local dev = fabric.ramdisk "ram"
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
