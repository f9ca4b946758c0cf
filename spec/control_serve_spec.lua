--- All of `tcmu-lua serve` in a process of its own, between SET_FEATURES and
--- its being taken back: whatever waits for an answer gets one.
local luv = require "spec.luv_it"
local tree = require "spec.tree"

local ESHUTDOWN <const> = 108

-- The kernel's end of netlink.  `says` is called with each SET_FEATURES, and
-- may send events and signals; what was asked of the kernel is printed.
local PROGRAM <const> = [[
  package.path, package.cpath = %q, %q
  local core, uv = require "tcmu.core", require "luv"
  require("tcmu.doctor").kernel = function() return {} end
  uv.os_setenv("STATE_DIRECTORY", %q)

  local pipe, queue = uv.pipe({ nonblock = true }, { nonblock = true }), {}
  local function event(command, minor)
    queue[#queue + 1] = { command = command, minor = minor, device_id = minor,
                          device = "tcm-user/0/no-such-device/ram/" }
    uv.fs_write(pipe.write, "x")
  end
  local function signal(which) uv.kill(uv.os_getpid(), which) end
  local function says(features) %s end

  local nl = setmetatable({
    fd = function() return pipe.read end,
    group = function() return 9 end,
    set_features = function(_, features)
      print("features", features)
      says(features)
      return true
    end,
    receive = function()
      uv.fs_read(pipe.read, 16)
      local all = queue
      queue = {}
      return all, false
    end,
    done = function(_, e, status)
      print(e.command, e.minor, status)
      return true
    end,
  }, { __close = function() end })
  core.netlink = { open = function() return nl end }
  io.stdout:setvbuf "no"
  os.exit(require("tcmu.control").serve {
    handlers = { "handlers" }, shards = 1, poll = "off",
  })]]

describe("tcmu.control, from start to end", function()
  local root

  before_each(function() root = tree.make {} end)
  after_each(function() tree.remove(root) end)

  -- Serves until it stops, and asserts what the kernel has heard.
  local function hears(expected, says)
    tree.add(root, { ["serve.lua"] = PROGRAM:format(package.path, package.cpath,
                                                    root .. "/state", says) })
    local _, how, status = os.execute(
      ("at=%s; timeout -k 1 60 lua5.4 $at/serve.lua >$at/out 2>$at/log")
      :format(root))
    assert.equal(table.concat(expected, "\n") .. "\n",
                 tree.read(root .. "/out"))
    assert.same({ "exit", 0 }, { how, status })
  end

  luv("takes SET_FEATURES back, however early the signal comes", function()
    hears({ "features\t1", "features\t0" }, [[
      if features == 1 then signal "sigterm" end]])
  end)

  luv("answers an enable that comes when all has stopped", function()
    hears({ "features\t1", "features\t0", "added\t70\t-" .. ESHUTDOWN }, [[
      if features == 0 then event("added", 70) else signal "sigterm" end]])
  end)
end)
