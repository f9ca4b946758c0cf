--- What io_uring is asked for, what it does, and who does it where it is
--- refused.
local shell = require "spec.shell"
local strace = require "spec.strace"

local output <const>, temporary <const> = shell.output, shell.temporary

local HAS_RING <const> = strace.shows_a_ring()

describe("io_uring", function()
  -- The system calls of `body` with a device `dev` of 1 MiB, 32 commands of
  -- which can be sent by all(f), from another interpreter; what it writes.
  local function trace(calls, inject, options, body)
    local path = temporary()
    local lines, out = strace.run(([[
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
      mark "begin"
      %s
      mark "end"
      io.stdout:flush()
      os.exit(true)]]):format(path, options, body), calls, inject)
    os.remove(path)
    return out, strace.between(lines, "begin", "end")
  end

  local function traced(what, body)
    it(what, function()
      if not strace.works then pending "strace may not trace here" return end
      if not HAS_RING then pending "io_uring is not to be had here" return end
      body()
    end)
  end

  traced("takes what one pass over the ring has brought in one system call",
         function()
    local out, calls = trace("io_uring_enter", nil, "reads=async", "all(read)")
    assert.equal(("."):rep(64), out)
    assert.equal(1, #calls, table.concat(calls, "\n"))
    assert.matches("io_uring_enter%(%d+, 32, 0, 0, NULL, %d+%) *= 32", calls[1])
  end)

  traced("takes reads from the page cache as well, once many come together",
         function()
    local out, calls = trace("io_uring_enter,preadv2", nil, "",
                             "all(read) all(read)")
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
    local out, calls = trace("io_uring_enter", nil, "", [[
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
    local out = trace("io_uring_enter",
      "-e inject=io_uring_enter:error=EAGAIN:when=2..9", "reads=async",
      "all(read) all(read)")
    assert.equal(("."):rep(96), out)
  end)

  it("or threads sync many writes together, after the last of them", function()
    if not strace.works then pending "strace may not trace here" return end
    local out, calls = trace("pwritev2,fdatasync", nil, "aio=threads", [[
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
    if not strace.works then pending "strace may not trace here" return end
    local out = trace("pwritev2,fdatasync",
      "-e inject=fdatasync:error=EIO:when=1", "aio=threads", [[
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
      if not strace.works then pending "strace may not trace here" return end
      local out, calls = trace("io_uring_setup,io_uring_enter,preadv2",
        "-e inject=io_uring_setup:error=" .. errno, "reads=async",
        "all(read)")
      local dots, told = out:gsub("stores: io_uring is not to be had[^\n]*\n?",
                                  "")
      assert.equal(HAS_RING and 1 or told, told, out)
      assert.equal(("."):rep(64), (dots:match "%.+$"))
      assert.equal(0, select(2, table.concat(calls, "\n"):gsub("io_uring", "")))
      assert.is_true(#calls >= 32)
    end)
  end

  traced("keeps a thread's workers when its last store is closed", function()
    local out = trace("none", nil, "writes=async", [[
      local function workers()
        local f <close> = io.popen(("sleep 1; cat /proc/%d/task/*/comm"):format(
          require "luv".os_getpid()))
        return f:read("a"):find "iou%-wrk" ~= nil
      end
      local before = workers()
      dev:close()
      io.stdout:write(" ", tostring(before), " ", tostring(workers()))]])
    assert.equal(("."):rep(32) .. " true true", out)
  end)
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
