--- VERIFY, WRITE AND VERIFY, COMPARE AND WRITE and ORWRITE: commands that look
--- at what is on the medium.
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local BLOCKS <const> = 2048
local MISCOMPARE <const> = scsi.MISCOMPARE_DURING_VERIFY_OPERATION
local TOO_SHORT <const> = scsi.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT

local function block(byte, n) return byte:rep(BLOCK * (n or 1)) end

-- All forms of a command: those of 10, 12, 16 and 32 bytes.
local function forms(name)
  return ipairs { make[name .. "_10"], make[name .. "_12"],
                  make[name .. "_16"], make[name .. "_32"] }
end

for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
  describe("on a disk served by " .. path, function()
    local dev

    before_each(function()
      dev = assert(sim.device(path, { size = BLOCK * BLOCKS,
                                      max_sectors = 512 }))
    end)
    after_each(function() dev:close() end)

    local function write(lba, data)
      assert.is.good(dev:cmd(make.write_10 { lba = lba,
                                             blocks = #data // BLOCK }, data))
    end

    local function read(lba, n)
      return dev:cmd(make.read_10 { lba = lba, blocks = n or 1 }).data
    end

    describe("VERIFY", function()
      it("wants no data to see whether blocks can be read", function()
        for _, verify in forms "verify" do
          assert.is.good(dev:cmd(verify { lba = 3, length = BLOCKS - 3 }))
          assert.is.good(dev:cmd(verify { lba = BLOCKS, length = 0 }))
          local r = dev:cmd(verify { lba = BLOCKS - 1, length = 2 })
          assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
          assert.equal(BLOCKS, r.sense.information)
        end
      end)

      it("compares with Data-Out and tells the first byte that differs",
      function()
        write(5, block "a" .. block "b")
        for _, verify in forms "verify" do
          local cdb = verify { lba = 5, length = 2, bytchk = 1 }
          assert.is.good(dev:cmd(cdb, block "a" .. block "b"))
          local r = dev:cmd(cdb, block "a" .. ("b"):rep(100)
                                 .. ("c"):rep(BLOCK - 100))
          assert.has.sense(r, MISCOMPARE)
          assert.equal(BLOCK + 100, r.sense.information)
          assert.has.sense(dev:cmd(cdb, block "a"), TOO_SHORT)
        end
      end)

      it("compares each block with one", function()
        write(5, block("z", 300))
        for _, verify in forms "verify" do
          local cdb = verify { lba = 5, length = 300, bytchk = 3 }
          assert.is.good(dev:cmd(cdb, block "z"))
          assert.has.sense(dev:cmd(cdb, block "y"), MISCOMPARE)
          assert.has.sense(dev:cmd(cdb, "z"), TOO_SHORT)
        end
        assert.has.sense(dev:cmd(make.verify_10 { lba = 4, length = 2,
                                                  bytchk = 3 }, block "z"),
                         MISCOMPARE)
      end)

      it("has no other BYTCHK and no protection", function()
        assert.has.sense(dev:cmd(make.verify_10 { length = 1, bytchk = 2 },
                                 block "a"),
                         scsi.INVALID_FIELD_IN_CDB, 1, 2)
        assert.has.sense(dev:cmd(make.verify_16 { length = 1, vrprotect = 1 }),
                         scsi.INVALID_FIELD_IN_CDB, 1, 7)
        assert.has.sense(dev:cmd(make.verify_32 { length = 1, vrprotect = 1 }),
                         scsi.INVALID_FIELD_IN_CDB, 10, 7)
      end)
    end)

    it("WRITE AND VERIFY writes, with and without comparing", function()
      for i, write_and_verify in forms "write_and_verify" do
        for check = 0, 1 do
          local data = block(string.char(64 + 2 * i + check), 2)
          assert.is.good(dev:cmd(write_and_verify { lba = 7, length = 2,
                                                    bytchk = check }, data))
          assert.equal(data, read(7, 2))
        end
        assert.has.sense(dev:cmd(write_and_verify { lba = 7, length = 1,
                                                    bytchk = 3 }, block "x"),
                         scsi.INVALID_FIELD_IN_CDB)
      end
    end)

    describe("COMPARE AND WRITE", function()
      local function swap(lba, n, old, new)
        return dev:cmd(make.compare_and_write { lba = lba, blocks = n },
                       old .. new)
      end

      it("writes what was compared successfully", function()
        write(9, block("o", 3))
        assert.is.good(swap(9, 2, block("o", 2), block("n", 2)))
        assert.equal(block("n", 2) .. block "o", read(9, 3))
      end)

      it("changes nothing after a miscompare, and tells where it was",
      function()
        write(9, block("o", 2))
        local r = swap(9, 2, block "o" .. ("o"):rep(17) .. "x"
                             .. ("o"):rep(BLOCK - 18), block("n", 2))
        assert.has.sense(r, MISCOMPARE)
        assert.equal(BLOCK + 17, r.sense.information)
        assert.equal(block("o", 2), read(9, 2))
      end)

      it("wants Data-Out of twice its blocks", function()
        for _, n in ipairs { 1, 3, 4 } do
          local r = dev:cmd(make.compare_and_write { lba = 9, blocks = 1 },
                            block("\0", n))
          assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB, 13)
        end
        assert.is.good(dev:cmd(make.compare_and_write { lba = 9, blocks = 0 },
                               ""))
      end)

      it("takes what page B0h allows, and no more", function()
        local b0 = dev:cmd(make.inquiry { evpd = true, page_code = 0xB0,
                                          length = 64 }).data
        assert.equal(255, b0:byte(6))
        assert.is.good(swap(0, 255, block("\0", 255), block("n", 255)))
        assert.equal(block "n" .. block "\0", read(254, 2))
        dev:close()
        dev = assert(sim.device(path, { size = BLOCK * BLOCKS,
                                        max_sectors = 8 }))
        assert.has.sense(swap(0, 9, block("\0", 9), block("n", 9)),
                         scsi.INVALID_FIELD_IN_CDB, 13)
      end)
    end)

    it("ORWRITE adds bits to those that are there", function()
      write(9, block "\x51" .. block "\x0F")
      assert.is.good(dev:cmd(make.orwrite_16 { lba = 9, blocks = 2 },
                             block "\xA0" .. block "\x30"))
      assert.equal(block "\xF1" .. block "\x3F", read(9, 2))
    end)

    it("overlapping changes of several initiators come one after the other",
    function()
      write(0, block("\0", 8))
      local handles = {}
      -- Each adds a bit of its own to all blocks; none may be lost.
      for i = 0, 7 do
        handles[#handles + 1] = dev:submit(
          make.orwrite_16 { lba = i % 2, blocks = 7 },
          block(string.char(1 << i), 7))
        handles[#handles + 1] = dev:submit(
          make.compare_and_write { lba = 3, blocks = 1 },
          block("\xEE") .. block("x"))
      end
      for _, handle in ipairs(handles) do dev:wait(handle) end
      assert.equal(block "\x55" .. block("\xFF", 6) .. block "\xAA",
                   read(0, 8))
    end)

    it("commands of 32 bytes do what the shorter ones do", function()
      local text = ("0123456789abcdef"):rep(2 * BLOCK // 16)
      assert.is.good(dev:cmd(make.write_32 { lba = BLOCKS - 2, blocks = 2,
                                             fua = true }, text))
      assert.equal(text, dev:cmd(make.read_32 { lba = BLOCKS - 2,
                                                blocks = 2 }).data)
      assert.is.good(dev:cmd(make.write_same_32 { lba = 20, blocks = 4 },
                             block "s"))
      assert.equal(block("s", 4) .. block "\0", read(20, 5))
      assert.has.sense(dev:cmd(make.read_32 { blocks = 1, rdprotect = 1 }),
                       scsi.INVALID_FIELD_IN_CDB, 10, 7)
      -- Tags are part of the protection that there is not (SBC-3 5.14).
      assert.equal(block "s", dev:cmd(make.read_32 {
        lba = 20, blocks = 1,
        expected_initial_logical_block_reference_tag = 1,
        expected_logical_block_application_tag = 2,
        logical_block_application_tag_mask = 3 }).data)
      local wrong = "\x7F" .. ("\0"):rep(6) .. "\x18\xFF\xFF" .. ("\0"):rep(22)
      assert.has.sense(dev:cmd(wrong), scsi.INVALID_FIELD_IN_CDB, 8)
      for length = 0, 0x40, 8 do
        local short = "\x7F" .. ("\0"):rep(6) .. string.char(length)
                      .. "\0\x09" .. ("\0"):rep(length)
        if length ~= 0x18 then
          assert.has.sense(dev:cmd(short:sub(1, 8 + length)),
                           scsi.INVALID_FIELD_IN_CDB, 7)
        end
      end
    end)

    it("WRITE ATOMIC writes up to the length that page B0h allows", function()
      local b0 = dev:cmd(make.inquiry { evpd = true, page_code = 0xB0,
                                        length = 64 }).data
      assert.equal(512, (string.unpack(">I4", b0, 45)))
      assert.is.good(dev:cmd(make.write_atomic_16 { lba = 1, blocks = 512 },
                             block("a", 512)))
      assert.equal(block("a"), read(512))
      assert.has.sense(dev:cmd(make.write_atomic_16 { blocks = 513 },
                               block("a", 513)),
                       scsi.INVALID_FIELD_IN_CDB, 12)
      assert.has.sense(dev:cmd(make.write_atomic_16 { blocks = 4,
                                                      atomic_boundary = 2 },
                               block("a", 4)),
                       scsi.INVALID_FIELD_IN_CDB, 10)
    end)

    it("PRE-FETCH and READ DEFECT DATA have little to do", function()
      for _, prefetch in ipairs { make.pre_fetch_10, make.pre_fetch_16 } do
        assert.is.good(dev:cmd(prefetch { lba = 4, blocks = 8 }))
        assert.is.good(dev:cmd(prefetch { lba = 4, immed = true }))
        assert.has.sense(dev:cmd(prefetch { lba = BLOCKS, blocks = 1 }),
                         scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
      end
      local fields = { req_plist = true, defect_list_format = 5, length = 64 }
      assert.equal("\0\x15\0\0", dev:cmd(make.read_defect_data_10(fields)).data)
      assert.equal("\0\x15\0\0\0\0\0\0",
                   dev:cmd(make.read_defect_data_12(fields)).data)
      fields.defect_list_format = 7           -- is none
      assert.has.sense(dev:cmd(make.read_defect_data_10(fields)),
                       scsi.INVALID_FIELD_IN_CDB, 2, 2)
      assert.has.sense(dev:cmd(make.read_defect_data_12(fields)),
                       scsi.INVALID_FIELD_IN_CDB, 1, 2)
    end)
  end)
end

describe("a disk in a file", function()
  it("offers no WRITE ATOMIC, of which it might keep a part", function()
    local path <const> = require("spec.shell").temporary()
    finally(function() os.remove(path) end)
    local dev <close> = sim.device("handlers/file.lua", {
      size = BLOCK * BLOCKS, options = "create=yes;path=" .. path })
    local b0 = dev:cmd(make.inquiry { evpd = true, page_code = 0xB0,
                                      length = 64 }).data
    assert.equal(0, (string.unpack(">I4", b0, 45)))
    assert.has.sense(dev:cmd(make.write_atomic_16 { blocks = 1 }, block "x"),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)

describe("a read-only disk", function()
  it("refuses these as well", function()
    local dev <close> = sim.device("handlers/ram.lua",
                                   { size = BLOCK * BLOCKS, read_only = true })
    for _, case in ipairs {
      { make.write_and_verify_10 { blocks = 1 }, block "x" },
      { make.write_atomic_16 { blocks = 1 }, block "x" },
      { make.compare_and_write { blocks = 1 }, block("\0", 2) },
      { make.orwrite_16 { blocks = 1 }, block "x" },
      { make.write_32 { blocks = 1 }, block "x" },
      { make.sanitize_block_erase {} },
      { make.format_unit {}, "" },
    } do
      assert.has.sense(dev:cmd(case[1], case[2]), scsi.WRITE_PROTECTED)
    end
    assert.is.good(dev:cmd(make.verify_10 { length = 4 }))
  end)

  it("that is a file is as thin as before, and protected", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(block("f", BLOCKS))
    file:close()
    local dev <close> = assert(sim.device("handlers/file.lua",
      { size = BLOCK * BLOCKS, options = "path=" .. path .. ";mode=ro" }))
    assert.equal(block "f", dev:cmd(make.read_10 { blocks = 1 }).data)
    local list = string.pack(">I2I2xxxxI8I4xxxx", 22, 16, 0, 1)
    for _, case in ipairs {
      { make.unmap { length = #list }, list },
      { make.write_same_10 { blocks = 1, unmap = true }, block "\0" },
      { make.write_same_16 { blocks = 1, unmap = true, ndob = true }, "" },
      { make.write_16 { blocks = 1 }, block "x" },
    } do
      assert.has.sense(dev:cmd(case[1], case[2]), scsi.WRITE_PROTECTED)
    end
    local r = dev:cmd(make.get_lba_status { length = 24 })
    assert.is.good(r)
    os.remove(path)
  end)
end)

describe("GET LBA STATUS", function()
  local dev
  after_each(function() dev:close() end)

  -- { { lba, blocks, status }, ... }
  local function status(lba, room)
    local r = dev:cmd(make.get_lba_status { lba = lba, length = room or 256 })
    assert.is.good(r)
    assert.equal(#r.data - 4, (string.unpack(">I4", r.data)))
    local list = {}
    for at = 9, #r.data, 16 do
      list[#list + 1] = { string.unpack(">I8I4B", r.data, at) }
      list[#list][4] = nil
    end
    return list
  end

  for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
    it("tells what takes up space on " .. path, function()
      dev = assert(sim.device(path, { size = 1 << 20 }))
      assert.same({ { 0, 2048, 1 } }, status(0))
      dev:cmd(make.write_10 { lba = 300, blocks = 1 }, block "x")
      assert.same({ { 5, 251, 1 }, { 256, 128, 0 }, { 384, 1664, 1 } },
                  status(5))
      assert.same({ { 300, 84, 0 } }, status(300, 24))
      local list = string.pack(">I2I2xxxxI8I4xxxx", 22, 16, 256, 128)
      assert.is.good(dev:cmd(make.unmap { length = #list }, list))
      assert.same({ { 2047, 1, 1 } }, status(2047))
      assert.same({ { 0, 2048, 1 } }, status(0))
      assert.has.sense(dev:cmd(make.get_lba_status { lba = 2048,
                                                     length = 64 }),
                       scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    end)
  end

  it("calls all mapped where the handler cannot tell", function()
    dev = assert(sim.device([[=plain
      local tcmu = require "tcmu"
      return tcmu.handler { name = "plain", read = function() end,
        write = function() end, unmap = function() end }]],
      { size = 1 << 20 }))
    assert.same({ { 7, 2041, 0 } }, status(7))
  end)

  it("does not exist where nothing can be unmapped", function()
    dev = assert(sim.device([[=plain
      local tcmu = require "tcmu"
      return tcmu.handler { name = "plain", read = function() end,
        write = function() end }]], { size = 1 << 20 }))
    assert.has.sense(dev:cmd(make.get_lba_status { length = 64 }),
                     scsi.INVALID_FIELD_IN_CDB, 1, 4)
  end)
end)
