-- The handlers on a bus of our own, asked as targetcli asks: by D-Bus, in
-- another process, while the event loop turns here.
local core = require "tcmu.core"
local dbus = require "tcmu.dbus"
local jobs = require "tcmu.jobs"
local tree = require "spec.tree"
local uv = require "luv"

local NAME <const> = "org.kernel.TCMUService1"
local PATH <const> = "/org/kernel/TCMUService1"
local EOPNOTSUPP <const> = 95

local CONFIG <const> = [[
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s/bus</listen>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
]]

local HANDLER <const> = [[
local tcmu = require "tcmu"
return tcmu.handler {
  name = "%s", about = "made by a spec\1\255",
  options = { a = tcmu.option.integer { "a number", default = 1 } },
  check = function(options)
    if options.a == 9 then io.open("%s/fifo"):read() end
    if options.a == 7 then error("seven is taken", 0) end
  end,
  read = function() end,
}
]]

local function has(program)
  return os.execute(("command -v %s >/dev/null"):format(program))
end

local function missing()
  local _, _, code = core.dbus.open()
  if code == EOPNOTSUPP then return "built without libsystemd" end
  return not has "dbus-daemon" and "needs dbus-daemon" or
    not has "dbus-send" and "needs dbus-send" or nil
end

describe("tcmu.dbus", function()
  local lacks = missing()
  if lacks then return pending(lacks) end

  local root, daemon, lines

  local function settle(what, fn)
    uv.update_time()            -- the loop may not have run for minutes
    local limit = uv.now() + 20000
    local tick = uv.new_timer()
    tick:start(0, 20, function() end)
    while not fn() and uv.now() < limit do uv.run "once" end
    tick:close()
    assert(fn(), what .. "\n" .. table.concat(lines, "\n"))
  end

  local function logged(text)
    for _, line in ipairs(lines) do
      if line:find(text, 1, true) then return line end
    end
  end

  -- Starts a program; returns a function that gives what it has printed once
  -- it has ended.
  local function start(command)
    local pipe, text, process = uv.new_pipe(), "", nil
    process = assert(uv.spawn("/bin/sh", {
      args = { "-c", command .. " 2>&1" }, stdio = { nil, pipe },
    }, function() process:close() end))
    pipe:read_start(function(_, data)
      if data then text = text .. data else pipe:close() end
    end)
    return function()
      return process:is_closing() and pipe:is_closing() and text or nil
    end
  end

  local function send(path, method, ...)
    return start(("dbus-send --bus=unix:path=%s/bus --print-reply=literal "
      .. "--dest=%s %s %s %s"):format(root, NAME, path, method,
        table.concat({ ... }, " ")))
  end

  local function start_check(handler, config)
    return send(PATH .. "/" .. handler, NAME .. ".CheckConfig",
                ("'string:%s'"):format(config))
  end

  local function check(handler, config)
    local over = start_check(handler, config)
    settle("a CheckConfig", over)
    return over()
  end

  local function objects()
    local over =
      send(PATH, "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
    settle("the objects", over)
    return over()
  end

  local function serve(handlers)
    local names = {}
    for name in pairs(handlers) do names[#names + 1] = name end
    table.sort(names)
    jobs.start(function(_, _, text) error(text) end, dbus.serve, {
      handlers = handlers, names = names, program = "./tcmu-lua",
      log = function(level, who, text)
        lines[#lines + 1] = ("%s %s: %s"):format(level, who, text)
      end,
    })
  end

  local function start_bus()
    tree.add(root, { ["bus.conf"] = CONFIG:format(root) })
    local process
    process = assert(uv.spawn("dbus-daemon", {
      args = { "--config-file=" .. root .. "/bus.conf", "--nofork" },
    }, function() process:close() end))
    daemon = process
    -- The socket's file is there before anybody listens on it.
    local listens = false
    settle("a bus", function()
      if listens then return true end
      local pipe = uv.new_pipe()
      pipe:connect(root .. "/bus", function(err)
        listens = listens or not err
        pipe:close()
      end)
    end)
  end

  before_each(function()
    lines = {}
    root = tree.make { ["broken.lua"] = "return 1" }
    tree.add(root, { ["mine.lua"] = HANDLER:format("mine", root),
                     ["my-own.lua"] = HANDLER:format("my-own", root) })
    uv.os_setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=" .. root .. "/bus")
  end)

  -- With its bus, what serves has nothing left on the loop.
  after_each(function()
    if daemon and not daemon:is_closing() then daemon:kill "sigterm" end
    daemon = nil
    uv.run()
    uv.os_unsetenv "DBUS_SYSTEM_BUS_ADDRESS"
    tree.remove(root)
  end)

  describe("on a bus", function()
    before_each(function()
      start_bus()
      serve { mine = root .. "/mine.lua", ["my-own"] = root .. "/my-own.lua",
              broken = root .. "/broken.lua", file = "handlers/file.lua" }
      settle("the name", function() return logged "targetcli can make disks" end)
    end)

    it("has an object with a description for each handler", function()
      local text = objects()
      assert.matches(PATH .. "/file", text, 1, true)
      assert.matches("made by a spec", text, 1, true)
      assert.matches("a=INTEGER  a number (default 1)", text, 1, true)
      assert.matches(PATH .. "/lua", text, 1, true)
    end)

    it("leaves out what is broken or has a name D-Bus cannot have", function()
      assert.matches("broken.lua does not return a handler",
                     logged "not for targetcli", 1, true)
      assert.truthy(logged "targetcli cannot have 'my-own'")
      local text = objects()
      assert.is_nil(text:find("broken", 1, true))
    end)

    it("finds a sound configuration valid", function()
      assert.matches("boolean true", check("mine", "mine/a=2"), 1, true)
      assert.matches("boolean true", check("mine", "mine/"), 1, true)
    end)

    it("refuses wrong configurations and says why", function()
      for _, case in ipairs {
        { "mine", "mine/b=2", "there is no option 'b'" },
        { "mine", "mine/a=x", "option 'a': 'x' is not an integer" },
        { "mine", "mine/a=7", "seven is taken" },
        { "mine", "mine/--help", "'--help' is not an integer" },
        { "mine", "file/path=/x", "does not begin with 'mine/'" },
        { "mine", "mine/a=1,b=2", "separated by ';'" },
        { "file", "file/path=nbd://x", "refuses every ':'" },
        { "file", "file/path=/" .. ("x"):rep(300), "characters too long" },
        { "lua", "lua/a=1", "path=FILE" },
        { "lua", "lua/path=/nowhere.lua", "no handler file '/nowhere.lua'" },
      } do
        local handler, config, why = table.unpack(case)
        local text = check(handler, config)
        assert.matches("boolean false", text, 1, true)
        assert.matches(why, text, 1, true)
      end
    end)

    it("checks a handler that is not installed", function()
      assert.matches("boolean true",
        check("lua", ("lua/path=%s/mine.lua;a=3"):format(root)), 1, true)
    end)

    it("answers others while a handler's check does not end", function()
      os.execute("mkfifo " .. root .. "/fifo")
      local over = start_check("mine", "mine/a=9")
      assert.matches("boolean true", check("mine", "mine/a=1"), 1, true)
      assert.is_nil(over())
      -- Both ends, which waits for nobody: a slow machine may have lost the
      -- check to its limit.
      local fifo <close> = assert(io.open(root .. "/fifo", "r+"))
      fifo:write "\n"
      fifo:flush()
      settle("the slow check", over)
    end)

    it("says so when the bus goes", function()
      daemon:kill "sigterm"
      settle("the loss", function() return logged "the system bus is gone" end)
    end)

    it("waits for the name while another program has it", function()
      serve { file = "handlers/file.lua" }
      settle("the queue", function() return logged "another program" end)
    end)
  end)

  it("needs no bus", function()
    serve { file = "handlers/file.lua" }
    assert.truthy(logged "info dbus: targetcli will not list our handlers: No such")
  end)
end)
