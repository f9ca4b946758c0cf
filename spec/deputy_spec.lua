-- The thread that touches configfs, on files that answer and one that does not.
local deputy = require "tcmu.deputy"
local jobs = require "tcmu.jobs"
local tree = require "spec.tree"
local uv = require "luv"

local ENOENT <const>, ETIMEDOUT <const> = 2, 110

describe("tcmu.deputy", function()
  local root, io

  before_each(function()
    root = tree.make { ["a"] = "text\n", ["b"] = "" }
  end)
  after_each(function()
    io.close()
    uv.run()
    tree.remove(root)
  end)

  -- Runs fn as a job until it ends; fails if fn does.
  local function run(fn)
    local over, ok, why = false, nil, nil
    jobs.start(error, function()
      ok, why = pcall(fn)
      over = true
    end)
    while not over do uv.run "once" end
    if not ok then error(why, 0) end
  end

  it("reads and writes", function()
    io = assert(deputy.start(error))
    run(function()
      assert.equal("text", io.read(root .. "/a"))
      assert.is_true(io.write(root .. "/b", "1"))
    end)
    assert.equal("1", tree.read(root .. "/b"))
  end)

  it("says what is wrong with which file", function()
    io = assert(deputy.start(error))
    run(function()
      local text, why, code = io.read(root .. "/none")
      assert.is_nil(text)
      assert.equal(root .. "/none: No such file or directory", why)
      assert.equal(ENOENT, code)
    end)
  end)

  it("lists directories, and where links in them point", function()
    io = assert(deputy.start(error))
    tree.add(root, { ["sub/"] = "", ["link"] = { link = "sub" } })
    run(function()
      assert.same({ "a", "b", "link", "sub" }, io.list(root))
      assert.same({ link = "sub" }, io.links(root))
      assert.same({}, io.list(root .. "/sub"))
      assert.same({}, io.list(root .. "/none"))
    end)
  end)

  it("hangs in one file while it reads others", function()
    io = assert(deputy.start(error, 500))
    os.execute("mkfifo " .. root .. "/fifo")
    run(function()
      local _, _, code = io.read(root .. "/fifo")
      assert.equal(ETIMEDOUT, code)
    end)
    run(function() assert.equal("text", io.read(root .. "/a")) end)
    -- Frees the first thread, if that has come so far; waits for nobody.
    os.execute("echo x 1<>" .. root .. "/fifo")
  end)
end)
