-- How control stops: what it serves is blocked, and nobody waits for it.
local events = require "tcmu.events"
local jobs = require "tcmu.jobs"
local recovery = require "tcmu.recovery"
local stage = require "spec.stage"
local tree = require "spec.tree"

local ESHUTDOWN <const> = 108

local event <const>, settle <const> = stage.event, stage.settle

describe("tcmu.control, stopping", function()
  local s

  before_each(function()
    s = stage.make()
    s.held.limits.stop = 20000
  end)
  after_each(function() s:clean() end)

  local function stop()
    local over = s:stop()
    settle(function() return over.blocked end)
    return over.blocked, over.clean
  end

  local function block_dev(name)
    return tree.read(("%s/core/user_0/%s/action/block_dev"):format(s.root,
                                                                  name))
  end

  -- The one message that a shard has been left with is answered.
  local function answer(verb, status)
    for _, message in ipairs(s.sent) do
      if message.verb == verb then
        s.held:message { device = message.device, verb = verb, status = status }
      end
    end
  end

  it("blocks the devices before the shards finish", function()
    s:serve()
    local state
    s.answers.stop = false
    local send = s.pool.send
    s.pool.send = function(...)
      state = block_dev "d"
      send(...)
      answer("stop", 0)
    end
    finally(function() s.pool.send = send end)
    local blocked, clean = stop()
    assert.equal("1", state)
    assert.equal(1, blocked)
    assert.is_true(clean)
  end)

  it("says so when a shard does not come to an end", function()
    s:serve()
    s.answers.stop = false
    local _, clean = stop()
    assert.is_false(clean)
    assert.is_true(s:logged "did not 'stop'")
  end)

  it("refuses new devices, and does not touch configfs of one that goes",
     function()
    s:serve()
    local e = event("removed", "d", "ram/", 0)
    s.answers.remove = false
    s:take(e)
    local over = s:stop()
    assert.equal("unblocked\n", block_dev "d")
    s:backstore("new", "ram/", 1)
    local added = s:take(event("added", "new", "ram/", 1))
    settle(function() return over.blocked and #s.replies == 2 end)
    assert.same({ added, -ESHUTDOWN }, s.replies[1])
    assert.same({ e, 0 }, s.replies[2])
  end)

  it("refuses a device that its handler has opened meanwhile", function()
    s.answers.add = false
    s.held.limits.answer = 20000
    s.enabling.d = true
    s:backstore("d", "ram/", 0)
    local e = s:take(event("added", "d", "ram/", 0))
    settle(function() return s:verbs() == "add" end)
    local over = s:stop()
    answer("add", 0)
    settle(function() return over.blocked end)
    assert.same({ { e, -ESHUTDOWN } }, s.replies)
    assert.equal("add remove", s:verbs())
    assert.is_true(over.clean)
    assert.same({}, s.held.by_id)
  end)

  it("blocks a device whose opening was not waited for", function()
    s.answers.add = false
    s.held.limits.answer = 20000
    s:backstore("d", "ram/", 0, { ["attrib/nl_reply_supported"] = "-1\n" })
    s:take(event("added", "d", "ram/", 0))
    settle(function() return s:verbs() == "add" end)
    local over = s:stop()
    answer("add", 0)
    settle(function() return over.blocked end)
    assert.equal("add stop", s:verbs())
    assert.equal("1", block_dev "d")
    assert.equal(1, over.blocked)
  end)

  it("blocks a device whose enable ends a moment after our answer", function()
    s:serve()
    s.enabling.d = true
    local over = s:stop()
    stage.pass(20)
    assert.equal("", s:verbs())
    s.enabling.d = nil
    settle(function() return over.blocked end)
    assert.equal("1", block_dev "d")
    assert.equal(1, over.blocked)
  end)

  it("does not serve a device any more that has been busy", function()
    s.held.limits.patience = 5000
    s:backstore("d", "ram/", 0)
    s:hold(0, 1)
    jobs.start(s.held.log, recovery.take_over, s.held)
    stop()
    settle(function() return block_dev "d" == "1" end)
    assert.equal("", s:verbs())
  end)

  it("has a device blocked that is being let in", function()
    s:backstore("d", "ram/", 0)
    local write <const> = s.held.io.write
    s.held.io.write = function(path, text)
      if text == "0" then jobs.sleep(30) end
      return write(path, text)
    end
    jobs.start(s.held.log, recovery.take_over, s.held)
    settle(function() return s:verbs() == "add" end)
    local blocked = stop()
    assert.equal("1", block_dev "d")
    assert.equal(1, blocked)
  end)

  it("waits for a new device that is busy, and refuses it", function()
    s.held.limits.patience = 5000
    s.enabling.d = true
    s:backstore("d", "ram/", 0)
    s:hold(0, 1)
    local e = s:take(event("added", "d", "ram/", 0))
    stop()
    assert.same({ { e, -ESHUTDOWN } }, s.replies)
  end)

  it("does not block what may be somebody else's", function()
    s:backstore("d", "ram/", 0, { ["attrib/nl_reply_supported"] = "-1\n" })
    s:hold(0, -1)
    s:take(event("added", "d", "ram/", 0))
    stop()
    assert.is_true(s:logged "left alone")
    assert.equal("unblocked\n", block_dev "d")
  end)

  describe("in the end", function()
    -- Each of these and what it was answered, in any order.
    local function answered(expected)
      local found = {}
      for _, reply in ipairs(s.replies) do
        assert.is_nil(found[reply[1]])
        found[reply[1]] = reply[2]
      end
      assert.same(expected, found)
    end

    it("answers what has come since, if it is ours", function()
      s:serve()
      stop()
      local all = {
        event("removed", "d", "ram/", 0), event("added", "e", "ram/", 1),
        event("added", "other", "rbd/", 2), event("removed", "gone", "ram/", 3),
      }
      s.held.netlink.receive = function() return all end
      events.finish(s.held)
      answered { [all[1]] = 0, [all[2]] = -ESHUTDOWN }
    end)

    it("lets go of a removal, which no stop waits for", function()
      s:serve()
      s.answers.remove = false
      local e = s:take(event("removed", "d", "ram/", 0))
      events.finish(s.held)
      answered { [e] = 0 }
      settle(function() return s:logged "removed" end)
      answered { [e] = 0 }
    end)

    it("refuses what is still being looked at, once", function()
      s.held.limits.patience = 5000
      s.enabling.d = true
      s:backstore("d", "ram/", 0)
      s:hold(0, 1)
      local e = s:take(event("added", "d", "ram/", 0))
      events.finish(s.held)
      answered { [e] = -ESHUTDOWN }
      settle(function() return s.held:count "serving" == 1 end)
      answered { [e] = -ESHUTDOWN }
    end)

    it("leaves an enable to the next start whose device is open", function()
      s.answers.add = false
      s.held.limits.answer = 20000
      s:backstore("d", "ram/", 0)
      s:take(event("added", "d", "ram/", 0))
      settle(function() return s:verbs() == "add" end)
      events.finish(s.held)
      answered {}
      answer("add", 0)
    end)
  end)
end)
