--- However a file is served - on the loop, by io_uring, by threads, past the
--- page cache - the bytes are the same; and what io_uring is asked for.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"
local tcmu = require "tcmu"

local BLOCK <const> = 512
local BLOCKS <const> = 2048
local SIZE <const> = BLOCKS * BLOCK
local SEED <const> = tonumber(os.getenv "SEED") or os.time()

local random = math.random

local function output(command)
  local pipe <close> = assert(io.popen(command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

local function temporary()
  return output "mktemp -u /var/tmp/tcmu-spec.XXXXXX"
end

local function read_file(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local function can_be_direct()
  local path = temporary()
  local ok, store = pcall(tcmu.store.file, path, "c", SIZE, { direct = true })
  if ok then store:close() end
  os.remove(path)
  return ok
end

local DIRECT <const> = can_be_direct()
local WAYS <const> = {
  ["on the loop"] = "",
  ["with every write on the loop"] = "writes=inline",
  ["never on the loop"] = "reads=async;writes=async",
  ["by threads"] = "aio=threads",
  ["by threads, never on the loop"] = "aio=threads;reads=async;writes=async",
  ["past the page cache"] = "direct=yes",
  ["past the page cache, by threads"] = "direct=yes;aio=threads",
}

-- Ranges of blocks that do not overlap, over all of the device.
local function ranges()
  local list, lba = {}, 0
  while lba < BLOCKS and #list < 100 do
    local length = math.min(random(4) == 1 and random(200) or random(20),
                            BLOCKS - lba)
    if random(5) > 1 then list[#list + 1] = { lba, length } end
    lba = lba + length
  end
  for i = #list, 2, -1 do
    local j = random(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

-- One command on a range: CDB, data, and what the blocks are afterwards (nil:
-- as they were).
local function command(lba, length)
  local verb = random(8)
  if verb <= 3 then
    return scsi.cdb.read_10 { lba = lba, length = length }
  elseif verb <= 6 then
    local data = string.pack("<I4", random(0, 0xFFFFFFFF))
      :rep(length * BLOCK // 4)
    return scsi.cdb.write_10 { lba = lba, length = length,
                               fua = random(3) == 1 and 1 or 0 }, data, data
  elseif verb == 7 then
    local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, lba, length, 0)
    return scsi.cdb.unmap { parameter_list_length = #list }, list,
           ("\0"):rep(length * BLOCK)
  end
  return scsi.cdb.write_same_10 { lba = lba, length = length },
         ("\0"):rep(BLOCK), ("\0"):rep(length * BLOCK)
end

-- Goes through rounds of commands that are under way at the same time.
local function compare(dev, path)
  local model = ("\0"):rep(SIZE)
  for _ = 1, 8 do
    local sent, after = {}, {}
    for _, range in ipairs(ranges()) do
      local lba, length = range[1], range[2]
      local bytes, data, becomes = command(lba, length)
      sent[#sent + 1] = { lba = lba, length = length, is_read = not data,
                          handle = dev:submit(bytes, data) }
      after[lba] = becomes
    end
    if random(2) == 1 then
      sent[#sent + 1] = {
        handle = dev:submit(scsi.cdb.synchronize_cache_10 {}) }
    end
    for _, s in ipairs(sent) do
      local r = dev:wait(s.handle)
      assert.is.good(r)
      if s.is_read then
        assert(r.data == model:sub(s.lba * BLOCK + 1,
                                   (s.lba + s.length) * BLOCK),
               ("blocks from %d differ, seed %d"):format(s.lba, SEED))
      end
    end
    local parts, at = {}, 0
    for lba = 0, BLOCKS - 1 do
      if after[lba] then
        parts[#parts + 1] = model:sub(at + 1, lba * BLOCK) .. after[lba]
        at = lba * BLOCK + #after[lba]
      end
    end
    model = table.concat(parts) .. model:sub(at + 1)
  end
  assert(read_file(path) == model, "the file differs, seed " .. SEED)
end

describe("a file that is served", function()
  for name, way in pairs(WAYS) do
    it(name .. " has the bytes that were written", function()
      if way:find "direct" and not DIRECT then
        pending "the file system of /var/tmp has no direct I/O"
        return
      end
      math.randomseed(SEED)
      for _, options in ipairs { {}, { write_cache = false },
                                 { no_fast_path = true } } do
        local path = temporary()
        options.size = SIZE
        options.options = "path=" .. path .. ";create=yes;" .. way
        local dev <close> = assert(sim.device("handlers/file.lua", options))
        compare(dev, path)
        os.remove(path)
      end
    end)
  end

  for _, way in ipairs { "direct=yes", "direct=yes;aio=threads" } do
    it("past the page cache of a disk with larger blocks has the bytes that "
       .. "were written, with " .. way, function()
      local image = temporary()
      assert(os.execute(("truncate -s %d %s"):format(SIZE, image)))
      local disk = output("losetup -f --show --sector-size 4096 " .. image
                          .. " 2>/dev/null")
      finally(function()
        if disk ~= "" then os.execute("losetup -d " .. disk) end
        os.remove(image)
      end)
      if disk == "" then pending "needs root and a loop device" return end
      math.randomseed(SEED)
      local dev <close> = assert(sim.device("handlers/file.lua", {
        size = SIZE, options = "path=" .. disk .. ";" .. way }))
      compare(dev, disk)
    end)
  end

  it("past the page cache is written in pieces of any size at the same time",
     function()
    if not DIRECT then
      pending "the file system of /var/tmp has no direct I/O"
      return
    end
    local path = temporary()
    local dev <close> = assert(sim.device(([[=pieces
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "pieces",
        open = function(dev)
          return { store = tcmu.store.file(%q, "c", dev.size,
                                           { direct = true }) }
        end,
        on = { [0xC1] = function(self)
          local jobs, at = {}, 0
          for i = 1, 40 do
            local n, from = i * 13 %% 700 + 1, at
            local byte = 65 + i %% 26
            jobs[i] = function()
              local b = tcmu.buffer(n + 1)
              b:fill(byte)
              self.store:write(b, from, i %% 3 == 0, 1, n)
            end
            at = at + n
          end
          tcmu.all(table.unpack(jobs))
        end } }]]):format(path), { size = SIZE }))
    assert.is.good(dev:cmd("\xC1" .. ("\0"):rep(9)))
    local want = {}
    for i = 1, 40 do
      want[i] = string.char(65 + i % 26):rep(i * 13 % 700 + 1)
    end
    want = table.concat(want)
    assert.equal(want, read_file(path):sub(1, #want))
    os.remove(path)
  end)

  it("past the page cache refuses what has no direct I/O with a sentence",
     function()
    local path = output "mktemp -u /dev/shm/tcmu-spec.XXXXXX"
    local ok, why = pcall(tcmu.store.file, path, "c", SIZE, { direct = true })
    os.remove(path)
    assert.is_false(ok)
    assert.matches("leave out direct=yes", tostring(why))
    ok, why = pcall(tcmu.store.file, path, "c", SIZE,
                    { direct = true, writes = "inline" })
    assert.is_false(ok)
    assert.matches("leave out writes=inline", tostring(why))
  end)

  it("more at a time than io_uring takes waits for its turn", function()
    local path = temporary()
    local dev <close> = assert(sim.device(([[=many
      local tcmu = require "tcmu"
      local COUNT <const>, EACH <const> = 12, 32
      return tcmu.handler {
        name = "many",
        open = function(dev)
          local self = { store = tcmu.store.memory(dev.size) }
          for i = 1, COUNT do
            self[i] = tcmu.store.file(%q .. i, "c", 1 << 20,
                                      { reads = "async" })
            os.remove(%q .. i)
            local b = tcmu.buffer(1 << 20)
            b:fill(i)
            self[i]:write(b, 0)
          end
          return self
        end,
        on = { [0xC1] = function(self)
          local jobs, good = {}, 0
          for i = 1, COUNT * EACH do
            local n = (i - 1) %% COUNT + 1
            jobs[i] = function()
              local b = tcmu.buffer(512)
              self[n]:read(b, i * 512)
              if b:get() == string.char(n):rep(512) then good = good + 1 end
            end
          end
          tcmu.all(table.unpack(jobs))
          return tostring(good)
        end } }]]):format(path, path), { size = SIZE }))
    local r = dev:cmd("\xC1" .. ("\0"):rep(9))
    assert.is.good(r)
    assert.equal("384", r.data)
  end)
end)

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

  for _, aio in ipairs { "auto", "threads" } do
    it("leaves the other stores of the loop alone, aio=" .. aio, function()
      if frozen == nil then pending "needs root and a loop device" return end
      local dev <close> = assert(sim.device(([[=two
        local tcmu = require "tcmu"
        return tcmu.handler {
          name = "two",
          open = function(dev)
            local options = { aio = %q, writes = "async", reads = "async" }
            return { done = 0,
              slow = tcmu.store.file(%q, "c", 1 << 20, options),
              other = tcmu.store.file(%q, "c", 1 << 20, options) }
          end,
          on = {
            [0xC1] = function(self)
              for i = 1, 100 do
                tcmu.spawn(function()
                  self.slow:zero(i * 8192, 4096)
                  self.done = self.done + 1
                end)
              end
              local b = tcmu.buffer(4096)
              for i = 1, 20 do self.other:write(b, i * 8192, true) end
              for i = 1, 20 do self.other:read(b, i * 8192) end
              return tostring(self.done)
            end,
            [0xC2] = function(self) return tostring(self.done) end,
          } }]]):format(aio, dir .. "/slow", image .. ".other"),
        { size = SIZE }))
      frozen = os.execute("fsfreeze -f " .. dir)
      local meanwhile = dev:cmd("\xC1" .. ("\0"):rep(9))
      os.execute("fsfreeze -u " .. dir)
      assert.is_true(frozen)
      frozen = false
      assert.equal("0", meanwhile.data)
      local done
      repeat done = dev:cmd("\xC2" .. ("\0"):rep(9)).data until done == "100"
    end)
  end
end)

local CAN_TRACE <const> =
  os.execute("strace -o /dev/null true >/dev/null 2>&1") == true
local HAS_RING <const> = CAN_TRACE and
  output(("strace -e trace=io_uring_setup lua5.4 -e %q 2>&1"):format(([[
    package.path, package.cpath = '%s', '%s'
    require('tcmu').store.file('Makefile', 'r')]])
    :format(package.path, package.cpath))):find "io_uring_setup%(.*= %d" ~= nil

describe("io_uring", function()
  -- The system calls of `body` with a device `dev` of 1 MiB, 32 commands of
  -- which can be sent by all(f), from another interpreter; what it writes.
  local function trace(how, options, body)
    local path, log, script = temporary(), os.tmpname(), os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write(([[
      package.path, package.cpath = %q, %q
      local sim, scsi = require "tcmu.sim", require "tcmu.scsi"
      local dev = assert(sim.device("handlers/file.lua", { size = 1 << 20,
        options = "path=%s;create=yes;%s" }))
      local function all(f)
        local handles = {}
        for i = 1, 32 do handles[i] = dev:submit(f(i)) end
        for i = 1, 32 do
          local r = dev:wait(handles[i])
          io.stdout:write(r.sense and "x" or r.status == 0 and "." or "?")
        end
      end
      local function read(i)
        return scsi.cdb.read_10 { lba = i * 8, length = 8 }
      end
      local function write(i)
        return scsi.cdb.write_10 { lba = i * 8, length = 8 }, ("d"):rep(4096)
      end
      all(write)
      io.open "/nowhere/begin"
      %s
      io.open "/nowhere/end"
      io.stdout:flush()
      os.exit(true)]]):format(package.path, package.cpath, path, options, body))
    file:close()
    local out = output(("UV_THREADPOOL_SIZE=1 ASAN_OPTIONS=detect_leaks=0 "
      .. "strace -f -qq -o %s %s lua5.4 %s 2>&1"):format(log, how, script))
    local calls, on = {}, false
    for line in io.lines(log) do
      if line:find "/nowhere/begin" then on = true
      elseif line:find "/nowhere/end" then on = false
      elseif on then calls[#calls + 1] = line end
    end
    os.remove(path) os.remove(log) os.remove(script)
    return out, calls
  end

  local function traced(what, body)
    it(what, function()
      if not CAN_TRACE then pending "strace may not trace here" return end
      if not HAS_RING then pending "io_uring is not to be had here" return end
      body()
    end)
  end

  traced("takes what one pass over the ring has brought in one system call",
         function()
    local out, calls = trace("-e trace=io_uring_enter,openat",
                             "reads=async", "all(read)")
    assert.equal(("."):rep(64), out)
    assert.equal(1, #calls, table.concat(calls, "\n"))
    assert.matches("io_uring_enter%(%d+, 32, 0, 0, NULL, %d+%) *= 32", calls[1])
  end)

  traced("takes reads from the page cache as well, once many come together",
         function()
    local out, calls = trace("-e trace=io_uring_enter,preadv2,openat",
                             "", "all(read) all(read)")
    assert.equal(("."):rep(96), out)
    local all = table.concat(calls, "\n")
    if all:find "EOPNOTSUPP" then
      pending "the file system of /var/tmp refuses RWF_NOWAIT"
    end
    assert.equal(32, select(2, all:gsub("preadv2%(", "")))
    assert.equal(1, select(2, all:gsub("io_uring_enter%(", "")))
    assert.matches("io_uring_enter%(%d+, 32, 0, 0, NULL, %d+%) *= 32", all)
  end)

  traced("takes the syncs of many writes as one", function()
    local out, calls = trace("-e trace=io_uring_enter,openat", "", [[
      assert(dev:change("write_cache", { write_cache = false }) == 0)
      all(write)]])
    assert.equal(("."):rep(64), out)
    local asked = 0
    for _, line in ipairs(calls) do
      asked = asked + tonumber(line:match "io_uring_enter%(%d+, (%d+)")
    end
    -- the cache's own when it is switched off, 32 writes, and a few syncs
    assert.is_true(asked <= 32 + 8, asked)
  end)

  traced("that takes nothing for a while is asked again", function()
    local out = trace("-e trace=io_uring_enter,openat "
      .. "-e inject=io_uring_enter:error=EAGAIN:when=2..9", "reads=async",
      "all(read) all(read)")
    assert.equal(("."):rep(96), out)
  end)

  it("or threads sync many writes together, after the last of them", function()
    if not CAN_TRACE then pending "strace may not trace here" return end
    local out, calls = trace("-e trace=pwritev2,fdatasync,openat",
      "aio=threads", [[
      assert(dev:change("write_cache", { write_cache = false }) == 0)
      all(write)]])
    assert.equal(("."):rep(64), out)
    local syncs, last = 0, nil
    for _, line in ipairs(calls) do
      last = line:match "(%w+)%(" or last
      if line:find "fdatasync%(" then syncs = syncs + 1 end
    end
    -- the cache's own when it is switched off comes first
    assert.is_true(syncs >= 2 and syncs <= 5, syncs)
    assert.equal("fdatasync", last)
  end)

  it("or threads: writes that a failing sync meets fail as well", function()
    if not CAN_TRACE then pending "strace may not trace here" return end
    local out = trace("-e trace=pwritev2,fdatasync,openat "
      .. "-e inject=fdatasync:error=EIO:when=1", "aio=threads", [[
      local function fua(i)
        return scsi.cdb.write_10 { lba = i, length = 1, fua = 1 },
               ("d"):rep(512)
      end
      local handles = { dev:submit(scsi.cdb.synchronize_cache_10 {}),
                        dev:submit(fua(1)), dev:submit(fua(2)) }
      for _, handle in ipairs(handles) do
        local r = dev:wait(handle)
        io.stdout:write(r.sense and "x" or ".")
      end
      io.stdout:write(dev:cmd(fua(1)).sense and "x" or ".")]])
    assert.equal(("."):rep(32) .. "xxx.", out:match "[^\n]*$")
  end)

  for _, errno in ipairs { "EPERM", "ENOSYS", "ENOMEM" } do
    it("refused with " .. errno .. " leaves its work to threads", function()
      if not CAN_TRACE then pending "strace may not trace here" return end
      local out, calls = trace(
        "-e trace=io_uring_setup,io_uring_enter,preadv2,openat "
        .. "-e inject=io_uring_setup:error=" .. errno, "reads=async",
        "all(read)")
      local dots, told = out:gsub("stores: io_uring is not to be had[^\n]*\n?",
                                  "")
      assert.equal(HAS_RING and 1 or told, told, out)
      assert.equal(("."):rep(64), (dots:match "%.+$"))
      assert.equal(0, select(2, table.concat(calls, "\n"):gsub("io_uring", "")))
      assert.is_true(#calls >= 32)
    end)
  end
end)

-- The calls are the kernel's own then, out of strace's sight: its tracing tells
-- of them.
describe("when io_uring serves,", function()
  local TRACING <const> = "/sys/kernel/tracing"
  local instance, mounted

  local function put(name, text)
    local file <close> = io.open(instance .. "/" .. name, "w")
    return file and file:write(text) and true
  end

  local function prepare()
    if not HAS_RING or output "id -u" ~= "0" or
       output "stat -f -c %T /var/tmp" ~= "ext2/ext3" then return end
    if not os.execute("test -d " .. TRACING .. "/events") then
      mounted = os.execute("mount -t tracefs none " .. TRACING
                           .. " 2>/dev/null")
    end
    instance = output("mktemp -d " .. TRACING
                      .. "/instances/tcmu-spec.XXXXXX 2>/dev/null")
    if instance == "" then instance = nil end
    return instance
      and put("events/io_uring/io_uring_submit_req/enable", "1")
      and put("events/io_uring/io_uring_complete/enable", "1")
      and put("events/ext4/ext4_sync_file_enter/enable", "1")
  end

  teardown(function()
    if instance then os.execute("rmdir " .. instance) end
    if mounted then os.execute("umount " .. TRACING) end
  end)

  -- What the kernel does between two marks of `body`: a word for each event.
  local function trace(options, body)
    local path, script = temporary(), os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write(([[
      package.path, package.cpath = %q, %q
      local sim, scsi = require "tcmu.sim", require "tcmu.scsi"
      local marks = assert(io.open(%q, "w"))
      marks:setvbuf "no"
      local function mark(name) marks:write("mark " .. name) end
      local function data(blocks) return ("d"):rep(blocks * 512) end
      local dev = assert(sim.device("handlers/file.lua", { size = 1 << 20,
        options = "path=%s;create=yes;%s" }))
      local function cmd(label, ...)
        mark(label)
        assert(dev:cmd(...).status == 0, label .. " failed")
        mark "over"
      end
      %s]]):format(package.path, package.cpath, instance .. "/trace_marker",
                   path, options, body))
    file:close()
    put("trace", "")
    local pid = output(("sh -c 'echo $$; exec lua5.4 %s'"):format(script))
    local calls, label = { over = "" }, "over"
    for line in io.lines(instance .. "/trace") do
      local word = line:match "mark (%w+)"
      local ours = line:match("^ *lua5.4%-" .. pid .. " ")
        or line:match("^ *iou%-wrk%-" .. pid .. "%-")
      if ours and word then
        label = word
        calls[label] = ""
      elseif ours then
        word = line:match "io_uring_submit_req:.*opcode (%w+)"
          or line:match "ext4_sync_file_enter:" and "sync"
          or line:match "io_uring_complete:" and "ended"
        if word then calls[label] = calls[label] .. word:lower() .. " " end
      end
    end
    os.remove(path) os.remove(script)
    return calls
  end

  it("what is to be stable is on the disk before it ends", function()
    if not prepare() then
      pending "needs root, tracing, and a /var/tmp of ext4"
      return
    end
    local calls = trace("writes=async", [[
      cmd("cached", scsi.cdb.write_10 { lba = 0, length = 128 }, data(128))
      cmd("fua", scsi.cdb.write_10 { lba = 8, length = 8, fua = 1 }, data(8))
      cmd("flush", scsi.cdb.synchronize_cache_10 {})
      assert(dev:change("write_cache", { write_cache = false }) == 0)
      cmd("write", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
      local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, 0, 64, 0)
      cmd("unmap", scsi.cdb.unmap { parameter_list_length = #list }, list)
      cmd("zero", scsi.cdb.write_same_10 { lba = 64, length = 64 },
          ("\0"):rep(512))]])
    assert.matches("^writev? ended $", calls.cached)
    assert.matches("^writev? sync ended $", calls.fua)
    assert.matches("^fsync sync ended $", calls.flush)
    assert.matches("^writev? sync ended $", calls.write)
    assert.matches("^fallocate ended fsync sync ended $", calls.unmap)
    assert.matches("^fallocate ended fsync sync ended $", calls.zero)
  end)
end)
