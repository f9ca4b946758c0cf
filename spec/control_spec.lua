-- What the kernel is answered, and when: real policy, real files, a real event
-- loop.  The spec plays the kernel's end of netlink and the shards.
local devices = require "tcmu.devices"
local events = require "tcmu.events"
local files = require "tcmu.files"
local jobs = require "tcmu.jobs"
local recovery = require "tcmu.recovery"
local tree = require "spec.tree"
local uv = require "luv"

local ENOENT <const>, EAGAIN <const>, EBUSY <const>, EINVAL <const>,
  ESHUTDOWN <const>, ETIMEDOUT <const> = 2, 11, 16, 22, 108, 110

describe("tcmu.control", function()
  local root, held, replies, sent, lines, answers

  -- Lets time pass until fn() is true; fails after a second.
  local function settle(fn)
    local limit = uv.new_timer()
    limit:start(1000, 0, function() limit:close() end)
    while not fn() and not limit:is_closing() do uv.run "once" end
    if not limit:is_closing() then limit:close() end
    uv.run "nowait"
    assert.truthy(fn())
  end

  local function pass(ms)
    local over = false
    local timer = uv.new_timer()
    timer:start(ms, 0, function()
      timer:close()
      over = true
    end)
    while not over do uv.run "once" end
  end

  local function logged(pattern)
    for _, line in ipairs(lines) do
      if line:find(pattern, 1, true) then return true end
    end
    return false
  end

  -- The shards: answers[verb] is { status, why }, or false for silence.
  local pool = {}
  function pool.count() return 2 end
  function pool.send(_, shard, device, verb, fields)
    sent[#sent + 1] = { shard = shard, device = device, verb = verb,
                        fields = fields }
    local with = answers[verb]
    if with == false then return end
    held:message { device = device, verb = verb,
                   status = with and with[1] or 0, why = with and with[2] }
  end

  local function verbs()
    local list = {}
    for i, message in ipairs(sent) do list[i] = message.verb end
    return table.concat(list, " ")
  end

  local function backstore(name, config, minor, values)
    tree.add(root, tree.backstore("user_0/" .. name, values))
    tree.add(root, {
      [("uio/uio%d/name"):format(minor)] =
        ("tcm-user/0/%s/%s\n"):format(name, config),
      [("uio/uio%d/maps/map0/size"):format(minor)] = "0x40800000\n",
      [("dev/uio%d"):format(minor)] = "",
    })
  end

  local function event(command, name, config, minor, more)
    local e = {
      command = command, minor = minor, device_id = minor + 100,
      device = ("tcm-user/0/%s/%s"):format(name, config),
    }
    for key, value in pairs(more or {}) do e[key] = value end
    return e
  end

  local function take(e)
    jobs.start(held.log, events.take, held, e)
    return e
  end

  local function path(file) return root .. "/core/user_0/d/" .. file end

  -- One device "d" that is being served.
  local function serve()
    backstore("d", "ram/", 0)
    take(event("added", "d", "ram/", 0))
    settle(function() return #replies == 1 end)
    replies, sent = {}, {}
  end

  before_each(function()
    root = tree.make { ["proc/net/netlink"] = "" }
    replies, sent, lines, answers = {}, {}, {}, {}
    held = devices.new {
      netlink = {
        done = function(_, e, status)
          replies[#replies + 1] = { e, status }
          return true
        end,
        receive = function() return {} end,
        group = function() return 9 end,
      },
      pool = pool,
      log = function(level, who, text)
        lines[#lines + 1] = ("%s %s: %s"):format(level, who, text)
      end,
      io = files,
      handlers = { ram = "/handlers/ram.lua", file = "/handlers/file.lua" },
      limits = { answer = 60, patience = 60, stop = 200 },
      roots = {
        configfs = root, uio = root .. "/uio", dev = root .. "/dev",
        proc = root .. "/proc", parameters = root .. "/parameters",
      },
    }
  end)

  after_each(function()
    for _, record in pairs(held.by_id) do held:forget(record) end
    uv.run()
    tree.remove(root)
  end)

  describe("told of a new device", function()
    it("gives a shard all that it must know, and answers 0 after it", function()
      answers.add = false
      backstore("d", "file/path=/x;a=1", 3, {
        ["wwn/vpd_unit_serial"] = "T10 VPD Unit Serial Number: abc\n" })
      local e = take(event("added", "d", "file/path=/x;a=1", 3))
      settle(function() return #sent == 1 end)
      assert.same({
        handler = "/handlers/file.lua", options_text = "path=/x;a=1",
        config = "file/path=/x;a=1", name = "d", hba = "user_0",
        uio = root .. "/dev/uio3", map_size = 0x40800000,
        size = 1 << 26, block_size = 512, max_sectors = 2048, reservations = true,
        write_cache = true, cmd_time_out = 30, serial = "abc", vendor = "",
        product = "", revision = "", company_id = "001405",
      }, sent[1].fields)
      assert.same({}, replies)

      held:message { device = sent[1].device, verb = "add", status = 0 }
      assert.same({ { e, 0 } }, replies)
      assert.equal("1", tree.read(path "attrib/tmr_notification"))
    end)

    it("spreads devices over the shards", function()
      for minor = 0, 3 do
        backstore("d" .. minor, "ram/", minor)
        take(event("added", "d" .. minor, "ram/", minor))
      end
      settle(function() return #replies == 4 end)
      local per_shard = { 0, 0 }
      for _, m in ipairs(sent) do
        per_shard[m.shard] = per_shard[m.shard] + 1
      end
      assert.same({ 2, 2 }, per_shard)
    end)

    it("passes a refusal of the handler on, with its reason in the log",
       function()
      answers.add = { -EBUSY, "that file is in use" }
      backstore("d", "ram/", 0)
      local e = take(event("added", "d", "ram/", 0))
      settle(function() return #replies == 1 end)
      assert.same({ { e, -EBUSY } }, replies)
      assert.is_true(logged "that file is in use")
      assert.same({}, held.by_id)
    end)

    it("refuses a block size that no disk has, without asking a shard",
       function()
      backstore("d", "ram/", 0, { ["attrib/hw_block_size"] = "520\n" })
      local e = take(event("added", "d", "ram/", 0))
      settle(function() return #replies == 1 end)
      assert.same({ { e, -EINVAL } }, replies)
      assert.same({}, sent)
      assert.is_true(logged "hw_block_size 520")
    end)

    it("refuses once when the shard takes too long, and not again", function()
      answers.add = false
      backstore("d", "ram/", 0)
      local e = take(event("added", "d", "ram/", 0))
      settle(function() return #replies == 1 end)
      assert.same({ { e, -ETIMEDOUT } }, replies)
      assert.equal("add remove", verbs())
      held:message { device = sent[1].device, verb = "add", status = 0 }
      assert.equal(1, #replies)
    end)

    it("does not answer where the kernel does not wait", function()
      backstore("d", "ram/", 0, { ["attrib/nl_reply_supported"] = "-1\n" })
      take(event("added", "d", "ram/", 0))
      settle(function() return held:count "serving" == 1 end)
      assert.same({}, replies)
    end)

    it("answers nothing for a subtype of somebody else", function()
      backstore("d", "rbd/pool", 0)
      take(event("added", "d", "rbd/pool", 0))
      take(event("reconfig", "d", "rbd/pool", 0, { size = 4096 }))
      take(event("removed", "d", "rbd/pool", 0))
      pass(100)
      assert.same({}, replies)
      assert.same({}, sent)
    end)

    it("names an enable that nobody answers", function()
      backstore("d", "rbd/pool", 0)
      tree.add(root, {
        ["proc/71/comm"] = "sh\n",
        ["proc/71/task/71/stat"] = "71 (sh) D 1",
        ["proc/71/task/71/stack"] = "[<0>] tcmu_netlink_event_send+0x1\n",
        ["proc/71/fd/1"] = {
          link = "/sys/kernel/config/target/core/user_0/d/enable" },
      })
      take(event("added", "d", "rbd/pool", 0))
      settle(function() return logged "process 71 (sh) hangs in enable" end)
      assert.is_true(logged "echo 1 >reset_netlink")
    end)

    it("answers for subtypes that nobody has when it is alone", function()
      held.sole = true
      backstore("d", "rbd/pool", 0)
      local e = take(event("added", "d", "rbd/pool", 0))
      assert.same({ { e, -ENOENT } }, replies)
    end)
  end)

  describe("told of a change", function()
    before_each(serve)

    it("lets a device grow when its handler can", function()
      local e = take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      assert.same({ { e, 0 } }, replies)
      assert.same({ size = 1 << 27, force = false }, sent[1].fields)
    end)

    it("passes the handler's refusal on", function()
      answers.size = { -EINVAL, "the file system is full" }
      local e = take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      assert.same({ { e, -EINVAL } }, replies)
    end)

    it("refuses a size that ends within a block", function()
      take(event("reconfig", "d", "ram/", 0, { size = (1 << 26) + 100 }))
      assert.equal(-EINVAL, replies[1][2])
      assert.same({}, sent)
    end)

    it("refuses to shrink what is exported", function()
      tree.add(root, { ["core/user_0/d/info"] = "Status: ACTIVATED  Max\n" })
      take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(-EBUSY, replies[1][2])
      assert.same({}, sent)
      assert.is_true(logged "resize d 1048576 --force")
    end)

    it("shrinks what is exported if control has been told so before",
       function()
      tree.add(root, {
        ["core/user_0/d/info"] = "Status: ACTIVATED  Max\n",
        ["core/user_0/d/attrib/dev_size"] = "1048576\n",
      })
      take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(0, replies[1][2])
      assert.same({ size = 1 << 20, force = true }, sent[1].fields)
    end)

    it("shrinks what is not exported", function()
      take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(0, replies[1][2])
    end)

    it("passes write cache and config on", function()
      take(event("reconfig", "d", "ram/", 0, { write_cache = false }))
      take(event("reconfig", "d", "ram/", 0, { config = "ram/b=2\n" }))
      assert.equal("write_cache config", verbs())
      assert.same({ write_cache = false }, sent[1].fields)
      assert.same({ config = "ram/b=2" }, sent[2].fields)
      assert.equal(2, #replies)
    end)

    it("does not let a device change its handler", function()
      take(event("reconfig", "d", "ram/", 0, { config = "file/x" }))
      assert.equal(-EINVAL, replies[1][2])
      assert.same({}, sent)
    end)

    it("does one change after the other", function()
      answers.size = false
      take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      take(event("reconfig", "d", "ram/", 0, { write_cache = false }))
      assert.equal("size", verbs())
      held:message { device = sent[1].device, verb = "size", status = 0 }
      assert.equal("size write_cache", verbs())
    end)

    it("tells the shard of a serial that is written later", function()
      tree.add(root, { ["core/user_0/d/wwn/vpd_unit_serial"] =
                         "T10 VPD Unit Serial Number: late\n" })
      settle(function() return #sent > 0 and
        sent[#sent].fields.serial == "late" end)
      assert.equal("wwn", sent[1].verb)
    end)

    it("tells the shard of another cmd_time_out", function()
      tree.add(root, { ["core/user_0/d/attrib/cmd_time_out"] = "3\n" })
      settle(function() return #sent > 0 and
        sent[#sent].fields.cmd_time_out == 3 end)
      assert.equal("time_out", sent[1].verb)
    end)
  end)

  describe("with target port groups", function()
    local function group(device, name, values)
      tree.add(root, tree.group("user_0/" .. device, name, values))
    end

    -- Waits until the shard has been told of these groups.
    local function told(groups)
      settle(function()
        return sent[1] and sent[#sent].fields.groups == groups
      end)
      assert.equal("alua", sent[#sent].verb)
      sent = {}
    end

    before_each(function()
      group("d", "default_tg_pt_gp", {})
      backstore("d", "ram/", 0)
      take(event("added", "d", "ram/", 0))
      settle(function() return #replies == 1 end)
    end)

    it("gives them to the shard with the device", function()
      assert.equal("0 0 0 223 0 1 1", sent[1].fields.groups)
      assert.equal("add", verbs())
    end)

    it("tells of a state that is written", function()
      group("d", "default_tg_pt_gp", { alua_access_state = "2\n" })
      told "0 2 0 223 0 1 1"
    end)

    it("tells of a group that is new, changes and goes", function()
      group("d", "new", { tg_pt_gp_id = "7\n" })
      told "0 0 0 223 0 1 1;7 0 0 223 0 1 1"
      group("d", "new", { tg_pt_gp_id = "7\n", alua_access_state = "3\n" })
      told "0 0 0 223 0 1 1;7 3 0 223 0 1 1"
      os.execute(("rm -r %s/core/user_0/d/alua/new"):format(root))
      told "0 0 0 223 0 1 1"
    end)

    it("says nothing twice", function()
      sent = {}
      group("d", "default_tg_pt_gp", {})
      pass(50)
      assert.same({}, sent)
    end)

    it("tells the devices that change with it", function()
      group("e", "default_tg_pt_gp", {})
      backstore("e", "ram/", 1, { alua_lu_gp = "LU Group Alias: pair\n" })
      take(event("added", "e", "ram/", 1))
      settle(function() return #replies == 2 end)
      tree.add(root, {
        ["core/user_0/d/alua_lu_gp"] = "LU Group Alias: pair\n",
        ["core/alua/lu_gps/pair/members"] = "user_0/d\n\0user_0/e\n\0",
      })
      sent = {}
      -- What the kernel does to e before the write to d is over.
      local _, e = next(held.by_id, (next(held.by_id)))
      e.watch:stop()
      group("e", "default_tg_pt_gp", { alua_access_state = "2\n" })
      group("d", "default_tg_pt_gp", { alua_access_state = "2\n" })
      settle(function() return #sent == 2 end)
      assert.equal("alua alua", verbs())
      assert.not_equal(sent[1].device, sent[2].device)
    end)

    it("writes what an initiator sets, and says when it is done", function()
      sent = {}
      local id = next(held.by_id)
      held:message { device = id, verb = "set_port_groups", status = 0,
                     why = "0 1" }
      assert.equal("1", tree.read(path "alua/default_tg_pt_gp/" ..
                                  "alua_access_state"))
      assert.equal(0, sent[1].fields.set)
      assert.equal("0 1 0 223 0 1 1", sent[1].fields.groups)

      held:message { device = id, verb = "set_port_groups", status = 0,
                     why = "0 2;9 1" }
      assert.equal(5, sent[2].fields.set)
      assert.equal("there is no target port group 9", sent[2].fields.why)
      assert.equal("0 2 0 223 0 1 1", sent[2].fields.groups)
    end)
  end)

  describe("for what devices remember", function()
    local keep <const> = require "tcmu.keep"

    before_each(function() uv.os_setenv("STATE_DIRECTORY", root .. "/state") end)
    after_each(function() uv.os_unsetenv "STATE_DIRECTORY" end)

    it("makes a directory that nobody else can read, once", function()
      assert.is_true(keep.prepare())
      assert.equal("700", ("%o"):format(uv.fs_stat(root .. "/state").mode &
                                        tonumber("777", 8)))
      assert.is_true(keep.prepare())
    end)

    it("says what is refused when it cannot", function()
      uv.os_setenv("STATE_DIRECTORY", root .. "/no/state")
      local ok, why = keep.prepare()
      assert.is_nil(ok)
      assert.matches("SANITIZE", why)
      assert.matches(root .. "/no/state", why, 1, true)
    end)
  end)

  describe("told of a removal", function()
    before_each(serve)

    it("has the shard let go, then answers 0 and forgets it", function()
      answers.remove = false
      local e = take(event("removed", "d", "ram/", 0))
      assert.equal("remove", verbs())
      assert.same({}, replies)
      held:message { device = sent[1].device, verb = "remove", status = 0 }
      assert.same({ { e, 0 } }, replies)
      assert.same({}, held.by_id)
    end)

    it("does not wait for what else is being done to it", function()
      answers.size = false
      take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      local e = take(event("removed", "d", "ram/", 0))
      assert.same({ { e, 0 } }, replies)
    end)

    it("answers although its shard does not", function()
      answers.remove = false
      local e = take(event("removed", "d", "ram/", 0))
      settle(function() return #replies == 1 end)
      assert.same({ { e, 0 } }, replies)
    end)
  end)

  describe("starting", function()
    local function start()
      local over = false
      jobs.start(held.log, function()
        recovery.answer(held)
        recovery.take_over(held)
        over = true
      end)
      settle(function() return over end)
    end

    it("takes over its devices and lets commands in", function()
      backstore("d", "ram/", 0)
      backstore("other", "rbd/x", 1)
      start()
      assert.equal("add", verbs())
      assert.equal("1", tree.read(path "action/reset_ring"))
      assert.equal("0", tree.read(path "action/block_dev"))
      assert.equal("unblocked\n",
                   tree.read(root .. "/core/user_0/other/action/block_dev"))
      assert.same({}, replies)
    end)

    it("leaves a device blocked that its handler refuses", function()
      answers.add = { -EINVAL, "no such file" }
      backstore("d", "ram/", 0)
      start()
      assert.equal("1", tree.read(path "action/block_dev"))
      assert.is_true(logged "no such file; left blocked")
      assert.equal(1, held:count "refused")
    end)

    local function hanging(file, stack)
      tree.add(root, {
        ["proc/71/comm"] = "sh\n",
        ["proc/71/task/71/stat"] = "71 (sh) D 1",
        ["proc/71/task/71/stack"] =
          "[<0>] tcmu_netlink_event_send+0x1\n" .. (stack or ""),
        ["proc/71/fd/1"] = { link = file and
          "/sys/kernel/config/target/core/user_0/d/" .. file or "/dev/null" },
      })
    end

    it("answers an enable that a dead process has left", function()
      backstore("d", "ram/", 0)
      hanging "enable"
      jobs.start(held.log, recovery.answer, held)
      settle(function() return #replies == 1 end)
      assert.equal("added", replies[1][1].command)
      assert.equal(7, replies[1][1].device_id)
      assert.equal(0, replies[1][2])
      assert.equal("add", verbs())
    end)

    it("does not answer twice what it has received as well", function()
      backstore("d", "ram/", 0)
      hanging "enable"
      local e = event("added", "d", "ram/", 0)
      held.netlink.receive = function() return { e } end
      jobs.start(held.log, recovery.answer, held)
      settle(function() return #replies == 1 end)
      pass(20)
      assert.same({ { e, 0 } }, replies)
    end)

    it("has a left change tried again", function()
      backstore("d", "ram/", 0)
      hanging "attrib/dev_size"
      jobs.start(held.log, recovery.answer, held)
      assert.equal(-EAGAIN, replies[1][2])
      assert.equal("reconfig", replies[1][1].command)
    end)

    it("resets netlink for an rmdir that nobody will answer", function()
      hanging(nil, "[<0>] vfs_rmdir+0x1\n")
      tree.add(root, { ["parameters/block_netlink"] = "0\n",
                       ["parameters/reset_netlink"] = "" })
      jobs.start(held.log, recovery.answer, held)
      assert.equal("1", tree.read(root .. "/parameters/reset_netlink"))
      assert.equal("1", tree.read(root .. "/parameters/block_netlink"))
      pass(600)
      assert.equal("0", tree.read(root .. "/parameters/block_netlink"))
    end)

    it("leaves an rmdir alone while another program listens", function()
      hanging(nil, "[<0>] vfs_rmdir+0x1\n")
      tree.add(root, { ["parameters/reset_netlink"] = "",
        ["proc/net/netlink"] = "00 16  512  00000100 0\n" })
      jobs.start(held.log, recovery.answer, held)
      assert.equal("", tree.read(root .. "/parameters/reset_netlink"))
      assert.is_true(logged "hangs in rmdir")
    end)
  end)

  describe("stopping", function()
    before_each(serve)

    local function stop()
      local blocked, clean
      jobs.start(held.log, function() blocked, clean = held:stop() end)
      settle(function() return blocked end)
      return blocked, clean
    end

    it("blocks the devices before the shards finish", function()
      local state
      answers.stop = false
      local send = pool.send
      pool.send = function(...)
        state = tree.read(path "action/block_dev")
        send(...)
        held:message { device = sent[1].device, verb = "stop", status = 0 }
      end
      finally(function() pool.send = send end)
      local blocked, clean = stop()
      assert.equal("1", state)
      assert.equal(1, blocked)
      assert.is_true(clean)
    end)

    it("says so when a shard does not come to an end", function()
      answers.stop = false
      local _, clean = stop()
      assert.is_false(clean)
      assert.is_true(logged "did not 'stop'")
    end)

    it("refuses new devices, and does not touch configfs of one that goes",
       function()
      answers.stop = false
      local e = event("removed", "d", "ram/", 0)
      answers.remove = false
      take(e)
      local over = false
      jobs.start(held.log, function()
        held:stop()
        over = true
      end)
      assert.equal("unblocked\n", tree.read(path "action/block_dev"))
      backstore("new", "ram/", 1)
      local added = take(event("added", "new", "ram/", 1))
      settle(function() return over and #replies == 2 end)
      assert.same({ added, -ESHUTDOWN }, replies[1])
      assert.same({ e, 0 }, replies[2])
    end)
  end)
end)
