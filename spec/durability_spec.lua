--- What reaches the disk before a command is answered, seen from outside: the
--- system calls of handlers/file.lua, told by strace.
--
-- Mode page 08 promises it: with WCE=0 a WRITE is on stable storage when it
-- ends; with WCE=1 only FUA and SYNCHRONIZE CACHE get it there.

local shell = require "spec.shell"
local strace = require "spec.strace"

-- What every program begins with: a `dev` whose file the calls are about.
local HEAD <const> = [[
  local function data(blocks) return ("d"):rep(blocks * 512) end
  local dev = assert(sim.device("handlers/file.lua", { size = 1 << 20,
    options = "path=%s;create=yes;aio=threads", %s }))
]]

-- Runs `body` (with dev, scsi, `data(blocks)` and cmd(label, ...)) in another
-- interpreter; its calls on the file, in one string for each mark.
local function trace(body, options)
  local path <const> = shell.temporary()
  local lines, out = strace.run((HEAD .. [[
    local function cmd(label, ...)
      mark(label)
      local r = dev:cmd(...)
      assert(r.status == 0, label .. " failed")
    end
    %s
    mark "close"
    dev:close()
    os.exit(true, true)]]):format(path, options or "", body),
    "pwritev,pwritev2,pwrite64,fdatasync,fsync,fallocate,sync_file_range", "-y")
  os.remove(path)
  assert.equal("", out)
  local calls, label = {}, "open"
  for _, line in ipairs(lines) do
    local mark = line:match "^> (.*)"
    if mark then
      label = mark
    elseif line:find(path, 1, true) then
      local call = line:match("(%w+)%(")
      if line:find("RWF_DSYNC", 1, true) then call = call .. "+dsync" end
      calls[label] = (calls[label] and calls[label] .. " " or "") .. call
    end
  end
  return calls
end

-- The last call counts: one that may not wait is tried first.
local function last(calls) return calls and calls:match("%S+$") end

local function traced(what, body)
  it(what, function()
    if not strace.works then pending "strace may not trace here" return end
    if shell.output "stat -f -c %T /var/tmp" == "tmpfs" then
      pending "temporary files are in memory"
      return
    end
    body()
  end)
end

describe("without a write cache", function()
  local OFF <const> = "write_cache = false"

  traced("every write is stable when it ends", function()
    local calls = trace([[
      cmd("w6", scsi.cdb.write_6 { lba = 1, length = 1 }, data(1))
      cmd("w10", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
      cmd("w16", scsi.cdb.write_16 { lba = 8, length = 200 }, data(200))]], OFF)
    for _, label in ipairs { "w6", "w10", "w16" } do
      assert.equal("pwritev2+dsync", last(calls[label]))
    end
  end)

  traced("every write by way of Lua is stable as well", function()
    local calls = trace([[
      cmd("w10", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
      cmd("same", scsi.cdb.write_same_10 { lba = 0, length = 64 }, data(1))]],
      OFF .. ", no_fast_path = true")
    assert.equal("pwritev2+dsync", last(calls.w10))
    assert.equal("pwritev2+dsync", last(calls.same))
  end)

  traced("what unmaps or zeroes is stable when it ends", function()
    local calls = trace([[
      cmd("w", scsi.cdb.write_10 { lba = 0, length = 128 }, data(128))
      local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, 0, 64, 0)
      cmd("unmap", scsi.cdb.unmap { parameter_list_length = #list }, list)
      cmd("zero", scsi.cdb.write_same_10 { lba = 64, length = 64 },
          ("\0"):rep(512))]], OFF)
    assert.equal("fdatasync", last(calls.unmap))
    assert.equal("fdatasync", last(calls.zero))
  end)
end)

describe("with a write cache", function()
  traced("a write may stay in it", function()
    local calls = trace [[
      cmd("w", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))]]
    assert.matches("^pwritev2", calls.w)
    assert.is_nil(calls.w:find("dsync", 1, true))
    assert.is_nil(calls.w:find("sync", 1, true))
  end)

  traced("FUA is stable when it ends", function()
    for _, options in ipairs { "", "no_fast_path = true" } do
      local calls = trace([[
        cmd("w", scsi.cdb.write_10 { lba = 8, length = 8, fua = 1 }, data(8))
        cmd("w16", scsi.cdb.write_16 { lba = 8, length = 8, fua = 1 },
            data(8))]], options)
      assert.equal("pwritev2+dsync", last(calls.w))
      assert.equal("pwritev2+dsync", last(calls.w16))
    end
  end)

  traced("a read with FUA finds the cache on the disk", function()
    for _, options in ipairs { "", "no_fast_path = true" } do
      local calls = trace([[
        cmd("w", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
        cmd("r", scsi.cdb.read_10 { lba = 8, length = 8, fua = 1 })]], options)
      assert.equal("fdatasync", calls.r)
    end
  end)

  traced("SYNCHRONIZE CACHE empties it", function()
    for _, options in ipairs { "", "no_fast_path = true" } do
      local calls = trace([[
        cmd("s10", scsi.cdb.synchronize_cache_10 {})
        cmd("s16", scsi.cdb.synchronize_cache_16 {})]], options)
      assert.equal("fdatasync", calls.s10)
      assert.equal("fdatasync", calls.s16)
    end
  end)

  traced("a clean stop empties it", function()
    local calls = trace [[
      cmd("w", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))]]
    assert.equal("fdatasync", calls.close)
  end)

  traced("switching it off empties it, and writes are stable from then on",
         function()
    local calls = trace [[
      cmd("w", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
      mark "off"
      assert(dev:change("write_cache", { write_cache = false }) == 0)
      cmd("after", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))]]
    assert.equal("fdatasync", calls.off)
    assert.equal("pwritev2+dsync", last(calls.after))
  end)

  traced("MODE SELECT that switches it off empties it", function()
    local calls = trace [[
      cmd("w", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))
      local page = dev:cmd(scsi.cdb.mode_sense_6 { page_code = 8, dbd = 1,
                                                   allocation_length = 64 }).data
      local list = "\0\0\0\0" .. page:sub(5, 6) .. "\0" .. page:sub(8)
      list = list:sub(1, 4) .. string.char(list:byte(5) & 0x3F) .. list:sub(6)
      cmd("select", scsi.cdb.mode_select_6 { pf = 1,
            parameter_list_length = #list }, list)
      cmd("after", scsi.cdb.write_10 { lba = 8, length = 8 }, data(8))]]
    assert.equal("fdatasync", calls.select)
    assert.equal("pwritev2+dsync", last(calls.after))
  end)
end)

describe("a failing disk", function()
  local function failing(inject, body, options)
    local path <const> = shell.temporary()
    local _, out = strace.run((HEAD .. [[
      local function sense(...)
        local r = dev:cmd(...)
        return r.sense and ("%%02X/%%02X/%%02X"):format(r.sense.key,
          r.sense.asc, r.sense.ascq) or ("status %%02X"):format(r.status)
      end
      io.stdout:write((function() %s end)())
      io.stdout:flush()
      os.exit(true)]]):format(path, options or "", body),
      "pwritev2,preadv2,fdatasync", inject)
    os.remove(path)
    return out:match "[^\n]*$"
  end

  traced("fails the write that was to be stable", function()
    assert.equal("03/0C/00", failing(
      "-e inject=pwritev2:error=EIO", [[
      return sense(scsi.cdb.write_10 { lba = 0, length = 8 }, data(8))]],
      "write_cache = false"))
  end)

  traced("that is full says so, and is not retried for ever", function()
    assert.equal("07/27/07", failing(
      "-e inject=pwritev2:error=ENOSPC", [[
      return sense(scsi.cdb.write_10 { lba = 0, length = 8 }, data(8))]],
      "write_cache = false"))
  end)

  traced("fails SYNCHRONIZE CACHE, and every later one", function()
    assert.matches("^03/0C/%x+ 03/0C/%x+$", failing(
      "-e inject=fdatasync:error=EIO:when=1", [[
      dev:cmd(scsi.cdb.write_10 { lba = 0, length = 8 }, data(8))
      local first = sense(scsi.cdb.synchronize_cache_10 {})
      return first .. " " .. sense(scsi.cdb.synchronize_cache_10 {})]]))
  end)

  -- Of two at a time only one would be told of what is lost.
  traced("is never synced by a write while a flush does it", function()
    local path <const> = shell.temporary()
    local lines, out = strace.run(HEAD:format(path .. ";writes=inline", "")
      .. [[
      local flush = dev:submit(scsi.cdb.synchronize_cache_10 {})
      for _ = 1, 3 do dev.shard:turn(false) end
      local r = dev:cmd(scsi.cdb.write_10 { lba = 0, length = 8, fua = true },
                        data(8))
      assert(r.status == 0 and dev:wait(flush).status == 0)
      os.exit(true)]], "pwritev2,fdatasync", "-e inject=fdatasync:"
      .. "delay_enter=200000 -e inject=pwritev2:error=EOPNOTSUPP:when=1")
    os.remove(path)
    assert.equal("", out)
    local begun, ended = 0, 0
    for _, line in ipairs(lines) do
      if line:find "fdatasync%(" then
        assert.equal(begun, ended, table.concat(lines, "\n"))
        begun = begun + 1
      end
      if line:find "fdatasync.*= 0" then ended = ended + 1 end
    end
    assert.equal(2, ended)
  end)

  traced("fails a read", function()
    assert.equal("03/11/00", failing(
      "-e inject=preadv2:error=EIO", [[
      return sense(scsi.cdb.read_10 { lba = 0, length = 8 })]]))
  end)
end)
