--- What a command costs, by counts that do not depend on time: instructions,
--- allocations, system calls, wake-ups.  The times are spec/bench's.
--
-- The counting is done by the benchmark's program, which is built here: its
-- rows know what to run.

local RUN <const> = "build/bench/run"

-- Not under a sanitizer's library, should one be preloaded here.
local function sh(command)
  local pipe <const> = assert(io.popen("LD_PRELOAD= MAKEFLAGS= " .. command))
  local text <const> = pipe:read "a"
  return pipe:close() and text
end

local function row(name)
  local text <const> = sh(RUN .. " spec/bench/one.lua " .. name)
  local got <const> = load(assert(text, name .. " has failed"), name)()
  return got.values, got.reason
end

describe("a command", function()
  setup(function()
    assert(sh "make -s bench-program", "the benchmark cannot be built")
  end)

  -- Measured at depth 32, with the ring's and the loop's part.
  local function takes_at_most(limit, name)
    return function()
      local values <const>, reason <const> = row(name)
      if not values then pending(reason) return end
      assert.is_true(values[1] <= limit, ("%s: %.0f instructions, not %d")
                     :format(name, values[1], limit))
    end
  end

  it("without data takes few instructions in C", takes_at_most(130, "T3"))
  it("without data takes few instructions in Lua", takes_at_most(830, "T2"))

  it("allocates nothing, in C and in Lua", function()
    local values <const> = row "T6"
    assert.equal(0, values[1], "without data, in Lua")
    assert.equal(0, values[2], "READ and WRITE from a store")
    assert.equal(0, values[3], "READ and WRITE in Lua, by views")
  end)

  it("is told to the kernel together with its neighbours", function()
    local values <const> = row "T7"
    assert.equal(1, values[1], "write() per drain")
    assert.equal(1 / 32, values[2], "write() per command")
  end)
end)

describe("a hundred idle devices", function()
  it("wake nobody up", function()
    local values <const> = row "T16"
    assert.equal(0, values[2])
  end)
end)
