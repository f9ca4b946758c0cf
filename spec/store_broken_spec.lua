--- What a file store does when the disk below it fails, or hangs.
local commands = require "spec.commands"
local encode = require "tcmu.encode"
local shell = require "spec.shell"
local sim = require "tcmu.sim"
local tcmu = require "tcmu"

local output <const>, temporary <const> = shell.output, shell.temporary

local read <const>, write <const> = commands.read, commands.write

local SIZE <const> = 1 << 20
local BUSY <const> = 8

-- A loop device on a file system in memory: its writes fail while that is full.
describe("a disk that fails below a file store", function()
  local dir, disk

  before_each(function()
    dir = output "mktemp -d"
    if not os.execute(("mount -t tmpfs -o size=4M none %s 2>/dev/null")
                      :format(dir)) then return end
    os.execute(("truncate -s 64M %s/disk"):format(dir))
    disk = output(("losetup -f --show %s/disk 2>/dev/null"):format(dir))
  end)
  after_each(function()
    if disk and disk ~= "" then os.execute("losetup -d " .. disk) end
    os.execute(("umount %s 2>/dev/null; rmdir %s"):format(dir, dir))
    disk = nil
  end)

  local function breaks(yes)
    if yes then
      os.execute(("dd if=/dev/zero of=%s/full bs=4k 2>/dev/null"):format(dir))
    else
      os.remove(dir .. "/full")
    end
  end

  -- A word for each step.
  local function steps(options, stable)
    local buf = tcmu.buffer(4096)
    buf:fill(1)
    local store = tcmu.store.file(disk, "rw", 0, options)
    local words = {}
    local function try(verb, ...)
      words[#words + 1] = pcall(store[verb], store, ...) and "good" or "bad"
    end
    try("write", buf, 0, true)
    try("flush")
    breaks(true)
    try("write", buf, 1 << 20, stable)
    if not stable then try("flush") end
    breaks(false)
    try("flush")
    try("write", buf, 2 << 20, true)
    try("flush")
    store:close()
    store = tcmu.store.file(disk, "rw", 0, options)
    try("flush")
    store:close()
    return table.concat(words, " ")
  end

  local function needs_disk(what, body)
    it(what, function()
      if not disk or disk == "" then
        pending "needs root and a loop device"
        return
      end
      body()
    end)
  end

  for name, options in pairs {
    ["on the loop"] = {}, ["by threads"] = { aio = "threads" },
    ["with every write on the loop"] = { writes = "inline" },
  } do
    needs_disk("fails what was to be stable, and flushes until it is opened "
               .. "again, " .. name, function()
      assert.equal("good good bad bad good bad good", steps(options, true))
    end)

    -- the kernel tells the other description as well: one write more fails
    needs_disk("fails the flush of what is in the cache, and every later one, "
               .. name, function()
      assert.equal("good good good bad bad bad bad good", steps(options, false))
    end)
  end

  needs_disk("does not keep the handler's close from being called", function()
    local closed <const> = os.tmpname()
    os.remove(closed)
    local dev = assert(sim.device(([[=unflushed
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "unflushed",
        open = function(dev)
          return { store = tcmu.store.file(%q, "rw", dev.size) }
        end,
        close = function() io.open(%q, "w"):close() end,
      }]]):format(disk, closed), { size = SIZE, write_cache = true }))
    assert.is.good(dev:cmd(write(0, 8, "w")))
    breaks(true)
    assert.is.good(dev:cmd(write(8, 8, "w")))
    assert.equal(0, (dev:close()))
    breaks(false)
    assert.is_truthy(os.remove(closed))
  end)

  needs_disk("keeps a tape in its drive once, and is good when it is loaded "
             .. "again", function()
    local make <const> = encode.all "tape"
    local dev <close> = assert(sim.device("handlers/tape.lua", {
      size = 16 * SIZE, write_cache = true, options = "path=" .. disk }))
    local function word(cdb, data)
      local r = dev:cmd(cdb, data or { data_in = 0 })
      return r.status == 0 and "good" or "bad"
    end
    local function unload() return word(make.load_unload { load = 0 }) end
    local function filemark()
      return word(make.write_filemarks_6 { filemark_count = 1 })
    end
    local function record(n)
      return word(make.write_6 { blocks = n }, ("t"):rep(n))
    end
    dev:cmd(make.test_unit_ready())
    assert.equal("good", record(2 * SIZE))
    assert.equal("good", filemark())
    breaks(true)
    -- More than the disk has made room for because it was read before.
    assert.equal("good", record(3 * SIZE))
    assert.equal("bad", unload())
    breaks(false)
    assert.equal("good", unload())
    assert.equal("good", word(make.load_unload { load = 1 }))
    dev:cmd(make.test_unit_ready())
    assert.equal("good", filemark())
  end)

  needs_disk("fails only the write that goes past the page cache", function()
    assert.equal("good good bad good good good good",
                 steps({ direct = true }, true))
  end)
end)

describe("a file system that hangs", function()
  local image, dir, frozen

  before_each(function()
    image, dir = temporary(), output "mktemp -d"
    os.execute(("truncate -s 16M %s"):format(image))
    frozen = os.execute(("mkfs.ext4 -q %s 2>/dev/null && "
      .. "mount -o loop %s %s 2>/dev/null"):format(image, image, dir)) and false
  end)
  after_each(function()
    if frozen then os.execute("fsfreeze -u " .. dir) end
    os.execute(("umount %s 2>/dev/null; rmdir %s; rm -f %s %s.other")
               :format(dir, dir, image, image))
  end)

  -- To be closed, or thawed now, before a device closes, which waits for what
  -- it has begun; and after a while by itself, should a spec wait for it.
  local function freeze()
    local thawing = output(("cd /; { sleep 60; fsfreeze -u %s; } "
                            .. ">/dev/null 2>&1 & echo $!"):format(dir))
    local function now()
      if frozen then os.execute("fsfreeze -u " .. dir) end
      frozen = false
      if thawing then os.execute("kill " .. thawing) end
      thawing = nil
    end
    frozen = os.execute("fsfreeze -f " .. dir)
    assert.is_true(frozen)
    return setmetatable({ now = now }, { __close = now })
  end

  local function device(aio)
    return assert(sim.device("handlers/file.lua", { size = SIZE,
      options = ("path=%s/slow;create=yes;writes=async;aio=%s")
        :format(dir, aio) }))
  end

  -- What can happen while nobody waits.
  local function look(dev)
    for _ = 1, 20 do dev:run(function() return true end) end
  end

  for _, aio in ipairs { "auto", "threads" } do
    it("leaves the other stores of the loop alone, aio=" .. aio, function()
      if frozen == nil then pending "needs root and a loop device" return end
      local dev <close> = assert(sim.device(([[=two
        local tcmu = require "tcmu"
        return tcmu.handler {
          name = "two",
          open = function(dev)
            local options = { aio = %q, writes = "async", reads = "async" }
            return { done = 0, good = 0,
              slow = tcmu.store.file(%q, "c", 1 << 20, options),
              other = tcmu.store.file(%q, "c", 1 << 20, options) }
          end,
          on = {
            [0xC1] = function(self)
              for i = 1, 100 do
                tcmu.spawn(function()
                  local ok = pcall(self.slow.zero, self.slow, i * 8192, 4096)
                  self.done = self.done + 1
                  self.good = self.good + (ok and 1 or 0)
                end)
              end
              local b = tcmu.buffer(4096)
              for i = 1, 20 do self.other:write(b, i * 8192, true) end
              for i = 1, 20 do self.other:read(b, i * 8192) end
              return tostring(self.done)
            end,
            [0xC2] = function(self)
              return ("%%d of %%d"):format(self.good, self.done)
            end,
          } }]]):format(aio, dir .. "/slow", image .. ".other"),
        { size = SIZE }))
      local thaw <close> = freeze()
      local meanwhile = dev:cmd("\xC1" .. ("\0"):rep(9))
      thaw:now()
      assert.equal("0", meanwhile.data)
      local done
      repeat
        done = dev:cmd("\xC2" .. ("\0"):rep(9)).data
      until done:find " of 100$"
      assert.equal("100 of 100", done)
    end)

    -- What it writes then it takes from where new commands have their data.
    it("lets nothing new begin before it has ended what a reset of the ring "
       .. "has dropped, aio=" .. aio, function()
      if frozen == nil then pending "needs root and a loop device" return end
      local dev <close> = device(aio)
      local thaw <close> = freeze()
      for i = 1, 50 do dev:submit(write(i, 1, "o")) end
      look(dev)
      dev.kernel:reset(1)
      local new = dev:submit(write(100, 1, "n"))
      local ready = dev:submit(("\0"):rep(6))
      look(dev)
      local meanwhile = { new.result, ready.result }
      thaw:now()
      assert.same({}, meanwhile)
      assert.has.status(dev:wait(new), BUSY)
      assert.has.status(dev:wait(ready), BUSY)
      assert.is.good(dev:cmd(write(100, 1, "n")))
      assert.is_true(("n"):rep(512) == dev:cmd(read(100)).data)
      assert.is_true(("\0"):rep(512) == dev:cmd(read(50)).data)
      assert.is_false(dev.kernel:broken())
    end)

    it("delays a stop until it has ended what a reset of the ring has dropped, "
       .. "aio=" .. aio, function()
      if frozen == nil then pending "needs root and a loop device" return end
      local dev <close> = device(aio)
      local thaw <close> = freeze()
      dev:submit(write(1, 1, "o"))
      look(dev)
      dev.kernel:reset(1)
      local new = dev:submit(write(2, 1, "n"))
      look(dev)
      thaw:now()
      assert.equal(0, (dev:close()))
      assert.has.status(new.result, BUSY)
    end)
  end
end)
