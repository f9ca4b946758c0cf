--- What SIGHUP asks the shards, and what becomes of their answers.  The spec
--- plays the shards; the devices, their jobs and the event loop are real.
local devices = require "tcmu.devices"
local files = require "tcmu.files"
local hangup = require "tcmu.hangup"
local jobs = require "tcmu.jobs"
local tree = require "spec.tree"
local uv = require "luv"

local EINVAL <const> = 22

describe("tcmu.hangup", function()
  local root, held, sent, lines, answer

  before_each(function()
    root = tree.make { ["a/ram.lua"] = "", ["a/file.lua"] = "" }
    sent, lines = {}, {}
    answer = function() return 0 end
    local pool = { count = function() return 2 end }
    function pool.send(_, _, device, verb, fields)
      local who = held.by_id[device].name
      sent[#sent + 1] = ("%s %s"):format(verb, who)
      sent.turn = fields.turn
      local status, why = answer(verb, who)
      if status then
        held:message { device = device, verb = verb, status = status, why = why }
      end
    end
    held = devices.new {
      pool = pool, io = files, handlers = { old = "/gone/old.lua" },
      netlink = {}, limits = { answer = 60, recover = 200 },
      roots = { configfs = root },
      log = function(level, who, text)
        lines[#lines + 1] = ("%s %s: %s"):format(level, who, text)
      end,
    }
  end)
  after_each(function()
    for _, record in pairs(held.by_id) do held:forget(record) end
    uv.run()
    tree.remove(root)
  end)

  local minor = 0
  local function device(name, handler, state)
    minor = minor + 1
    local record = held:remember { hba = "user_0", name = name, minor = minor }
    record.handler, record.state, record.shard = handler, state or "serving", 1
    held.load[1] = (held.load[1] or 0) + 1
    return record
  end

  local function take()
    local text
    jobs.start(held.log, function()
      text = hangup.take(held, { root .. "/a" })
    end)
    uv.update_time()            -- the loop may not have run for long
    local limit = uv.new_timer()
    limit:start(20000, 0, function() limit:close() end)
    while not text and not limit:is_closing() do uv.run "once" end
    if not limit:is_closing() then limit:close() end
    return assert(text, "it has not come to an end")
  end

  it("asks all devices of a handler to check before the first goes over",
     function()
    for i = 1, 3 do device("d" .. i, "/h/ram.lua") end
    assert.equal("1 handlers reloaded", take())
    assert.same({ "prepare d1", "prepare d2", "prepare d3", "reload d1",
                  "reload d2", "reload d3", turn = sent.turn }, sent)
    assert.same({ "info control: /h/ram.lua is reloaded: 3 devices" }, lines)
  end)

  it("reloads nothing of a handler that a device's check refuses", function()
    for i = 1, 3 do device("d" .. i, "/h/ram.lua") end
    device("other", "/h/zero.lua")
    answer = function(verb, who)
      if verb == "prepare" and who == "d2" then return -EINVAL, "no good" end
      return 0
    end
    assert.equal("user_0/d2 is not reloaded: no good", take())
    assert.same({ "prepare d1", "prepare d2", "prepare other", "reload other",
                  turn = sent.turn }, sent)
    assert.equal("error user_0/d2: /h/ram.lua is not reloaded: no good; the "
                 .. "handler in service stays", lines[1])
  end)

  it("goes on with the others if an upgrade fails", function()
    for i = 1, 3 do device("d" .. i, "/h/ram.lua") end
    answer = function(verb, who)
      if verb == "reload" and who == "d2" then return -EINVAL, "cannot" end
      return 0
    end
    assert.equal("user_0/d2 is not reloaded: cannot", take())
    assert.same({ "error user_0/d2: /h/ram.lua is not reloaded: cannot; this "
                  .. "device keeps the handler that it has",
                  "info control: /h/ram.lua is reloaded: 2 devices" }, lines)
  end)

  it("includes a device that comes meanwhile", function()
    device("d1", "/h/ram.lua")
    answer = function(verb)
      if verb == "reload" and #sent == 2 then device("d2", "/h/ram.lua") end
      return 0
    end
    take()
    assert.same({ "prepare d1", "reload d1", "prepare d2", "reload d2",
                  turn = sent.turn }, sent)
  end)

  it("waits for what a device is being asked already", function()
    local record = device("d1", "/h/ram.lua", "adding")
    record.jobs:submit(function()
      jobs.sleep(50)
      record.state = "serving"
    end)
    take()
    assert.same({ "prepare d1", "reload d1", turn = sent.turn }, sent)
  end)

  it("asks no device that is parked, and none that goes meanwhile", function()
    device("d1", "/h/ram.lua", "parked")
    local leaving = device("d2", "/h/ram.lua")
    device("d3", "/h/ram.lua")
    answer = function(_, who)
      if who == "d3" then leaving.gone = true end
      return 0
    end
    assert.equal("1 handlers reloaded", take())
    assert.same({ "prepare d2", "prepare d3", "reload d3", turn = sent.turn },
                sent)
  end)

  it("does not wait for ever for a shard", function()
    device("d1", "/h/ram.lua")
    answer = function() end
    assert.matches("did not 'prepare'", take())
  end)

  it("has another number each time", function()
    device("d1", "/h/ram.lua")
    take()
    local turn <const> = sent.turn
    take()
    assert.not_equal(turn, sent.turn)
  end)

  it("looks for handlers again", function()
    local known <const> = held.handlers
    take()
    assert.same({ ram = root .. "/a/ram.lua", file = root .. "/a/file.lua" },
                held.handlers)
    assert.equal(known, held.handlers)
  end)
end)
