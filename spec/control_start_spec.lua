-- How control starts among devices that others have left.
local jobs = require "tcmu.jobs"
local recovery = require "tcmu.recovery"
local stage = require "spec.stage"
local tree = require "spec.tree"
local uv = require "luv"

local EAGAIN <const>, EBUSY <const>, EINVAL <const> = 11, 16, 22

local event <const>, pass <const>, settle <const> = stage.event, stage.pass,
  stage.settle

describe("tcmu.control", function()
  local s

  before_each(function() s = stage.make() end)
  after_each(function() s:clean() end)

  describe("for what devices remember", function()
    local keep <const> = require "tcmu.keep"

    before_each(function()
      uv.os_setenv("STATE_DIRECTORY", s.root .. "/state")
    end)
    after_each(function() uv.os_unsetenv "STATE_DIRECTORY" end)

    it("makes a directory that nobody else can read, once", function()
      assert.is_true(keep.prepare())
      assert.equal("700", ("%o"):format(uv.fs_stat(s.root .. "/state").mode
                                        & tonumber("777", 8)))
      assert.is_true(keep.prepare())
    end)

    it("says what is refused when it cannot", function()
      uv.os_setenv("STATE_DIRECTORY", s.root .. "/no/state")
      local ok, why = keep.prepare()
      assert.is_nil(ok)
      assert.matches("SANITIZE", why)
      assert.matches(s.root .. "/no/state", why, 1, true)
    end)
  end)

  describe("starting", function()
    local function start()
      local over = false
      jobs.start(s.held.log, function()
        recovery.answer(s.held)
        recovery.take_over(s.held)
        over = true
      end)
      settle(function() return over end)
    end

    it("takes over its devices and lets commands in", function()
      s:backstore("d", "ram/", 0)
      s:backstore("other", "rbd/x", 1)
      start()
      assert.equal("add", s:verbs())
      assert.equal("1", tree.read(s:path "action/reset_ring"))
      assert.equal("0", tree.read(s:path "action/block_dev"))
      assert.equal("unblocked\n",
                   tree.read(s.root .. "/core/user_0/other/action/block_dev"))
      assert.same({}, s.replies)
    end)

    -- What a killed process has begun to read or write is not over yet.
    it("waits for a file that is in use a moment longer", function()
      s.answers.add = { -EBUSY, "in use", times = 3 }
      s:backstore("d", "ram/", 0)
      start()
      assert.equal("add add add add", s:verbs())
      assert.equal("0", tree.read(s:path "action/block_dev"))
      assert.equal(1, s.held:count "serving")
    end)

    it("does not wait for such a file for ever", function()
      s.held.limits.in_use = 120
      s.answers.add = { -EBUSY, "in use" }
      s:backstore("d", "ram/", 0)
      start()
      assert.equal("1", tree.read(s:path "action/block_dev"))
      assert.is_true(s:logged "in use; left blocked")
    end)

    it("leaves a device blocked that its handler refuses", function()
      s.answers.add = { -EINVAL, "no such file" }
      s:backstore("d", "ram/", 0)
      start()
      assert.equal("1", tree.read(s:path "action/block_dev"))
      assert.is_true(s:logged "no such file; left blocked")
      assert.equal(1, s.held:count "refused")
    end)

    local function hanging(file, stack)
      tree.add(s.root, {
        ["proc/71/comm"] = "sh\n",
        ["proc/71/task/71/stat"] = "71 (sh) D 1",
        ["proc/71/task/71/stack"] =
          "[<0>] tcmu_netlink_event_send+0x1\n" .. (stack or ""),
        ["proc/71/fd/1"] = { link = file and
          "/sys/kernel/config/target/core/user_0/d/" .. file or "/dev/null" },
      })
    end

    it("answers an enable that a dead process has left", function()
      s:backstore("d", "ram/", 0)
      hanging "enable"
      jobs.start(s.held.log, recovery.answer, s.held)
      settle(function() return #s.replies == 1 end)
      assert.equal("added", s.replies[1][1].command)
      assert.equal(7, s.replies[1][1].device_id)
      assert.equal(0, s.replies[1][2])
      assert.equal("add", s:verbs())
    end)

    -- What is known by its minor is let go when its removal is heard of.
    local function goes()
      local e = s:take(event("removed", "d", "ram/", 0))
      settle(function() return #s.replies == 2 end)
      assert.same({ e, 0 }, s.replies[2])
      assert.equal("add remove", s:verbs())
      assert.same({}, s.held.by_minor)
    end

    it("knows a device that was busy when its left enable was found", function()
      s.held.limits.patience = 5000
      s.enabling.d = true
      s:backstore("d", "ram/", 0)
      hanging "enable"
      s:hold(0, 2)
      start()
      settle(function() return #s.replies == 1 end)
      assert.equal(0, s.replies[1][2])
      goes()
    end)

    it("knows a device that is enabled while it looks", function()
      s.held.limits.patience = 5000
      s.enabling.d = true
      s:backstore("d", "ram/", 0)
      s:hold(0, 1)
      local over = false
      jobs.start(s.held.log, function()
        recovery.take_over(s.held)
        over = true
      end)
      local e = s:take(event("added", "d", "ram/", 0))
      settle(function() return over and #s.replies == 1 end)
      assert.same({ e, 0 }, s.replies[1])
      goes()
    end)

    -- Time passes, in a job, before a file is written.
    local function slow_files()
      local write <const> = s.held.io.write
      s.held.io.write = function(...)
        jobs.sleep(30)
        return write(...)
      end
    end

    it("answers an enable that it took for an old device's", function()
      s.enabling.d = true
      s:backstore("d", "ram/", 0)
      slow_files()
      jobs.start(s.held.log, recovery.take_over, s.held)
      local e = s:take(event("added", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
      assert.same({ e, 0 }, s.replies[1])
      goes()
    end)

    it("takes a device over once that nobody waits for", function()
      s:backstore("d", "ram/", 0, { ["attrib/nl_reply_supported"] = "-1\n" })
      slow_files()
      jobs.start(s.held.log, recovery.take_over, s.held)
      s:take(event("added", "d", "ram/", 0))
      settle(function()
        return tree.read(s:path "action/block_dev") == "0"
      end)
      assert.equal("add", s:verbs())
      assert.equal(1, s.held:count "serving")
    end)

    it("does not serve a device that goes while it is taken over", function()
      s:backstore("d", "ram/", 0)
      slow_files()
      jobs.start(s.held.log, recovery.take_over, s.held)
      local e = s:take(event("removed", "d", "ram/", 0))
      pass(150)
      assert.same({ { e, 0 } }, s.replies)
      assert.equal("", s:verbs())
    end)

    it("does not serve a device that goes while its file is in use", function()
      s.answers.add = { -EBUSY, "in use" }
      s:backstore("d", "ram/", 0)
      jobs.start(s.held.log, recovery.take_over, s.held)
      settle(function() return s:verbs() ~= "" end)
      s:take(event("removed", "d", "ram/", 0))
      local before <const> = s:verbs()
      pass(150)
      assert.equal(before, s:verbs())
    end)

    it("does not answer twice what it has received as well", function()
      s:backstore("d", "ram/", 0)
      hanging "enable"
      local e = event("added", "d", "ram/", 0)
      s.held.netlink.receive = function() return { e } end
      jobs.start(s.held.log, recovery.answer, s.held)
      settle(function() return #s.replies == 1 end)
      pass(20)
      assert.same({ { e, 0 } }, s.replies)
    end)

    it("has a left change tried again", function()
      s:backstore("d", "ram/", 0)
      hanging "attrib/dev_size"
      jobs.start(s.held.log, recovery.answer, s.held)
      assert.equal(-EAGAIN, s.replies[1][2])
      assert.equal("reconfig", s.replies[1][1].command)
    end)

    it("resets netlink for an rmdir that nobody will answer", function()
      hanging(nil, "[<0>] vfs_rmdir+0x1\n")
      tree.add(s.root, { ["parameters/block_netlink"] = "0\n",
                         ["parameters/reset_netlink"] = "" })
      jobs.start(s.held.log, recovery.answer, s.held)
      assert.equal("1", tree.read(s.root .. "/parameters/reset_netlink"))
      assert.equal("1", tree.read(s.root .. "/parameters/block_netlink"))
      pass(600)
      assert.equal("0", tree.read(s.root .. "/parameters/block_netlink"))
    end)

    it("leaves an rmdir alone while another program listens", function()
      hanging(nil, "[<0>] vfs_rmdir+0x1\n")
      tree.add(s.root, { ["parameters/reset_netlink"] = "",
        ["proc/net/netlink"] = "00 16  512  00000100 0\n" })
      jobs.start(s.held.log, recovery.answer, s.held)
      assert.equal("", tree.read(s.root .. "/parameters/reset_netlink"))
      assert.is_true(s:logged "hangs in rmdir")
    end)
  end)
end)
