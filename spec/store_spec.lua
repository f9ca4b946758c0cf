-- Stores: memory, zero and file, through their Lua side in a plain
-- interpreter, where a call waits until the operation has ended.  What a file
-- asks of the kernel is read from strace, which also plays the broken disk.

local output = require "spec.shell".output
local strace = require "spec.strace"
local tcmu = require "tcmu"

local KIB <const>, MIB <const>, GIB <const>, TIB <const> =
  1 << 10, 1 << 20, 1 << 30, 1 << 40
local ENOENT <const>, EIO <const>, ENXIO <const>, EBUSY <const>,
  EISDIR <const>, ENOTBLK <const>, ENOSPC <const>, EROFS <const> =
  2, 5, 6, 16, 21, 15, 28, 30

local function put(store, offset, bytes, stable)
  local buf = tcmu.buffer(#bytes)
  buf:put(0, bytes)
  store:write(buf, offset, stable)
end

local function get(store, offset, n)
  local buf = tcmu.buffer(n)
  buf:fill(0xEE)
  store:read(buf, offset)
  return buf:get(0, n)
end

local function succeeds(command)
  return (os.execute(command .. " >/dev/null 2>&1"))
end

local function fails(errno, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equal(errno, type(e) == "table" and e.errno or e)
  return tostring(e)
end

-- Half a thousand random changes, each compared with a string model.
local function behaves_like_a_string(store, size)
  local model = ("\0"):rep(size)
  math.randomseed(42)
  for round = 1, 500 do
    local at = math.random(0, size - 1)
    local n = math.min(math.random(0, round % 5 == 0 and 200000 or 5000),
                       size - at)
    local verb = math.random(5)
    local bytes
    if verb == 1 then
      assert(get(store, at, n) == model:sub(at + 1, at + n), "read differs")
    elseif verb <= 3 then
      bytes = string.pack("<I4", round):rep(n // 4 + 1):sub(1, n)
      put(store, at, bytes, round % 50 == 0)
    else
      bytes = ("\0"):rep(n)
      store[verb == 4 and "discard" or "zero"](store, at, n, round % 50 == 0)
    end
    if bytes then
      model = model:sub(1, at) .. bytes .. model:sub(at + n + 1)
    end
  end
  assert(get(store, 0, size) == model, "the end differs")
end

local function knows_its_end(store, size)
  local buf = tcmu.buffer(2)
  fails(ENXIO, store.read, store, buf, size - 1)
  fails(ENXIO, store.write, store, buf, size - 1)
  fails(ENXIO, store.read, store, buf, math.maxinteger)
  fails(ENXIO, store.discard, store, 0, size + 1)
  fails(ENXIO, store.zero, store, 1, math.maxinteger)
end

local function resident()
  local file <close> = assert(io.open("/proc/self/statm"))
  local _, pages = file:read("n", "n")
  return pages * 4096
end

describe("a memory store", function()
  local store

  after_each(function() store:close() end)

  it("keeps what is written, whatever the borders", function()
    store = tcmu.store.memory(2 * MIB + 12345)
    behaves_like_a_string(store, 2 * MIB + 12345)
  end)

  it("refuses ranges beyond its end with ENXIO", function()
    store = tcmu.store.memory(MIB)
    knows_its_end(store, MIB)
  end)

  it("takes and fills the part of a buffer that is asked for", function()
    store = tcmu.store.memory(MIB)
    local buf <const> = tcmu.buffer(8)
    put(store, 0, "abcdefgh")
    store:read(buf, 2, 6)
    assert.equal("\0\0\0\0\0\0cd", tostring(buf))
    store:read(buf, 0, 1, 3)
    assert.equal("\0abc\0\0cd", tostring(buf))
    store:write(buf, 0, false, 6)
    store:write(buf, 4, false, 2, 2)
    assert.equal("cdcdbcgh", get(store, 0, 8))
    store:read(buf, 0, 8)
    store:read(buf, 0, 0, 0)
    assert.equal("\0abc\0\0cd", tostring(buf))
  end)

  it("refuses what is no part of a buffer", function()
    store = tcmu.store.memory(MIB)
    local buf <const> = tcmu.buffer(8)
    for _, part in ipairs {
      { 9 }, { -1 }, { 0, 9 }, { 8, 1 }, { 1, -1 }, { 4, math.maxinteger },
      { math.maxinteger }, { math.maxinteger, 1 }, { math.mininteger },
    } do
      assert.has_error(function()
        store:read(buf, 0, table.unpack(part))
      end)
      assert.has_error(function()
        store:write(buf, 0, false, table.unpack(part))
      end)
    end
  end)

  it("reads as zeroes where nothing was written", function()
    store = tcmu.store.memory(TIB)
    assert.equal(("\0"):rep(1000), get(store, TIB - 1000, 1000))
  end)

  it("costs what is written, and gives it back when discarded", function()
    store = tcmu.store.memory(TIB)
    collectgarbage()
    local before = resident()
    local buf <const> = tcmu.buffer(MIB)
    buf:fill(1)
    for i = 1, 64 do store:write(buf, i * GIB) end
    local full = resident() - before
    assert.is_true(full >= 64 * MIB and full < 80 * MIB, full)
    store:discard(0, TIB)
    assert.is_true(resident() - before < 16 * MIB)
    assert.equal("\0", get(store, 64 * GIB, 1))
  end)

  it("keeps its contents when it grows by any amount", function()
    store = tcmu.store.memory(MIB)
    put(store, MIB - 3, "abc")
    for _, size in ipairs { GIB, TIB, 1 << 60 } do
      store:resize(size)
      assert.equal(size, store:size())
      assert.equal("abc\0", get(store, MIB - 3, 4))
      put(store, size - 3, "xyz")
      assert.equal("xyz", get(store, size - 3, 3))
    end
  end)

  it("forgets what it shrinks away", function()
    store = tcmu.store.memory(MIB)
    put(store, MIB // 2 - 2, "abcd")
    put(store, MIB - 3, "xyz")
    store:resize(MIB // 2)
    knows_its_end(store, MIB // 2)
    store:resize(MIB)
    assert.equal("ab\0\0", get(store, MIB // 2 - 2, 4))
    assert.equal("\0\0\0", get(store, MIB - 3, 3))
  end)

  it("says that it is thin and has nothing to lose in a cache", function()
    store = tcmu.store.memory(MIB)
    local info = store:info()
    assert.equal(MIB, info.size)
    assert.is_true(info.discards)
    assert.is_false(info.volatile_cache)
    assert.is_false(info.read_only)
  end)
end)

describe("a zero store", function()
  it("forgets what is written", function()
    local store <close> = tcmu.store.zero(MIB)
    put(store, 0, "something")
    store:flush()
    assert.equal(("\0"):rep(9), get(store, 0, 9))
    knows_its_end(store, MIB)
  end)
end)

-- The same facts wherever the file is and whatever serves it.
local function can_be_direct()
  local path = output "mktemp -u /var/tmp/tcmu-spec.XXXXXX"
  local ok, store = pcall(tcmu.store.file, path, "c", MIB, { direct = true })
  if ok then store:close() end
  os.remove(path)
  return ok
end

local places = {
  { "on a disk", "/var/tmp" },
  { "on a disk, never on the loop", "/var/tmp",
    { reads = "async", writes = "async" } },
  { "on a disk, with writes on the loop", "/var/tmp", { writes = "inline" } },
  { "on a disk, by threads", "/var/tmp",
    { reads = "async", writes = "async", aio = "threads" } },
  { "in memory", "/dev/shm" },
  { "in memory, never on the loop", "/dev/shm",
    { reads = "async", writes = "async" } },
}

if can_be_direct() then
  places[#places + 1] = { "past the page cache", "/var/tmp", { direct = true } }
  places[#places + 1] = { "past the page cache, by threads", "/var/tmp",
                          { direct = true, aio = "threads" } }
else
  describe("a file store past the page cache", function()
    pending "the file system of /var/tmp has no direct I/O"
  end)
end

for _, place in ipairs(places) do
  describe("a file store " .. place[1], function()
    local dir, path, store

    before_each(function()
      dir = output("mktemp -d " .. place[2] .. "/tcmu-spec.XXXXXX")
      path = dir .. "/img"
    end)

    after_each(function()
      if store then store:close() end
      store = nil
      assert(succeeds("rm -r " .. dir))
    end)

    local function size_of(format)
      return tonumber(output("stat -c " .. format .. " " .. path))
    end

    local function open(mode, size)
      store = tcmu.store.file(path, mode, size, place[3])
      return store
    end

    it("keeps what is written, whatever the borders", function()
      behaves_like_a_string(open("c", MIB), MIB)
    end)

    it("keeps it in the file", function()
      put(open("c", MIB), 1000, "hello")
      store:flush()
      store:close()
      assert.equal("hello", get(open("r"), 1000, 5))
    end)

    it("refuses ranges beyond its end with ENXIO", function()
      knows_its_end(open("c", MIB), MIB)
    end)

    it("is made sparse, of the right size and for its owner alone", function()
      open("c", 64 * MIB)
      assert.equal(64 * MIB, size_of "%s")
      assert.is_true(size_of "%b" * 512 < MIB)
      assert.equal(600, size_of "%a")
    end)

    it("gives the space of what is discarded back", function()
      put(open("c", 4 * MIB), 0, ("x"):rep(4 * MIB), true)
      assert.is_true(size_of "%b" * 512 >= 4 * MIB)
      store:discard(0, 4 * MIB, true)
      assert.is_true(size_of "%b" * 512 < MIB)
      assert.equal(4 * MIB, size_of "%s")
    end)

    it("serves the beginning of a file that is longer", function()
      open("c", 2 * MIB):close()
      assert.equal(MIB, open("rw", MIB):size())
      knows_its_end(store, MIB)
      assert.equal(2 * MIB, size_of "%s")
    end)

    it("has the size of its file when none is given", function()
      open("c", 3 * MIB):close()
      assert.equal(3 * MIB, open():size())
    end)

    it("refuses a shorter file and says how to make it longer", function()
      open("c", MIB):close()
      local why = fails(ENOSPC, open, "c", 2 * MIB)
      assert.truthy(why:find("truncate -s 2097152 " .. path, 1, true))
    end)

    it("refuses a missing file and says how to make it", function()
      local why = fails(ENOENT, open, "rw", MIB)
      assert.truthy(why:find("truncate -s 1048576 " .. path, 1, true))
      assert.is_falsy(succeeds("test -e " .. path))
    end)

    it("does not make a file for reading only", function()
      fails(ENOENT, open, "r", MIB)
    end)

    it("refuses a directory, a FIFO and a terminal", function()
      fails(EISDIR, tcmu.store.file, dir)
      assert(succeeds("mkfifo " .. path))
      fails(ENOTBLK, open)
      fails(ENOTBLK, tcmu.store.file, "/dev/null")
    end)

    it("cannot be served a second time, until it is closed", function()
      open("c", MIB)
      assert.matches("in use", fails(EBUSY, tcmu.store.file, path))
      fails(EBUSY, tcmu.store.file, path, "r")
      store:close()
      open()
    end)

    it("refuses an option's value that it does not know", function()
      for option in pairs { reads = 1, writes = 1, aio = 1 } do
        assert.error_matches(function()
          tcmu.store.file(path, "c", MIB, { [option] = "soon" })
        end, "'soon' is no choice for '" .. option)
      end
    end)

    it("can be read by two, and then not be written", function()
      open("c", MIB):close()
      open("r")
      local other <close> = tcmu.store.file(path, "r")
      assert.equal("\0", get(other, 0, 1))
      fails(EBUSY, tcmu.store.file, path)
    end)

    it("changes nothing when it is read only", function()
      open("c", MIB):close()
      open("r")
      assert.is_true(store:info().read_only)
      fails(EROFS, put, store, 0, "x")
      fails(EROFS, store.discard, store, 0, 512)
      fails(EROFS, store.zero, store, 0, 512)
      fails(EROFS, store.resize, store, 2 * MIB)
      store:flush()
      assert.equal("\0", get(store, 0, 1))
    end)

    it("fails a read with EIO where the file has been cut off", function()
      put(open("c", MIB), 0, ("x"):rep(MIB))
      assert(succeeds("truncate -s 512K " .. path))
      fails(EIO, get, store, 512 * KIB - 1, 2)
      fails(EIO, get, store, 600 * KIB, 1)
      assert.equal("x", get(store, 512 * KIB - 1, 1))
    end)

    it("grows its file and never shortens it", function()
      open("c", MIB):resize(2 * MIB)
      assert.equal(2 * MIB, size_of "%s")
      put(store, 2 * MIB - 1, "x")
      store:resize(MIB)
      assert.equal(MIB, store:size())
      knows_its_end(store, MIB)
      assert.equal(2 * MIB, size_of "%s")
    end)
  end)
end

describe("a file store, seen from the kernel,", function()
  local NOWAIT <const>, WRITE <const>, STABLE <const>, SYNC <const> =
    "RWF_NOWAIT", "pwritev2(", "RWF_DSYNC", "fdatasync("
  local dir, path, trace

  before_each(function()
    dir = output "mktemp -d /var/tmp/tcmu-spec.XXXXXX"
    path = dir .. "/img"
    trace = {}
  end)

  after_each(function() assert(succeeds("rm -r " .. dir)) end)

  -- Runs `script` with a `store` on 1 MiB, a `buf` of 4 KiB and `try`, which
  -- prints "ok" or the errno.  One thread in the pool, so that "the first
  -- call" of an injected error means one thing.
  local function watch(script, inject, at)
    local lines, out = strace.run(([[
      local tcmu = require "tcmu"
      local store = tcmu.store.file(%q, "c", 1 << 20, { aio = "threads" })
      local buf = tcmu.buffer(4096)
      local function try(verb, ...)
        local ok, e = pcall(store[verb], store, ...)
        print(ok and "ok" or e.errno)
      end
      %s]]):format(at or path, script), "preadv2,pwritev2,fdatasync",
      inject and "-e inject=" .. inject)
    trace = lines
    return out
  end

  local function count(...)
    local n = 0
    for _, line in ipairs(trace) do
      local all = true
      for _, what in ipairs { ... } do
        all = all and line:find(what, 1, true)
      end
      n = n + (all and 1 or 0)
    end
    return n
  end

  if output "stat -f -c %T /var/tmp" == "tmpfs" then
    pending("needs /var/tmp on a disk, and here it is in memory")
    return
  end

  setup(function()
    assert(succeeds "strace -V", "strace is missing: apt-get install strace")
  end)

  it("makes a stable write one call that ends on the disk", function()
    assert.equal("ok", watch 'try("write", buf, 0, true)')
    assert.equal(1, count(WRITE, STABLE, "= 4096"))
    assert.equal(1, count(WRITE))
    assert.equal(0, count(SYNC))
  end)

  it("lets a write that need not be stable stay in the cache", function()
    assert.equal("ok", watch 'try("write", buf, 0, false)')
    assert.equal(0, count(STABLE) + count(SYNC))
    assert.equal(1, count(WRITE, "= 4096"))
  end)

  it("makes a flush reach the disk", function()
    assert.equal("ok\nok", watch 'try("write", buf, 0) try("flush")')
    assert.equal(1, count(SYNC))
  end)

  it("makes a stable discard and a stable zero reach the disk", function()
    watch [[try("discard", 0, 4096) try("zero", 0, 4096)]]
    assert.equal(0, count(SYNC))
    watch [[try("discard", 0, 4096, true) try("zero", 0, 4096, true)]]
    assert.equal(2, count(SYNC))
  end)

  it("answers from the page cache without a thread", function()
    watch [[try("write", buf, 0, true) try("read", buf, 0)]]
    if count("preadv2(", NOWAIT, "EOPNOTSUPP") > 0 then
      pending("the file system of /var/tmp refuses RWF_NOWAIT")
    end
    assert.equal(1, count("preadv2(", NOWAIT, "= 4096"))
    assert.equal(0, count("preadv2(", ", 0) ="))
  end)

  it("goes on in a thread where the page cache has nothing", function()
    assert.equal("ok", watch('try("read", buf, 0)',
                             "preadv2:error=EAGAIN:when=2"))
    if count("preadv2(", NOWAIT, "EOPNOTSUPP") > 0 then
      pending("the file system of /var/tmp refuses RWF_NOWAIT")
    end
    -- The question whether the file takes RWF_NOWAIT may have met nothing too.
    assert.is_true(count("preadv2(", NOWAIT, "EAGAIN") >= 1)
    assert.equal(0, count("preadv2(", NOWAIT, "= 4096"))
    assert.equal(1, count("preadv2(", "0, 0) = 4096"))
  end)

  it("has nothing to make stable in memory", function()
    local shm = output "mktemp -u /dev/shm/tcmu-spec.XXXXXX"
    watch([[try("write", buf, 0, true) try("flush")]], nil, shm)
    os.remove(shm)
    assert.equal(0, count(STABLE) + count(SYNC))
    assert.equal(1, count(WRITE, "= 4096"))
  end)

  it("writes and then syncs where the kernel knows no RWF_DSYNC", function()
    local out = watch([[try("write", buf, 0, true) try("write", buf, 0, true)]],
                      "pwritev2:error=EOPNOTSUPP:when=1")
    assert.equal("ok\nok", out)
    assert.equal(1, count(WRITE, STABLE))
    assert.equal(2, count(WRITE, "= 4096"))
    assert.equal(2, count(SYNC))
  end)

  it("is not disturbed by signals", function()
    assert.equal("ok\nok", watch([[try("write", buf, 0, true) try("flush")]],
                                 "pwritev2,fdatasync:error=EINTR:when=1"))
    assert.equal(1, count(WRITE, "= 4096"))
  end)

  it("never flushes with success again after a flush has failed", function()
    local out = watch([[try("write", buf, 0) try("flush") try("flush")
                        try("write", buf, 0, true) try("read", buf, 0)]],
                      "fdatasync:error=EIO:when=1")
    assert.equal("ok\n5\n5\nok\nok", out)
  end)

  it("nor after the sync of a stable write has failed", function()
    assert.equal("5\n5", watch([[try("write", buf, 0, true) try("flush")]],
                               "pwritev2:error=EIO:when=1"))
  end)

  it("goes on flushing after a write that found no space", function()
    assert.equal("28\nok", watch([[try("write", buf, 0, true) try("flush")]],
                                 "pwritev2:error=ENOSPC"))
  end)

  it("and after one that found some in the end, which is stable", function()
    local none <const> = "pwritev2:error=ENOSPC:when=1"
    local script <const> = [[try("write", buf, 0, true) try("flush")]]
    assert.equal("ok\nok", watch(script, none))
    assert.equal(2, count(SYNC, "= 0"))
    assert.equal("5\n5",
                 watch(script, none .. " -e inject=fdatasync:error=EIO:when=1"))
  end)
end)
