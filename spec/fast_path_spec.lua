--- The C path and the Lua path have to answer alike: the same random commands
--- go to two devices, one of which has no fast path.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local BLOCK <const> = 512
local BLOCKS <const> = 512                  -- of the device
local SEED <const> = tonumber(os.getenv "SEED") or os.time()

-- A store in C, and two disks in Lua with and without flush.
local IN_LUA <const> = [[=%s
  local tcmu = require "tcmu"
  return tcmu.handler {
    name = "%s",
    open = function(dev) return { store_ = tcmu.store.memory(dev.size) } end,
    read = function(self, cmd, offset)
      if offset %% 1024 == 0 then tcmu.sleep(1) end
      self.store_:read(cmd.data, offset)
    end,
    write = function(self, cmd, offset) self.store_:write(cmd.data, offset) end,
    unmap = function(self, _, offset, n) self.store_:discard(offset, n) end,
    %s
  }]]

local HANDLERS <const> = {
  ["a store in memory"] = "handlers/ram.lua",
  ["a store of zeroes"] = "handlers/zero.lua",
  ["a disk in Lua"] = IN_LUA:format("lua", "lua", ""),
  ["a disk in Lua with a cache"] =
    IN_LUA:format("cached", "cached", "flush = function() end,"),
}

local OPTIONS <const> = {
  {}, { write_cache = false }, { read_only = true }, { max_sectors = 16 },
  { block_size = 4096 },
}

local random = math.random

local function one_of(...) return (select(random(select("#", ...)), ...)) end

local function lba_near(length)
  return one_of(0, random(0, BLOCKS), random(0, BLOCKS), BLOCKS - length,
                BLOCKS - 1, BLOCKS, BLOCKS + 1, 0x7FFFFFFF)
end

local READS <const> = { "read_6", "read_10", "read_12", "read_16", "read_32" }
local WRITES <const> =
  { "write_6", "write_10", "write_12", "write_16", "write_32" }
local OTHERS <const> = {
  "verify_10", "verify_12", "verify_16", "verify_32", "write_same_10",
  "write_same_16", "write_same_32", "unmap", "synchronize_cache_10",
  "synchronize_cache_16",
}

local function flip(bytes)                  -- any bit of the CDB
  local at = random(2, #bytes)
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1 << random(0, 7))
         .. bytes:sub(at + 1)
end

local function block(block_size)
  return string.char(one_of(0, 0, random(0, 255))):rep(block_size - 1)
         .. one_of("\0", "\0", "\0", "\1")
end

-- Commands that the store answers besides READ and WRITE, near to what it
-- takes.
local function other(block_size)
  local name = OTHERS[random(#OTHERS)]
  local length = one_of(0, 1, 2, 8, random(1, 64))
  local lba = math.max(0, lba_near(length))
  local fields, data = { lba = lba, length = length }, ""
  if name == "unmap" then
    local ranges = string.pack(">I8I4I4", lba, length, 0)
    if random(6) == 1 then
      ranges = ranges .. string.pack(">I8I4I4", random(0, BLOCKS), 1, 0)
    end
    data = string.pack(">I2I2I4", #ranges + 6, #ranges, 0) .. ranges
    fields = { parameter_list_length = #data, anchor = random(20) // 20 }
  elseif name:find "same" then
    fields.unmap = random(0, 1)
    fields.ndob = name ~= "write_same_10" and random(0, 1) or nil
    data = fields.ndob == 1 and "" or block(block_size)
  elseif name:find "verify" then
    fields.bytchk = one_of(0, 0, 0, 1, 2, 3)
    fields.dpo = random(0, 1)
    if fields.bytchk ~= 0 then data = block(block_size):rep(length) end
  elseif random(4) == 1 then
    fields.immed = 1
  end
  local bytes = scsi.cdb[name](fields)
  if random(8) == 1 then bytes = flip(bytes) end
  if random(12) == 1 then data = data .. one_of("x", block(block_size)) end
  return bytes, { data_out = data }
end

-- A CDB and what goes with it, as (bytes, data).
local function command(block_size)
  if random(4) == 1 then return other(block_size) end
  local length = one_of(0, 1, 1, 2, 8, random(1, 20), random(1, 64))
  local lba = math.max(0, lba_near(length))
  local names = one_of(READS, WRITES, WRITES)
  local name = names[random(#names)]
  local fields = { lba = lba, length = length }
  if name:sub(-2) == "_6" then
    fields.lba = lba & 0x1FFFFF
  else
    if random(4) == 1 then fields.fua = 1 end
    if random(4) == 1 then fields.dpo = 1 end
    if random(30) == 1 then fields[one_of("wrprotect", "rdprotect")] = 1 end
    fields[names == READS and "wrprotect" or "rdprotect"] = nil
  end
  local blocks = length
  if name:sub(-2) == "_6" and length == 0 then blocks = 256 end
  local bytes = scsi.cdb[name](fields)
  if random(25) == 1 then bytes = flip(bytes) end
  local size = blocks * block_size
  if random(12) == 1 then                   -- the fabric sees it otherwise
    size = one_of(0, 1, block_size - 1, size + 1, size // 2, size + block_size)
  end
  if names == READS then return bytes, { data_in = size } end
  return bytes, { data_out = string.char(random(1, 255)):rep(size) }
end

local function describe_cdb(bytes)
  return (bytes:gsub(".", function(c) return ("%02x "):format(c:byte()) end))
end

local function same(a, b, what)
  assert.equal(b.status, a.status, what)
  assert.equal(b.sense_bytes, a.sense_bytes, what)
  assert.is_true(a.data == b.data, what)
end

for handler, path in pairs(HANDLERS) do
  for i, options in ipairs(OPTIONS) do
    it(("%s answers alike with and without the fast path (%d)")
       :format(handler, i), function()
      math.randomseed(SEED, i)
      local block_size = options.block_size or BLOCK
      local devices = {}
      for n, no_fast_path in ipairs { false, true } do
        local o = { size = BLOCKS * block_size, no_fast_path = no_fast_path }
        for key, value in pairs(options) do o[key] = value end
        devices[n] = assert(sim.device(path, o))
        devices[n].kernel:poison(0xA5)
      end
      local fast <close> = devices[1]
      local slow <close> = devices[2]
      for step = 1, 300 do
        local bytes, data = command(block_size)
        local what = ("seed %d, option %d, step %d: %s"):format(SEED, i, step,
                                                          describe_cdb(bytes))
        same(fast:cmd(bytes, data), slow:cmd(bytes, data), what)
      end
      local all = scsi.cdb.read_16 { lba = 0, length = 16 }
      same(fast:cmd(all), slow:cmd(all), "the first blocks, seed " .. SEED)
      assert.is_false(fast.kernel:broken())
    end)
  end
end

-- Random WRITEs and READs, many of them in the ring at once; returns what each
-- READ got, and at the end the disk.  No eight bytes of what is written are
-- like others, so that they tell where they come from.
local function many_at_once(path, no_fast_path)
  local dev <close> = assert(sim.device(path, {
    size = BLOCKS * BLOCK, no_fast_path = no_fast_path }))
  local numbers, reads, got = {}, {}, {}
  for i = 1, 500 + 16 * BLOCK // 8 do numbers[i] = string.pack("<I8", i) end
  local text <const> = table.concat(numbers)
  math.randomseed(SEED)
  for i = 1, 500 do
    local length <const> = random(1, 16)
    local range <const> = { lba = random(0, BLOCKS - length), length = length }
    if random(3) == 1 then
      reads[#reads + 1] = dev:submit(scsi.cdb.read_10(range))
    else
      dev:submit(scsi.cdb.write_10(range),
                 text:sub(8 * i + 1, 8 * i + length * BLOCK))
    end
    if random(9) == 1 then dev.shard:turn(false) end
  end
  for i, read in ipairs(reads) do got[i] = dev:wait(read).data end
  dev:run(function() return next(dev.pending) == nil end)
  got[#got + 1] = dev:cmd(scsi.cdb.read_16 { lba = 0, length = BLOCKS }).data
  return got
end

for _, kind in ipairs { "a store in memory", "a disk in Lua" } do
  it("many commands at once see and leave the same bytes on " .. kind, function()
    local fast <const> = many_at_once(HANDLERS[kind], false)
    local slow <const> = many_at_once(HANDLERS[kind], true)
    for i, data in ipairs(slow) do
      assert.is_true(data == fast[i], ("seed %d, read %d"):format(SEED, i))
    end
  end)
end
