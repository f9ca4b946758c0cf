-- Control's coroutines.
local jobs = require "tcmu.jobs"
local uv = require "luv"

describe("tcmu.jobs", function()
  local logged

  local function log(_, _, text) logged[#logged + 1] = text end

  before_each(function() logged = {} end)

  it("goes on with what wakes it, at once or later", function()
    local got = {}
    local wake_later
    jobs.start(log, function()
      got[1] = jobs.wait(1000, function(wake) wake "now" end)
      got[2] = jobs.wait(1000, function(wake) wake_later = wake end)
    end)
    assert.same({ "now" }, got)
    wake_later "later"
    assert.same({ "now", "later" }, got)
    uv.run()
  end)

  it("waits no longer than it was told", function()
    local got, late
    jobs.start(log, function()
      got = table.pack(jobs.wait(10, function(wake) late = wake end))
    end)
    uv.run()
    assert.is_nil(got[1])
    assert.matches("no answer within 0.01 s", got[2], 1, true)
    assert.equal(110, got[3])
    late "too late"
    assert.equal(3, got.n)
  end)

  it("logs an error with its traceback and goes on", function()
    jobs.start(log, function() error "boom" end)
    assert.equal(1, #logged)
    assert.matches("boom", logged[1])
    assert.matches("traceback", logged[1])
  end)

  it("runs the jobs of a queue one after the other", function()
    local order, wake_first = {}, nil
    local queue = jobs.queue(log)
    queue:submit(function()
      jobs.wait(1000, function(wake) wake_first = wake end)
      order[#order + 1] = "first"
    end)
    queue:submit(function() error "boom" end)
    queue:submit(function() order[#order + 1] = "last" end)
    assert.same({}, order)
    wake_first()
    assert.same({ "first", "last" }, order)
    assert.equal(1, #logged)
    uv.run()
  end)
end)
