--- The data commands of tcmu.disk, as an initiator sees them: tcmu.sbc behind
--- the whole path of ring, dispatcher and handler.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local BLOCKS <const> = 2048
local TOO_SHORT <const> = scsi.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT
local SIZE <const> = BLOCK * BLOCKS

-- A disk in Lua that writes down what it was asked for; vendor command C0h
-- reads the notes.
local NOTES <const> = [[=notes
local tcmu = require "tcmu"
local function note(self, text, ...)
  self.notes[#self.notes + 1] = text:format(...)
end
return tcmu.handler {
  name = "notes",
  open = function(dev)
    return { bytes = tcmu.buffer(dev.size), notes = {} }
  end,
  read = function(self, cmd, offset, length)
    note(self, "read %d %d", offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    note(self, "write %d %d", offset, length)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  flush = function(self, _, offset, length)
    note(self, "flush %d %d", offset, length)
  end,
  unmap = function(self, _, offset, length)
    note(self, "unmap %d %d", offset, length)
    self.bytes:fill(0, offset, length)
  end,
  on = {
    [0xC0] = function(self)
      local text = table.concat(self.notes, "; ")
      self.notes = {}
      return text
    end,
  },
}
]]

local function block(byte, n) return byte:rep(BLOCK * (n or 1)) end

local function unmap_list(...)
  local list = {}
  for _, range in ipairs { ... } do
    list[#list + 1] = string.pack(">I8I4I4", range[1], range[2], 0)
  end
  local body = table.concat(list)
  return string.pack(">I2I2I4", #body + 6, #body, 0) .. body
end

for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
  describe("a disk served by " .. path, function()
    local dev

    before_each(function()
      dev = assert(sim.device(path, { size = SIZE, max_sectors = 512 }))
    end)
    after_each(function() dev:close() end)

    local function write(lba, byte, n)
      assert.is.good(dev:cmd(make.write_10 { lba = lba, blocks = n or 1 },
                             block(byte, n)))
    end

    local function read(lba, n)
      local r = dev:cmd(make.read_10 { lba = lba, blocks = n or 1 })
      assert.is.good(r)
      return r.data
    end

    it("is ready", function()
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end)

    for _, size in ipairs { 6, 10, 12, 16 } do
      it(("reads what WRITE (%d) wrote with READ (%d)"):format(size, size),
      function()
        local words = {}
        for i = 1, 2 * BLOCK // 4 do words[i] = ("%04d"):format(i) end
        local text = table.concat(words)
        local fields = { lba = BLOCKS - 2, length = 2 }
        assert.is.good(dev:cmd(make["write_" .. size](fields), text))
        local r = dev:cmd(make["read_" .. size](fields))
        assert.is.good(r)
        assert.equal(text, r.data)
      end)
    end

    it("takes 0 in READ (6) for 256 blocks", function()
      write(255, "z")
      local r = dev:cmd(make.read_6 { lba = 0, length = 0 })
      assert.is.good(r)
      assert.equal(256 * BLOCK, #r.data)
      assert.equal(block "z", r.data:sub(-BLOCK))
    end)

    it("transfers nothing for 0 blocks, up to the end of the medium", function()
      for _, lba in ipairs { 0, BLOCKS - 1, BLOCKS } do
        assert.is.good(dev:cmd(make.read_10 { lba = lba, blocks = 0 }))
        assert.is.good(dev:cmd(make.write_10 { lba = lba, blocks = 0 }, ""))
      end
      assert.has.sense(dev:cmd(make.read_10 { lba = BLOCKS + 1, blocks = 0 }),
                       scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    end)

    it("refuses blocks past the end and says which is the first", function()
      for _, command in ipairs { "read_10", "read_16", "write_10", "write_16",
                                 "write_same_10", "write_same_16" } do
        local n = command:find("same") and 1 or 3
        local cdb = make[command] { lba = BLOCKS - 2, blocks = 3 }
        local out = not command:find("read") and block("x", n) or nil
        local r = dev:cmd(cdb, out)
        assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
        assert.equal(BLOCKS, r.sense.information)
      end
      assert.equal(block "\0", read(BLOCKS - 1))
    end)

    it("refuses an LBA whose last block overflows 64 bits", function()
      for _, lba in ipairs { -1, math.mininteger, math.maxinteger } do
        local r = dev:cmd(make.read_16 { lba = lba, blocks = 2 })
        assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      end
    end)

    it("gives as much as the fabric has room for", function()
      write(5, "a", 2)
      local cdb = make.read_10 { lba = 5, blocks = 2 }
      local r = dev:cmd(cdb, { data_in = 700 })
      assert.is.good(r)
      assert.equal(("a"):rep(700), r.data)
    end)

    it("gives no more than the CDB says, and nothing stale", function()
      write(5, "a", 1)
      dev.kernel:poison(0xEE)
      local r = dev:cmd(make.read_10 { lba = 5, blocks = 1 },
                        { data_in = 2 * BLOCK })
      assert.is.good(r)
      assert.equal(block "a", r.data)
      r = dev:cmd(make.read_10 { lba = 5, blocks = 0 }, { data_in = BLOCK })
      assert.is.good(r)
      assert.is_nil(r.data:find("\xEE"))
    end)

    it("writes nothing when Data-Out is too short", function()
      write(7, "o", 2)
      assert.has.sense(dev:cmd(make.write_10 { lba = 7, blocks = 2 },
                               ("n"):rep(2 * BLOCK - 1)), TOO_SHORT)
      assert.equal(block("o", 2), read(7, 2))
    end)

    it("writes only the CDB's blocks when Data-Out is too long", function()
      assert.is.good(dev:cmd(make.write_10 { lba = 7, blocks = 1 },
                             block("n", 2)))
      assert.equal(block "n" .. block "\0", read(7, 2))
    end)

    it("refuses more than MAXIMUM TRANSFER LENGTH", function()
      assert.is.good(dev:cmd(make.read_10 { lba = 0, blocks = 512 }))
      assert.has.sense(dev:cmd(make.read_10 { lba = 0, blocks = 513 }),
                       scsi.INVALID_FIELD_IN_CDB, 7)
      assert.has.sense(dev:cmd(make.write_16 { lba = 0, blocks = 513 },
                               block("x", 513)),
                       scsi.INVALID_FIELD_IN_CDB, 10)
    end)

    it("has FUA and DPO, but neither protection nor reserved bits", function()
      assert.is.good(dev:cmd(make.write_10 { lba = 0, blocks = 1, fua = true,
                                             dpo = true }, block "f"))
      assert.is.good(dev:cmd(make.read_10 { lba = 0, blocks = 1, fua = true }))
      assert.has.sense(dev:cmd(make.read_10 { lba = 0, blocks = 1,
                                              rdprotect = 1 }),
                       scsi.INVALID_FIELD_IN_CDB, 1, 7)
      assert.has.sense(dev:cmd(make.write_10 { lba = 0, blocks = 1,
                                               wrprotect = 3 }, block "x"),
                       scsi.INVALID_FIELD_IN_CDB, 1, 7)
      assert.has.sense(dev:cmd("\x28\2\0\0\0\0\0\0\1\0"),
                       scsi.INVALID_FIELD_IN_CDB, 1, 1)
      assert.has.sense(dev:cmd(make.read_10 { lba = 0, blocks = 1,
                                              control = 4 }),
                       scsi.INVALID_FIELD_IN_CDB, 9, 2)
      assert.equal(block "f", read(0))
    end)

    it("fills a range with one block by WRITE SAME", function()
      for lba, command in pairs { [3] = "write_same_10",
                                  [900] = "write_same_16" } do
        local pattern = ("0123456789abcdef"):rep(BLOCK // 16)
        assert.is.good(dev:cmd(make[command] { lba = lba, blocks = 700 },
                               pattern))
        assert.equal(block "\0", read(lba - 1))
        assert.equal(pattern:rep(350), read(lba, 350))
        assert.equal(pattern:rep(350) .. block "\0", read(lba + 350, 351))
        write(lba + 700, "\0")
      end
    end)

    it("zeroes by WRITE SAME with NDOB, UNMAP or a block of zeroes", function()
      local commands = {
        { make.write_same_16 { lba = 1, blocks = 2, ndob = true }, "" },
        { make.write_same_16 { lba = 1, blocks = 2, unmap = true },
          block "\0" },
        { make.write_same_10 { lba = 1, blocks = 2, unmap = true },
          block "\0" },
        { make.write_same_10 { lba = 1, blocks = 2 }, block "\0" },
      }
      for _, command in ipairs(commands) do
        write(0, "k", 4)
        assert.is.good(dev:cmd(command[1], command[2]))
        assert.equal(block "k" .. block("\0", 2) .. block "k", read(0, 4))
      end
    end)

    it("writes what UNMAP could not leave behind", function()
      assert.is.good(dev:cmd(make.write_same_16 { lba = 1, blocks = 2,
                                                  unmap = true }, block "k"))
      assert.equal(block("k", 2), read(1, 2))
    end)

    it("wants exactly one block for WRITE SAME", function()
      for _, n in ipairs { BLOCK // 2, 2 * BLOCK } do
        assert.has.sense(dev:cmd(make.write_same_10 { lba = 1, blocks = 2 },
                                 ("x"):rep(n)), scsi.INVALID_FIELD_IN_CDB)
      end
      assert.equal(block("\0", 3), read(0, 3))
    end)

    it("refuses WRITE SAME of 0 blocks and with ANCHOR", function()
      assert.has.sense(dev:cmd(make.write_same_10 { lba = 1 }, block "x"),
                       scsi.INVALID_FIELD_IN_CDB, 7)
      assert.has.sense(dev:cmd(make.write_same_16 { lba = 1, blocks = 1,
                                                    anchor = true,
                                                    unmap = true }, block "x"),
                       scsi.INVALID_FIELD_IN_CDB, 1, 4)
    end)

    it("unmaps all that a list names, unaligned parts too", function()
      write(0, "u", 40)
      local list = unmap_list({ 1, 3 }, { 10, 0 }, { 20, 1 })
      assert.is.good(dev:cmd(make.unmap { length = #list }, list))
      assert.equal(block "u" .. block("\0", 3) .. block("u", 16) .. block "\0"
                   .. block("u", 19), read(0, 40))
    end)

    it("unmaps nothing unless the whole list is right", function()
      write(0, "u", 4)
      local list = unmap_list({ 1, 2 }, { BLOCKS - 1, 2 })
      local r = dev:cmd(make.unmap { length = #list }, list)
      assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      assert.equal(BLOCKS, r.sense.information)
      assert.equal(block("u", 4), read(0, 4))
    end)

    it("refuses more UNMAP descriptors than page B0 allows", function()
      local ranges = {}
      for i = 1, 256 do ranges[i] = { i, 1 } end
      local list = unmap_list(table.unpack(ranges, 1, 255))
      assert.is.good(dev:cmd(make.unmap { length = #list }, list))
      list = unmap_list(table.unpack(ranges))
      assert.has.sense(dev:cmd(make.unmap { length = #list }, list),
                       scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    end)

    it("refuses an UNMAP list that is no list", function()
      local list = unmap_list({ 0, 1 })
      assert.is.good(dev:cmd(make.unmap { length = 0 }))
      assert.has.sense(dev:cmd(make.unmap { length = 7 }, list:sub(1, 7)),
                       scsi.PARAMETER_LIST_LENGTH_ERROR)
      assert.has.sense(dev:cmd(make.unmap { length = 24 }, list:sub(1, 8)),
                       scsi.INVALID_FIELD_IN_CDB, 7)
      assert.has.sense(dev:cmd(make.unmap { length = 24, anchor = true },
                               list), scsi.INVALID_FIELD_IN_CDB, 1, 0)
    end)

    it("ignores an UNMAP descriptor that is cut off", function()
      write(0, "u", 2)
      local list = unmap_list({ 0, 1 }, { 1, 1 })
      assert.is.good(dev:cmd(make.unmap { length = #list - 1 }, list))
      assert.equal(block "\0" .. block "u", read(0, 2))
    end)

    it("starts and stops, but has nothing to eject", function()
      assert.is.good(dev:cmd(make.start_stop_unit { start = true }))
      assert.is.good(dev:cmd(make.start_stop_unit { start = false }))
      assert.is.good(dev:cmd(make.test_unit_ready()))
      assert.has.sense(dev:cmd(make.start_stop_unit { loej = true }),
                       scsi.INVALID_FIELD_IN_CDB, 4, 1)
    end)

    it("tells its capacity", function()
      local r = dev:cmd(make.read_capacity_10())
      assert.equal(string.pack(">I4I4", BLOCKS - 1, BLOCK), r.data:sub(1, 8))
      r = dev:cmd(make.read_capacity_16 { length = 32 })
      assert.equal(string.pack(">I8I4", BLOCKS - 1, BLOCK), r.data:sub(1, 12))
      assert.equal(0xC0, r.data:byte(15))       -- LBPME and LBPRZ
      r = dev:cmd(make.read_capacity_16 { length = 12 })
      assert.equal(12, #r.data)
    end)

    it("refuses commands that it does not have", function()
      for _, cdb in ipairs { "\xC1\0\0\0\0\0\0\0\0\0", "\x4C" .. ("\0"):rep(9),
                             "\x3F" .. ("\0"):rep(9) } do
        assert.has.sense(dev:cmd(cdb), scsi.INVALID_COMMAND_OPERATION_CODE)
      end
      assert.has.sense(dev:cmd("\x9E\x1F" .. ("\0"):rep(14)),
                       scsi.INVALID_FIELD_IN_CDB, 1, 4)
    end)
  end)
end

describe("a disk of more than 2 TiB", function()
  it("sends readers of READ CAPACITY (10) to READ CAPACITY (16)", function()
    local dev <close> = sim.device("handlers/ram.lua", { size = 4 << 40 })
    local r = dev:cmd(make.read_capacity_10())
    assert.equal(0xFFFFFFFF, (string.unpack(">I4", r.data)))
    r = dev:cmd(make.read_capacity_16 { length = 32 })
    assert.equal((4 << 40) // BLOCK - 1, (string.unpack(">I8", r.data)))
    local last = make.write_16 { lba = (4 << 40) // BLOCK - 1, blocks = 1 }
    assert.is.good(dev:cmd(last, block "e"))
  end)
end)

describe("a physical block", function()
  it("is a page, or a block where those are larger", function()
    for size, exponent in pairs { [512] = 3, [4096] = 0, [8192] = 0 } do
      local dev <close> = sim.device("handlers/ram.lua",
                                     { size = SIZE, block_size = size })
      local r = dev:cmd(make.read_capacity_16 { length = 32 })
      assert.equal(exponent, r.data:byte(14), size)
    end
  end)
end)

describe("a disk with blocks of 4096 bytes", function()
  it("counts in them", function()
    local dev <close> = sim.device("handlers/ramdisk.lua",
                                   { size = SIZE, block_size = 4096 })
    local r = dev:cmd(make.read_capacity_16 { length = 32 })
    assert.equal(string.pack(">I8I4", SIZE // 4096 - 1, 4096),
                 r.data:sub(1, 12))
    local cdb = make.write_10 { lba = SIZE // 4096 - 1, blocks = 1 }
    assert.is.good(dev:cmd(cdb, ("4"):rep(4096)))
    assert.has.sense(dev:cmd(make.read_10 { lba = SIZE // 4096, blocks = 1 }),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
  end)
end)

describe("a read-only disk", function()
  it("answers WRITE PROTECTED to all that would change it", function()
    local dev <close> = sim.device("handlers/ram.lua",
                                   { size = SIZE, read_only = true })
    local list = unmap_list({ 0, 1 })
    for _, case in ipairs {
      { make.write_6 { length = 1 }, block "x" },
      { make.write_10 { blocks = 1 }, block "x" },
      { make.write_16 { blocks = 1, fua = true }, block "x" },
      { make.write_same_10 { blocks = 1 }, block "x" },
      { make.write_same_16 { blocks = 1, ndob = true }, "" },
    } do
      assert.has.sense(dev:cmd(case[1], case[2]), scsi.WRITE_PROTECTED)
    end
    local r = dev:cmd(make.unmap { length = #list }, list)
    assert.is_not.good(r)
    assert.equal(block "\0", dev:cmd(make.read_10 { blocks = 1 }).data)
  end)
end)

describe("what a handler is asked for", function()
  local dev

  local function open(options)
    options.size = SIZE
    dev = assert(sim.device(NOTES, options))
  end
  after_each(function() dev:close() end)

  local function notes()
    return dev:cmd("\xC0" .. ("\0"):rep(9), { data_in = 4096 }).data
           :gsub("%z+$", "")
  end

  it("is a flush after each write while there is no write cache", function()
    open { write_cache = false }
    dev:cmd(make.write_10 { lba = 2, blocks = 1 }, block "x")
    assert.equal("write 1024 512; flush 1024 512", (notes()))
  end)

  it("is a flush after a write with FUA when there is a write cache", function()
    open { write_cache = true }
    dev:cmd(make.write_10 { lba = 2, blocks = 1 }, block "x")
    assert.equal("write 1024 512", (notes()))
    dev:cmd(make.write_10 { lba = 2, blocks = 1, fua = true }, block "x")
    assert.equal("write 1024 512; flush 1024 512", (notes()))
  end)

  it("is a flush before a read with FUA when there is a write cache",
  function()
    open { write_cache = true }
    dev:cmd(make.read_10 { lba = 2, blocks = 1, fua = true })
    assert.equal("flush 1024 512; read 1024 512", (notes()))
  end)

  it("is a flush of the range that SYNCHRONIZE CACHE names", function()
    open { write_cache = true }
    dev:cmd(make.synchronize_cache_10 { lba = 2, blocks = 3 })
    dev:cmd(make.synchronize_cache_16 { lba = 8, immed = true })
    assert.equal(("flush 1024 1536; flush 4096 %d"):format(SIZE - 4096),
                 (notes()))
    assert.has.sense(dev:cmd(make.synchronize_cache_10 { lba = BLOCKS,
                                                         blocks = 1 }),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
  end)

  it("is a flush of everything before a stop, unless NO_FLUSH", function()
    open { write_cache = true }
    dev:cmd(make.start_stop_unit { start = false, no_flush = true })
    dev:cmd(make.start_stop_unit { start = true })
    assert.equal("", (notes()))
    dev:cmd(make.start_stop_unit { start = false })
    assert.equal(("flush 0 %d"):format(SIZE), (notes()))
  end)

  it("is to unmap, not to write zeroes, where UNMAP is set", function()
    open { write_cache = true }
    dev:cmd(make.write_same_16 { lba = 2, blocks = 4, unmap = true,
                                 ndob = true }, "")
    assert.equal("unmap 1024 2048", (notes()))
    dev:cmd(make.write_same_10 { lba = 2, blocks = 4, unmap = true },
            block "\0")
    assert.equal("unmap 1024 2048", (notes()))
    dev:cmd(make.write_same_16 { lba = 2, blocks = 4, ndob = true }, "")
    assert.equal("write 1024 2048", (notes()))
  end)

  it("is WRITE SAME in parts of at most MAXIMUM TRANSFER LENGTH", function()
    open { write_cache = true, max_sectors = 8 }
    dev:cmd(make.write_same_10 { lba = 1, blocks = 20 }, block "p")
    assert.equal("write 512 4096; write 4608 4096; write 8704 2048",
                 (notes()))
  end)
end)
