--- core.leave: the end of a process whose threads do not come to theirs.
local edited = require "spec.edited"
local luv = require "spec.luv_it"

describe("core.leave", function()
  before_each(function()
    edited.make()
    assert(os.execute("mkfifo " .. edited.path "fifo"))
  end)
  after_each(edited.clean)

  -- Runs `body`, which has `uv` and the path `fifo`, in another interpreter
  -- that prints to a file of that name.
  local function left(out, body)
    edited.file("leaving.lua", ([[
      package.path, package.cpath = %q, %q
      local core, uv = require "tcmu.core", require "luv"
      local fifo = %q
      io.write "said"
      %s
      core.leave(3)]]):format(package.path, package.cpath,
                              edited.path "fifo", body))
    local _, _, status = os.execute(("timeout 10 lua5.4 %s 1<>%s"):format(
      edited.path "leaving.lua", edited.path(out)))
    assert.equal(3, status)
  end

  local function said()
    local out <close> = io.open(edited.path "out")
    return out:read("a")
  end

  luv("does not wait for what luv does to a file", function()
    left("out", [[
      uv.fs_open(fifo, "r", 0, function() end)
      uv.run "nowait"]])
    assert.equal("said", said())
  end)

  luv("does not wait for a thread that reads", function()
    left("out", [[
      uv.new_thread(function(path) io.open(path, "r+"):read() end, fifo)
      uv.sleep(100)]])
    assert.equal("said", said())
  end)

  luv("does not wait for a thread that prints", function()
    left("fifo", [[
      uv.new_thread(function() io.write(("x"):rep(1 << 20)) end)
      uv.sleep(100)]])
  end)
end)
