--- The handler's upgrade, between the old functions and the new ones.
local edited = require "spec.edited"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local ask <const>, told <const>, refusal <const> = edited.ask, edited.told,
  edited.refusal
local begin <const>, turns <const> = edited.begin, edited.turns
local open <const>, put <const>, says <const> = edited.open, edited.put,
  edited.says

describe("a reload", function()
  local host

  before_each(function() host = edited.make() end)
  after_each(edited.clean)

  describe("with upgrade", function()
    local OLD <const> = [[version = "1.0",
      open = function(dev) return { dev = dev, n = 1 } end,
      on = { [0xC1] = function(self) return "old " .. self.n end }]]
    local NEW <const> = [[version = "2.0",
      on = { [0xC1] = function(self) return "new " .. self.n end },
      upgrade = function(self, old, dev) %s end]]
    local dev

    before_each(function()
      put(OLD)
      dev = open { name = "disk7" }
    end)

    local function upgrade(text) put(NEW:format(text)) end

    -- The reload fails, and the device is what it was.
    local function fails(pattern)
      assert.matches(pattern, refusal(dev))
      assert.equal("old 1", told(dev))
      put(OLD)
      assert.is_true(dev:reload())
    end

    it("gets self, the old version and the device", function()
      upgrade "self.n = old .. ' ' .. dev.name .. tostring(dev == self.dev)"
      assert.is_true(dev:reload())
      assert.equal("new 1.0 disk7true", told(dev))
    end)

    it("gets nil from a handler that had no version", function()
      dev:close()
      says "old"
      dev = open()
      put [[version = "2",
            upgrade = function(self, old) return tostring(self) .. tostring(old) end,
            on = { [0xC1] = function(self) return self end }]]
      assert.is_true(dev:reload())
      assert.equal("nilnil", told(dev))
    end)

    it("may return another self, which close gets as well", function()
      upgrade "return { n = 5 }"
      assert.is_true(dev:reload())
      assert.equal("new 5", told(dev))
    end)

    it("may wait, and runs before the new functions do", function()
      upgrade "tcmu.sleep(2000) self.n = 3"
      local over = begin(dev)
      local held = dev:submit(ask())
      turns(dev)
      assert.is_nil(held.result)
      assert.equal(0, over())
      assert.equal("new 3", dev:wait(held).data)
      assert.equal(2.0, dev:now())
    end)

    it("runs once for each device", function()
      local second = open()
      upgrade "self.n = self.n + 1"
      assert.is_true(dev:reload())
      assert.equal("new 2", told(dev))
      assert.equal("new 2", told(second))
    end)

    it("that raises leaves its device with the old functions, others go on",
       function()
      local second = open { name = "disk8" }
      upgrade "if dev.name == 'disk7' then error('not me', 0) end"
      assert.matches("not me", refusal(dev))
      assert.equal("old 1", told(dev))
      assert.equal("new 1", told(second))
      upgrade "self.n = 'from ' .. old"
      assert.is_true(dev:reload())
      assert.equal("new from 1.0", told(dev))
      assert.equal("new from 2.0", told(second))
    end)

    it("that raises a sense value or a table says so in a sentence", function()
      upgrade "error(scsi.INVALID_FIELD_IN_CDB)"
      fails "INVALID FIELD IN CDB"
    end)

    it("that computes without end is stopped", function()
      local core = require "tcmu.core"
      upgrade "while true do end"
      core.budget(5)
      assert.matches("CPU time", refusal(dev))
      core.budget(2000)
      assert.equal("old 1", told(dev))
    end)

    it("that needs more memory than there is is stopped", function()
      upgrade "local t = {} for i = 1, 1 << 40 do t[i] = { i } end"
      fails "memory"
    end)

    it("that does not end is broken off", function()
      upgrade "tcmu.await(function() end)"
      local over = begin(dev)
      local held = dev:submit(ask())
      local status, why = over()
      assert.is_true(status < 0)
      assert.matches("upgrade took longer than 10 s", why)
      assert.equal("old 1", dev:wait(held).data)
    end)

    it("may not change the store", function()
      upgrade "self.store = tcmu.store.memory(1 << 20)"
      assert.matches("changed the store", refusal(dev))
      assert.equal("old 1", told(dev))
    end)

    it("sees the new options, which go again if it fails", function()
      put((OLD:gsub('"old " .. self.n', "tostring(self.dev.options.more)")))
      assert.is_true(dev:reload())
      local more <const> = [[
        options = { more = tcmu.option.integer { 'm', default = 7 } },]]
      put(more .. NEW:format "error('more is ' .. dev.options.more, 0)")
      assert.matches("more is 7", refusal(dev))
      assert.equal("nil", told(dev))
    end)

    it("lets a held command be aborted", function()
      upgrade "tcmu.sleep(2000)"
      local over = begin(dev)
      local held, other = dev:submit(ask()), dev:submit(ask())
      dev:abort(held)
      dev:run(function() return held.result end)
      assert.has.status(held.result, 0x40)
      assert.is_true(dev:now() < 1)
      assert.equal(0, over())
      assert.equal("new 1", dev:wait(other).data)
    end)

    it("lets a held command run out of time", function()
      dev:change("time_out", { cmd_time_out = 2 })
      upgrade "tcmu.sleep(5000)"
      local over = begin(dev)
      local held = dev:submit(ask())
      assert.has.sense(dev:wait(held), scsi.LOGICAL_UNIT_COMMUNICATION_TIME_OUT)
      assert.is_true(dev:now() < 3)
      assert.equal(0, over())
      assert.equal("new 1", told(dev))
    end)

    it("ends before a stop does, with what came meanwhile answered", function()
      upgrade "tcmu.sleep(2000) self.n = 3"
      begin(dev)
      local held = dev:submit(ask())
      turns(dev)
      assert.is_nil(held.result)
      dev.shard:change(dev.id, "stop")
      assert.equal("new 3", dev:wait(held).data)
      dev:run(function() return host.reports[dev.id .. "stop"] end)
      assert.equal(0, host.reports[dev.id .. "stop"].status)
      host.devices[dev.id] = nil
      dev.kernel:close()
    end)

    it("is broken off when the kernel removes the device", function()
      upgrade [[local _ <close> = setmetatable({}, { __close = function()
                  tcmu.log("let go")
                end })
                tcmu.sleep(2000)]]
      begin(dev)
      dev:submit(ask())
      assert.equal(0, dev:close "remove")
      assert.equal(-4, host.reports[dev.id .. "reload"].status)
    end)

    for _, verb in ipairs { "remove", "stop" } do
      it("stands in the way of no " .. verb .. " while it waits for commands",
         function()
        put(OLD:gsub('"old "', 'tcmu.sleep(2000) or "old "') .. "")
        assert.is_true(dev:reload())
        local slow = dev:submit(ask())
        turns(dev)
        upgrade "error('not now', 0)"
        local over = begin(dev)
        local held = dev:submit(ask())
        turns(dev)
        dev.shard:change(dev.id, verb)
        if verb == "stop" then
          assert.equal("old 1", dev:wait(slow).data)
          assert.equal("old 1", dev:wait(held).data)
        end
        assert.is_true(over() < 0)
        dev:run(function() return host.reports[dev.id .. verb] end)
        assert.equal(0, host.reports[dev.id .. verb].status)
        host.devices[dev.id] = nil
        dev.kernel:close()
      end)
    end

    it("is not called when the device is opened with the new file", function()
      upgrade "error 'no'"
      assert.equal("old 1", told(dev))
      local fresh = sim.host()
      local one = assert(fresh:device(edited.path()))
      assert.equal(1, fresh.shards[1]:states())
      one:close()
      fresh:close()
    end)
  end)
end)
