-- What control does when the kernel's events have been lost, or were ended by
-- somebody's reset_netlink: the waits that /proc shows, and what is in hand.
local events = require "tcmu.events"
local jobs = require "tcmu.jobs"
local recovery = require "tcmu.recovery"
local stage = require "spec.stage"
local tree = require "spec.tree"

local EAGAIN <const> = 11

local event <const>, pass <const>, settle <const> = stage.event, stage.pass,
  stage.settle

describe("tcmu.control, with events lost", function()
  local s

  before_each(function()
    s = stage.make()
    tree.add(s.root, { ["parameters/block_netlink"] = "0\n",
                       ["parameters/reset_netlink"] = "" })
  end)
  after_each(function() s:clean() end)

  -- A process that writes to a file of "d", or removes a device.
  local function hanging(pid, file)
    tree.add(s.root, {
      [("proc/%d/comm"):format(pid)] = "sh\n",
      [("proc/%d/task/%d/stat"):format(pid, pid)] = pid .. " (sh) D 1",
      [("proc/%d/task/%d/stack"):format(pid, pid)] =
        "[<0>] tcmu_netlink_event_send+0x1\n" ..
        (file and "" or "[<0>] vfs_rmdir+0x1\n"),
      [("proc/%d/fd/1"):format(pid)] = { link = file and
        "/sys/kernel/config/target/core/user_0/d/" .. file or "/dev/null" },
    })
  end

  -- A device whose number is what event() says of it.
  local function backstore(name, minor)
    s:backstore(name, "ram/", minor, {
      ["statistics/scsi_dev/indx"] = minor + 100 .. "\n" })
  end

  local function serve(name, minor)
    backstore(name, minor)
    s:take(event("added", name, "ram/", minor))
    settle(function() return #s.replies == 1 end)
    s.replies, s.sent = {}, {}
  end

  local function look()
    local over = false
    jobs.start(s.held.log, function()
      recovery.answer(s.held)
      over = true
    end)
    settle(function() return over end)
  end

  local function was_reset()
    return tree.read(s.root .. "/parameters/reset_netlink") == "1"
  end

  -- The kernel has let go of a device.
  local function vanish(minor)
    os.execute(("rm -r %s/uio/uio%d %s/dev/uio%d"):format(s.root, minor, s.root,
                                                        minor))
  end

  it("goes on with an enable that it has in hand", function()
    s.answers.add = false
    s.held.limits.answer = 20000
    backstore("d", 0)
    hanging(71, "enable")
    local e = s:take(event("added", "d", "ram/", 0))
    settle(function() return s:verbs() == "add" end)
    look()
    s.held:message { device = s.sent[1].device, verb = "add", status = 0 }
    pass(20)
    assert.equal("add", s:verbs())
    assert.same({ { e, 0 } }, s.replies)
  end)

  it("goes on with a change that it has in hand", function()
    serve("d", 0)
    s.answers.size = false
    s.held.limits.answer = 20000
    hanging(71, "attrib/dev_size")
    local e = s:take(event("reconfig", "d", "ram/", 0, { size = 1 << 27 }))
    look()
    s.held:message { device = s.sent[1].device, verb = "size", status = 0 }
    assert.same({ { e, 0 } }, s.replies)
  end)

  it("goes on with a removal that it has in hand", function()
    serve("d", 0)
    s.answers.remove = false
    s.held.limits.answer = 20000
    hanging(71)
    local e = s:take(event("removed", "d", "ram/", 0))
    look()
    assert.is_false(was_reset())
    s.held:message { device = s.sent[1].device, verb = "remove", status = 0 }
    assert.same({ { e, 0 } }, s.replies)
  end)

  it("ends a removal beside one that it has in hand", function()
    serve("d", 0)
    s.answers.remove = false
    hanging(71)
    hanging(72)
    s:take(event("removed", "d", "ram/", 0))
    look()
    assert.is_true(was_reset())
  end)

  it("has a change of a device that it serves tried again", function()
    serve("d", 0)
    hanging(71, "attrib/dev_size")
    s:hold(0, -1)               -- by our shard
    look()
    assert.equal(1, #s.replies)
    assert.equal(-EAGAIN, s.replies[1][2])
    assert.equal("reconfig", s.replies[1][1].command)
  end)

  it("lets go of a device whose removal it has had to end", function()
    serve("d", 0)
    hanging(71)
    s.held.netlink.receive = function()
      if was_reset() then vanish(0) end
      return {}
    end
    look()
    assert.is_true(was_reset())
    assert.equal("remove", s:verbs())
    assert.same({}, s.held.by_id)
    assert.same({}, s.replies)
  end)

  it("keeps a device that it cannot look at", function()
    serve("d", 0)
    local name <const> = s.root .. "/uio/uio0/name"
    os.execute(("rm %s && mkdir %s"):format(name, name))
    look()
    assert.equal("", s:verbs())
    assert.is_not_nil(s.held.by_minor[0])
  end)

  it("lets go of a device whose removal nobody waited for", function()
    serve("d", 0)
    backstore("e", 1)
    s:take(event("added", "e", "ram/", 1))
    settle(function() return #s.replies == 1 end)
    s.sent = {}
    vanish(0)
    look()
    assert.equal("remove", s:verbs())
    assert.is_nil(s.held.by_minor[0])
    assert.equal("serving", s.held.by_minor[1].state)
  end)

  it("counts a device once that goes in two ways", function()
    serve("d", 0)
    local shard <const> = s.held.by_minor[0].shard
    s.answers.remove = false
    s:take(event("removed", "d", "ram/", 0))
    s:take(event("removed", "d", "ram/", 0))
    settle(function() return #s.replies == 2 end)
    assert.equal(0, s.held.load[shard])
  end)

  it("does not give a shard what goes while it is looked at", function()
    backstore("d", 0)
    local read <const> = s.held.io.read
    s.held.io.read = function(path)
      jobs.sleep(5)
      return read(path)
    end
    s:take(event("added", "d", "ram/", 0))
    local e = s:take(event("removed", "d", "ram/", 0))
    assert.same({ { e, 0 } }, s.replies)
    settle(function() return #s.replies == 2 end)
    assert.equal("", s:verbs())
  end)

  it("lets go of a device whose enable was ended meanwhile", function()
    backstore("d", 0)
    s.held.netlink.done = function()
      vanish(0)
      return nil, "No such device", 19
    end
    s:take(event("added", "d", "ram/", 0))
    settle(function() return s:verbs() == "add remove" end)
    assert.same({}, s.held.by_id)
  end)

  it("keeps a device whose enable nobody waited for", function()
    backstore("d", 0)
    s.held.netlink.done = function() return nil, "No such device", 19 end
    s:take(event("added", "d", "ram/", 0))
    settle(function() return s.held:count "serving" == 1 end)
    pass(20)
    assert.equal("add", s:verbs())
  end)

  it("answers the removal of a device that it has not taken over yet",
     function()
    s.held.limits.patience = 5000
    backstore("d", 0)
    s:hold(0, 2)
    local e = s:take(event("removed", "d", "ram/", 0))
    assert.same({}, s.replies)
    settle(function() return #s.replies == 1 end)
    assert.same({ { e, 0 } }, s.replies)
  end)

  it("takes no device away that has got the number of another", function()
    s.held.limits.patience = 5000
    tree.add(s.root, { ["core/user_0/other/info"] = "" })
    backstore("d", 0)
    s:hold(0, 1)
    s:take(event("removed", "other", "ram/", 0))
    local e = s:take(event("added", "d", "ram/", 0))
    settle(function() return s.held.by_minor[0].state == "serving" end)
    pass(200)
    assert.equal("serving", s.held.by_minor[0].state)
    assert.equal("add", s:verbs())
    assert.same({ e, 0 }, s.replies[1])
  end)

  it("leaves the removal of a device to whoever has it open", function()
    backstore("d", 0)
    s:hold(0, -1)
    local e = event("removed", "d", "ram/", 0)
    s:take(e)
    pass(100)
    s.held.netlink.receive = function() return { e } end
    events.finish(s.held)
    assert.same({}, s.replies)
  end)
end)
