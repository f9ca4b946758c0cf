-- Target port groups between configfs, where everybody writes to them, and the
-- shards, which answer for them.
local stage = require "spec.stage"
local tree = require "spec.tree"

local event <const>, pass <const>, settle <const> = stage.event, stage.pass,
  stage.settle

describe("tcmu.control", function()
  local s

  before_each(function() s = stage.make() end)
  after_each(function() s:clean() end)

  describe("with target port groups", function()
    local function group(device, name, values)
      tree.add(s.root, tree.group("user_0/" .. device, name, values))
    end

    -- Waits until the shard has been told of these groups.
    local function told(groups)
      settle(function()
        return s.sent[1] and s.sent[#s.sent].fields.groups == groups
      end)
      assert.equal("alua", s.sent[#s.sent].verb)
      s.sent = {}
    end

    before_each(function()
      group("d", "default_tg_pt_gp", {})
      s:backstore("d", "ram/", 0)
      s:take(event("added", "d", "ram/", 0))
      settle(function() return #s.replies == 1 end)
    end)

    it("gives them to the shard with the device", function()
      assert.equal("0 0 0 223 0 1 1", s.sent[1].fields.groups)
      assert.equal("add", s:verbs())
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
      os.execute(("rm -r %s/core/user_0/d/alua/new"):format(s.root))
      told "0 0 0 223 0 1 1"
    end)

    it("says nothing twice", function()
      s.sent = {}
      group("d", "default_tg_pt_gp", {})
      pass(50)
      assert.same({}, s.sent)
    end)

    it("tells the devices that change with it", function()
      group("e", "default_tg_pt_gp", {})
      s:backstore("e", "ram/", 1, { alua_lu_gp = "LU Group Alias: pair\n" })
      s:take(event("added", "e", "ram/", 1))
      settle(function() return #s.replies == 2 end)
      tree.add(s.root, {
        ["core/user_0/d/alua_lu_gp"] = "LU Group Alias: pair\n",
        ["core/alua/lu_gps/pair/members"] = "user_0/d\n\0user_0/e\n\0",
      })
      s.sent = {}
      -- What the kernel does to e before the write to d is over.
      local _, e = next(s.held.by_id, (next(s.held.by_id)))
      e.watch:stop()
      group("e", "default_tg_pt_gp", { alua_access_state = "2\n" })
      group("d", "default_tg_pt_gp", { alua_access_state = "2\n" })
      settle(function() return #s.sent == 2 end)
      assert.equal("alua alua", s:verbs())
      assert.not_equal(s.sent[1].device, s.sent[2].device)
    end)

    it("writes what an initiator sets, and says when it is done", function()
      s.sent = {}
      local id = next(s.held.by_id)
      s.held:message { device = id, verb = "set_port_groups", status = 0,
                       why = "0 1" }
      assert.equal("1", tree.read(s:path "alua/default_tg_pt_gp/" ..
                                    "alua_access_state"))
      assert.equal(0, s.sent[1].fields.set)
      assert.equal("0 1 0 223 0 1 1", s.sent[1].fields.groups)

      s.held:message { device = id, verb = "set_port_groups", status = 0,
                       why = "0 2;9 1" }
      assert.equal(5, s.sent[2].fields.set)
      assert.equal("there is no target port group 9", s.sent[2].fields.why)
      assert.equal("0 2 0 223 0 1 1", s.sent[2].fields.groups)
    end)
  end)
end)
