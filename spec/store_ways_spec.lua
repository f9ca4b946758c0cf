--- However a file is served - on the loop, by io_uring, by threads, past the
--- page cache - the bytes are the same.
local scsi = require "tcmu.scsi"
local shell = require "spec.shell"
local sim = require "tcmu.sim"
local tcmu = require "tcmu"
local uv = require "luv"

local output <const>, temporary <const> = shell.output, shell.temporary

local BLOCK <const> = 512
local BLOCKS <const> = 2048
local SIZE <const> = BLOCKS * BLOCK
local O_DIRECT <const> = 0x4000                 -- x86
local SEED <const> = tonumber(os.getenv "SEED") or os.time()

local random = math.random

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

  -- Linux goes on with direct I/O of a process that is gone, and the request
  -- keeps the description that it is of, and nothing else.
  it("past the page cache has its lock where what is under way keeps it",
     function()
    if not DIRECT then
      pending "the file system of /var/tmp has no direct I/O"
      return
    end
    local path <const> = temporary()
    local store <const> = tcmu.store.file(path, "c", SIZE, { direct = true })
    finally(function()
      store:close()
      os.remove(path)
    end)
    local locked <const> = {}
    for fd in uv.fs_scandir_next, assert(uv.fs_scandir "/proc/self/fdinfo") do
      local info <const> = uv.fs_readlink("/proc/self/fd/" .. fd) == path
        and read_file("/proc/self/fdinfo/" .. fd) or ""
      if info:find "\nlock:" then
        local flags <const> = tonumber(info:match "flags:%s*(%d+)", 8)
        locked[#locked + 1] = flags & O_DIRECT ~= 0
      end
    end
    assert.same({ true }, locked)
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
