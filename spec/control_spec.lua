-- What the kernel is answered, and when: a device is new, changes and goes.
local stage = require "spec.stage"
local tree = require "spec.tree"

local ENOENT <const>, EBUSY <const>, EINVAL <const>, ETIMEDOUT <const> =
  2, 16, 22, 110

local event <const>, pass <const>, settle <const> = stage.event, stage.pass,
  stage.settle

describe("tcmu.control", function()
  local s

  before_each(function() s = stage.make() end)
  after_each(function() s:clean() end)

  describe("told of a new device", function()
    it("gives a shard all that it must know, and answers 0 after it", function()
      s.answers.add = false
      s.held.limits.answer = 20000      -- it is we who answer
      s:backstore("d", "file/path=/x;a=1", 3, {
        ["wwn/vpd_unit_serial"] = "T10 VPD Unit Serial Number: abc\n" })
      local e = s:take(event("added", "d", "file/path=/x;a=1", 3))
      settle(function() return #s.sent == 1 end)
      assert.same({
        handler = "/handlers/file.lua", options_text = "path=/x;a=1",
        config = "file/path=/x;a=1", name = "d", hba = "user_0",
        uio = s.root .. "/dev/uio3", map_size = 0x40800000,
        size = 1 << 26, block_size = 512, max_sectors = 2048,
        reservations = true,
        write_cache = true, cmd_time_out = 30, serial = "abc", vendor = "",
        product = "", revision = "", company_id = "001405",
      }, s.sent[1].fields)
      assert.same({}, s.replies)

      s.held:message { device = s.sent[1].device, verb = "add", status = 0 }
      assert.same({ { e, 0 } }, s.replies)
      assert.equal("1", tree.read(s:path "attrib/tmr_notification"))
    end)

    it("spreads devices over the shards", function()
      for minor = 0, 3 do
        s:backstore("d" .. minor, "ram/", minor)
        s:take(event("added", "d" .. minor, "ram/", minor))
      end
      settle(function() return #s.replies == 4 end)
      local per_shard = { 0, 0 }
      for _, m in ipairs(s.sent) do
        per_shard[m.shard] = per_shard[m.shard] + 1
      end
      assert.same({ 2, 2 }, per_shard)
    end)

    it("passes a refusal of the handler on, with its reason in the log",
       function()
      s.answers.add = { -EBUSY, "that file is in use" }
      s:backstore("d", "ram/", 0)
      local e = s:take(event("added", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
      assert.same({ { e, -EBUSY } }, s.replies)
      assert.is_true(s:logged "that file is in use")
      assert.same({}, s.held.by_id)
    end)

    it("refuses a block size that no disk has, without asking a shard",
       function()
      s:backstore("d", "ram/", 0, { ["attrib/hw_block_size"] = "520\n" })
      local e = s:take(event("added", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
      assert.same({ { e, -EINVAL } }, s.replies)
      assert.same({}, s.sent)
      assert.is_true(s:logged "hw_block_size 520")
    end)

    it("refuses once when the shard takes too long, and not again", function()
      s.answers.add = false
      s:backstore("d", "ram/", 0)
      local e = s:take(event("added", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
      assert.same({ { e, -ETIMEDOUT } }, s.replies)
      assert.equal("add remove", s:verbs())
      s.held:message { device = s.sent[1].device, verb = "add", status = 0 }
      assert.equal(1, #s.replies)
    end)

    it("does not answer where the kernel does not wait", function()
      s:backstore("d", "ram/", 0, { ["attrib/nl_reply_supported"] = "-1\n" })
      s:take(event("added", "d", "ram/", 0))
      settle(function() return s.held:count "serving" == 1 end)
      assert.same({}, s.replies)
    end)

    it("answers nothing for a subtype of somebody else", function()
      s:backstore("d", "rbd/pool", 0)
      s:take(event("added", "d", "rbd/pool", 0))
      s:take(event("reconfig", "d", "rbd/pool", 0, { size = 4096 }))
      s:take(event("removed", "d", "rbd/pool", 0))
      pass(100)
      assert.same({}, s.replies)
      assert.same({}, s.sent)
    end)

    it("names an enable that nobody answers", function()
      s:backstore("d", "rbd/pool", 0)
      tree.add(s.root, {
        ["proc/71/comm"] = "sh\n",
        ["proc/71/task/71/stat"] = "71 (sh) D 1",
        ["proc/71/task/71/stack"] = "[<0>] tcmu_netlink_event_send+0x1\n",
        ["proc/71/fd/1"] = {
          link = "/sys/kernel/config/target/core/user_0/d/enable" },
      })
      s:take(event("added", "d", "rbd/pool", 0))
      settle(function() return s:logged "process 71 (sh) hangs in enable" end)
      assert.is_true(s:logged "echo 1 >reset_netlink")
    end)

    it("answers for subtypes that nobody has when it is alone", function()
      s.held.sole = true
      s:backstore("d", "rbd/pool", 0)
      local e = s:take(event("added", "d", "rbd/pool", 0))
      assert.same({ { e, -ENOENT } }, s.replies)
    end)
  end)

  describe("told of a change", function()
    before_each(function() s:serve() end)

    it("lets a device grow when its handler can", function()
      local e = s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      assert.same({ { e, 0 } }, s.replies)
      assert.same({ size = 1 << 27, force = false }, s.sent[1].fields)
    end)

    it("passes the handler's refusal on", function()
      s.answers.size = { -EINVAL, "the file system is full" }
      local e = s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      assert.same({ { e, -EINVAL } }, s.replies)
    end)

    it("refuses a size that ends within a block", function()
      s:take(event("reconfig", "d", "ram/", 0, { size = (1 << 26) + 100 }))
      assert.equal(-EINVAL, s.replies[1][2])
      assert.same({}, s.sent)
    end)

    it("refuses to shrink what is exported", function()
      tree.add(s.root, { ["core/user_0/d/info"] = "Status: ACTIVATED  Max\n" })
      s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(-EBUSY, s.replies[1][2])
      assert.same({}, s.sent)
      assert.is_true(s:logged "resize d 1048576 --force")
    end)

    it("shrinks what is exported if control has been told so before",
       function()
      tree.add(s.root, {
        ["core/user_0/d/info"] = "Status: ACTIVATED  Max\n",
        ["core/user_0/d/attrib/dev_size"] = "1048576\n",
      })
      s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(0, s.replies[1][2])
      assert.same({ size = 1 << 20, force = true }, s.sent[1].fields)
    end)

    it("shrinks what is not exported", function()
      s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 20 }))
      assert.equal(0, s.replies[1][2])
    end)

    it("passes write cache and config on", function()
      s:take(event("reconfig", "d", "ram/", 0, { write_cache = false }))
      s:take(event("reconfig", "d", "ram/", 0, { config = "ram/b=2\n" }))
      assert.equal("write_cache config", s:verbs())
      assert.same({ write_cache = false }, s.sent[1].fields)
      assert.same({ config = "ram/b=2" }, s.sent[2].fields)
      assert.equal(2, #s.replies)
    end)

    it("does not let a device change its handler", function()
      s:take(event("reconfig", "d", "ram/", 0, { config = "file/x" }))
      assert.equal(-EINVAL, s.replies[1][2])
      assert.same({}, s.sent)
    end)

    it("does one change after the other", function()
      s.answers.size = false
      s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      s:take(event("reconfig", "d", "ram/", 0, { write_cache = false }))
      assert.equal("size", s:verbs())
      s.held:message { device = s.sent[1].device, verb = "size", status = 0 }
      assert.equal("size write_cache", s:verbs())
    end)

    it("tells the shard of a serial that is written later", function()
      tree.add(s.root, { ["core/user_0/d/wwn/vpd_unit_serial"] =
                           "T10 VPD Unit Serial Number: late\n" })
      settle(function() return #s.sent > 0 and
        s.sent[#s.sent].fields.serial == "late" end)
      assert.equal("wwn", s.sent[1].verb)
    end)

    it("tells the shard of another cmd_time_out", function()
      tree.add(s.root, { ["core/user_0/d/attrib/cmd_time_out"] = "3\n" })
      settle(function() return #s.sent > 0 and
        s.sent[#s.sent].fields.cmd_time_out == 3 end)
      assert.equal("time_out", s.sent[1].verb)
    end)
  end)

  describe("told of a removal", function()
    before_each(function() s:serve() end)

    it("has the shard let go, then answers 0 and forgets it", function()
      s.answers.remove = false
      local e = s:take(event("removed", "d", "ram/", 0))
      assert.equal("remove", s:verbs())
      assert.same({}, s.replies)
      s.held:message { device = s.sent[1].device, verb = "remove", status = 0 }
      assert.same({ { e, 0 } }, s.replies)
      assert.same({}, s.held.by_id)
    end)

    it("does not wait for what else is being done to it", function()
      s.answers.size = false
      s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
      local e = s:take(event("removed", "d", "ram/", 0))
      assert.same({ { e, 0 } }, s.replies)
    end)

    it("answers although its shard does not", function()
      s.answers.remove = false
      local e = s:take(event("removed", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
      assert.same({ { e, 0 } }, s.replies)
    end)
  end)
end)
