--- Zeroes on a block device: what is cleared by the device, and what has to be
--- written because it shares a page of the cache with other blocks.
local shell = require "spec.shell"
local strace = require "spec.strace"
local tcmu = require "tcmu"

local BLOCK <const>, PAGE <const> = 512, 4096
local SIZE <const> = 1 << 20
local SEED <const> = tonumber(os.getenv "SEED") or os.time()

describe("zeroes on a block device", function()
  local image, disk

  before_each(function()
    image = shell.temporary()
    assert(os.execute(("head -c %d /dev/urandom >%s"):format(SIZE, image)))
    disk = shell.output("losetup -f --show " .. image .. " 2>/dev/null")
  end)
  after_each(function()
    if disk ~= "" then os.execute("losetup -d " .. disk) end
    os.remove(image)
  end)

  local function on_a_disk(what, body)
    it(what, function()
      if disk == "" then pending "needs root and a loop device" return end
      body()
    end)
  end

  on_a_disk("are where they should be, and nowhere else", function()
    local random <const> = math.random
    math.randomseed(SEED)
    local store <close> = tcmu.store.file(disk, "rw", 0)
    local all <const> = tcmu.buffer(SIZE)
    for i = 1, 200 do
      local length <const> = random(random(2) == 1 and 20 or 300) * BLOCK
      local at <const> = random(0, (SIZE - length) // BLOCK) * BLOCK
      local verb <const> = random(2) == 1 and "zero" or "discard"
      store:read(all, 0)
      local before <const> = all:get()
      store[verb](store, at, length, random(4) == 1)
      store:read(all, 0)
      assert.is_true(all:get() == before:sub(1, at) .. ("\0"):rep(length)
                     .. before:sub(at + length + 1),
                     ("SEED=%d, step %d: %s(%d, %d)"):format(SEED, i, verb, at,
                                                             length))
      all:fill(random(255))
      store:write(all, 0)
    end
  end)

  -- Else a write to the rest of the page can bring back what was there.
  on_a_disk("are cleared by the device in whole pages only", function()
    if not strace.works then pending "strace may not trace here" return end
    local lines <const>, out <const> = strace.run(([[
      local store = require "tcmu".store.file(%q, "rw", 0, { aio = "threads" })
      for _, range in ipairs { { 3, 40 }, { 8, 16 }, { 16, 9 }, { 17, 7 },
                               { 9, 15 }, { 1, 3 } } do
        mark(table.concat(range, "+"))
        store:discard(range[1] * 512, range[2] * 512)
      end
      os.exit(true, true)]]):format(disk), "fallocate")
    assert.equal("", out)
    local cleared, label = {}, nil
    for _, line in ipairs(lines) do
      label = line:match "^> (.*)" or label
      local at <const>, length <const> = line:match "fallocate%(.*, (%d+), (%d+)%)"
      if at then
        cleared[label] = ("%g+%g"):format(at / PAGE, length / PAGE)
      end
    end
    assert.same({ ["3+40"] = "1+4", ["8+16"] = "1+2", ["16+9"] = "2+1",
                  ["9+15"] = "2+1" }, cleared)
  end)
end)
