--- INQUIRY and the VPD pages of tcmu.disk: who a disk says it is and what it
--- says it can do.
local hex = require "spec.hex"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local UUID <const> = "8c5b1f3a-9e60-4d27-b1a4-0f5d3c2e7a96"

describe("INQUIRY", function()
  local dev

  local function open(options, path)
    options.size = options.size or 1 << 20
    dev = assert(sim.device(path or "handlers/ram.lua", options))
  end
  after_each(function() dev:close() end)

  local function inquiry(length)
    local r = dev:cmd(make.inquiry { length = length or 96 })
    assert.is.good(r)
    return r.data
  end

  local function page(code, length)
    local r = dev:cmd(make.inquiry { evpd = true, page_code = code,
                                     length = length or 255 })
    assert.is.good(r)
    assert.equal(string.pack(">BBI2", 0, code, #r.data - 4),
                 r.data:sub(1, 4))
    return r.data:sub(5)
  end

  it("describes a disk of SPC-4 with command queuing and copying", function()
    open {}
    local data = inquiry()
    assert.equal(96, #data)
    assert.equal("000006025b080002", hex(data:sub(1, 8)))
    assert.equal("00a0046004c00000", hex(data:sub(59, 66)))
  end)

  it("uses the names that a disk of tcmu-runner has", function()
    open { vendor = "LIO-ORG" }
    assert.equal("LIO-ORG TCMU device     0002", inquiry():sub(9, 36))
  end)

  it("takes the names from the handler, and from the operator first",
  function()
    local source = [[=named
      local tcmu = require "tcmu"
      return tcmu.handler { name = "named",
        inquiry = { vendor = "ACME", product = "Anvil", revision = "7" },
        open = function(dev)
          return { store = tcmu.store.zero(dev.size) }
        end }]]
    open({ vendor = "LIO-ORG" }, source)
    assert.equal("ACME    Anvil           7   ", inquiry():sub(9, 36))
    dev:close()
    open({ vendor = "Operator", product = "Named by hand" }, source)
    assert.equal("OperatorNamed by hand   7   ", inquiry():sub(9, 36))
  end)

  it("is cut to the allocation length", function()
    open {}
    assert.equal(36, #inquiry(36))
    assert.equal(5, #inquiry(5))
    assert.is.good(dev:cmd(make.inquiry { length = 0 }))
    assert.equal(96, #dev:cmd(make.inquiry { length = 1000 }).data)
  end)

  it("leaves nothing of other commands behind its data", function()
    open {}
    dev.kernel:poison(0xEE)
    local r = dev:cmd(make.inquiry { length = 255 }, { data_in = 255 })
    assert.is_nil(r.data:find("\xEE"))
  end)

  it("refuses a page code without EVPD, and unknown pages", function()
    open {}
    assert.has.sense(dev:cmd(make.inquiry { page_code = 0x80, length = 96 }),
                     scsi.INVALID_FIELD_IN_CDB, 2)
    assert.has.sense(dev:cmd(make.inquiry { evpd = true, page_code = 0x81,
                                            length = 96 }),
                     scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("refuses CMDDT, which is obsolete", function()
    open {}
    assert.has.sense(dev:cmd("\x12\2\0\0\x24\0"),
                     scsi.INVALID_FIELD_IN_CDB, 1, 1)
  end)

  it("lists exactly the pages that it answers", function()
    open {}
    local list = page(0x00)
    assert.equal("00808386878fb0b1b2", hex(list))
    local known = {}
    for code in list:gmatch(".") do known[code:byte()] = true end
    for code = 0, 255 do
      local r = dev:cmd(make.inquiry { evpd = true, page_code = code,
                                       length = 255 })
      assert.equal(known[code] and 0 or 2, r.status, ("page %02X"):format(code))
    end
  end)

  describe("page 80h", function()
    it("is the serial", function()
      open { serial = UUID }
      assert.equal(UUID, page(0x80))
    end)

    it("follows the serial when it is set late", function()
      open {}
      assert.equal("    ", page(0x80))
      assert.equal(0, (dev:change("wwn", { serial = UUID })))
      assert.equal(UUID, page(0x80))
      assert.matches(UUID, page(0x83), 1, true)
    end)
  end)

  describe("page 83h", function()
    -- Worked out by hand from the rule: 6, 001405, then 25 digits of serial.
    local NAA <const> = "6001405" .. "8c5b1f3a9e604d27b1a40f5d3"

    it("has vendor and serial, and the NAA that tcmu-runner would give",
    function()
      open { serial = UUID }
      assert.equal("0201002c" .. hex("LIO-ORG " .. UUID)
                   .. "01030010" .. NAA, hex(page(0x83)))
    end)

    it("uses the company that the operator set", function()
      open { serial = UUID, company_id = "abcdef" }
      assert.equal("6abcdef" .. "8c5b1f3a9e604d27b1a40f5d3",
                   hex(page(0x83):sub(-16)))
    end)

    it("skips what is no digit and fills up with zeroes", function()
      open { serial = "zz12-G3h4" }
      assert.equal("6001405" .. "1234" .. ("0"):rep(21),
                   hex(page(0x83):sub(-16)))
    end)

    it("has no NAA where the serial has no digits for it", function()
      for _, serial in ipairs { "xyz", "0000-0000" } do
        open { serial = serial }
        local list = page(0x83)
        assert.equal("0201", hex(list:sub(1, 2)))
        assert.equal(4 + 8 + #serial, #list)
        dev:close()
      end
      open {}
    end)

    it("claims no identity at all without a serial", function()
      open {}
      assert.equal("", page(0x83))
    end)

    it("keeps to the length that a designator can have", function()
      open { serial = ("a"):rep(254) }
      assert.equal("01030010", hex(page(0x83):sub(1, 4)))
    end)
  end)

  describe("page B0h", function()
    local function limits()
      local body = page(0xB0)
      assert.equal(0x3C, #body)
      local wsnz, caw, _, transfer, _, _, lbas, descriptors, granularity,
            alignment, same = string.unpack(">BBI2I4I4I4I4I4I4I4I8", body)
      return { wsnz = wsnz, caw = caw, transfer = transfer, lbas = lbas,
               descriptors = descriptors, granularity = granularity,
               alignment = alignment, same = same }
    end

    it("has the limits that are enforced", function()
      open { max_sectors = 128 }
      local most = limits()
      assert.equal(128, most.transfer)
      assert.equal(1, most.wsnz)
      local function unmap(count)
        local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, 0, count, 0)
        return dev:cmd(make.unmap { length = #list }, list)
      end
      dev:close()

      open { size = 2 << 30 }
      assert.is.good(unmap(most.lbas))
      assert.has.sense(unmap(most.lbas + 1),
                       scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      local function same(count)
        return dev:cmd(make.write_same_16 { blocks = count, ndob = true }, "")
      end
      assert.is.good(same(most.same))
      assert.has.sense(same(most.same + 1), scsi.INVALID_FIELD_IN_CDB, 10)
      assert.has.sense(same(0), scsi.INVALID_FIELD_IN_CDB, 10)
    end)

    it("has a granularity that is never 0 where there is UNMAP", function()
      for _, size in ipairs { 512, 4096, 1 << 20 } do
        open { block_size = size }
        assert.equal(math.max(1, 4096 // size), limits().granularity)
        assert.equal(1 << 31, limits().alignment)
        dev:close()
      end
      open {}
    end)

    it("has no unmap limits where there is no UNMAP", function()
      open({}, [[=plain
        local tcmu = require "tcmu"
        return tcmu.handler { name = "plain",
          read = function(_, cmd) cmd.data:fill(0) end,
          write = function() end }]])
      local most = limits()
      assert.same({ 0, 0, 0, 0 }, { most.lbas, most.descriptors,
                                    most.granularity, most.alignment })
      assert.equal("00000000", hex(page(0xB2)))
      assert.equal(0, dev:cmd(make.read_capacity_16 { length = 32 })
                      .data:byte(15))
      assert.has.sense(dev:cmd(make.unmap {}),
                       scsi.INVALID_COMMAND_OPERATION_CODE)
      assert.has.sense(dev:cmd(make.write_same_16 { blocks = 1, unmap = true,
                                                    ndob = true }, ""),
                       scsi.INVALID_FIELD_IN_CDB, 1, 3)
    end)
  end)

  it("says on page B1h that nothing turns", function()
    open {}
    local body = page(0xB1)
    assert.equal(0x3C, #body)
    assert.equal("0001", hex(body:sub(1, 2)))
  end)

  it("says on page B1h that blocks that are not mapped can be compared",
  function()
    for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
      open({}, path)
      assert.equal(0x01, page(0xB1):byte(5))    -- VBULS
      local zeroes <const> = ("\0"):rep(512)
      assert.is.good(dev:cmd(make.verify_10 { blocks = 2, bytchk = 1 },
                             zeroes:rep(2)))
      assert.is.good(dev:cmd(make.verify_10 { blocks = 9, bytchk = 3 }, zeroes))
      dev:close()
    end
    open {}
  end)

  it("says on page B1h what reads find after a block erase, if there is one",
  function()
    open {}
    assert.equal(0x40, page(0xB1):byte(4))
    dev:close()
    open({}, [[=plain
      local tcmu = require "tcmu"
      return tcmu.handler { name = "plain", read = function() end,
        write = function() end }]])
    assert.equal(0x00, page(0xB1):byte(4))
  end)

  it("says on page 86h that there are simple tasks and a cache, if so",
  function()
    open {}
    local body = page(0x86)
    assert.equal(0x3C, #body)
    assert.equal("0001" .. "00000000000000" .. "60", hex(body:sub(1, 10)))
  end)

  it("says on page 87h that all initiators share the mode pages", function()
    open {}
    assert.equal("3fff0000", hex(page(0x87)))
  end)

  it("tells on page 8Fh the commands and descriptors of EXTENDED COPY",
  function()
    open {}
    local body, found, at = page(0x8F, 1024), {}, 1
    while at < #body do
      local kind, text = string.unpack(">I2s2", body, at)
      assert.equal(0, #text % 4)
      found[kind] = hex(text)
      at = at + 4 + #text
    end
    assert.equal("0e" .. "8305000110111c" .. "84050003040507" .. "00",
                 found[0x0001])
    assert.equal("00000000" .. "0008" .. "0040" .. "00000800",
                 found[0x0004]:sub(1, 24))
    assert.equal("0202e400", found[0x0008])
    assert.equal("00000000", found[0x000C])     -- none but 0000h to 07FFh
    assert.equal("00000010" .. "00000010" .. "01fffe00" .. "09",
                 found[0x8001]:sub(1, 26))
    -- What tokens may be: 600 and 60 seconds, 256 MiB, best 64 MiB.
    assert.equal("000000000000" .. "0020" .. "00000258" .. "0000003c"
                 .. "0000000000080000" .. "0000000000020000", found[0x0000])
    assert.equal(44, #found[0x0106] // 2)
    assert.equal("000000c0" .. "0080000001", found[0x0108]:sub(1, 18))
    assert.equal("0080000103", found[0x0108]:sub(137, 146))
    assert.equal("ffff000102", found[0x0108]:sub(265, 274))
  end)

  it("has port designators and page 88h only while there is one port",
  function()
    open { serial = UUID }
    local before = page(0x83)
    assert.equal(0, dev:change("alua", { port = "16 1 iqn.2026-01.lab:t,t,1" }))
    local name = "iqn.2026-01.lab:t,t,1\0\0\0"
    local port = string.pack(">BBBs1", 0x53, 0x98, 0, name)
    assert.equal(hex("\x51\x94\0\4\0\0\0\1" .. "\x51\x95\0\4\0\0\0\16" .. port),
                 hex(page(0x83):sub(#before + 1)))
    assert.equal(hex(string.pack(">I4I4xxs2", 1, 0, port)), hex(page(0x88)))
    assert.equal(0, dev:change("alua", {}))
    assert.equal(before, page(0x83))
    assert.has.sense(dev:cmd(make.inquiry { evpd = true, page_code = 0x88,
                                            length = 96 }),
                     scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("says on page B2h how blocks are unmapped, and that they read as zeroes",
  function()
    open {}
    assert.equal("0be40200", hex(page(0xB2)))
  end)

  it("follows on page B2h what a handler switches off", function()
    open({}, [[=off
      local tcmu = require "tcmu"
      local scsi = require "tcmu.scsi"
      return tcmu.handler { name = "off",
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end,
        on = { [scsi.WRITE_SAME_10] = false } }]])
    assert.equal("0bc40200", hex(page(0xB2)))
    assert.has.sense(dev:cmd(make.write_same_10 { blocks = 1 },
                             ("x"):rep(512)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)

describe("REQUEST SENSE", function()
  it("has nothing to tell, in the format that DESC asks for", function()
    local dev <close> = sim.device("handlers/ram.lua", { size = 1 << 20 })
    local r = dev:cmd(make.request_sense { length = 252 })
    assert.equal("70000000000000" .. "0a" .. ("00"):rep(10), hex(r.data))
    r = dev:cmd(make.request_sense { length = 252, desc = true })
    assert.equal("7200000000000000", hex(r.data))
    assert.equal(4, #dev:cmd(make.request_sense { length = 4 }).data)
  end)
end)

describe("a bare device", function()
  it("answers what SPC-4 makes mandatory and nothing else", function()
    local dev <close> = sim.device([[=bare
      local tcmu = require "tcmu"
      return tcmu.handler { name = "bare", device = tcmu.bare }]],
      { size = 1 << 20 })
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.equal(96, #dev:cmd(make.inquiry { length = 96 }).data)
    assert.equal("00000003008083", hex(dev:cmd(make.inquiry {
      evpd = true, length = 96 }).data))
    for opcode = 0, 255 do
      local cdb = string.char(opcode) .. ("\0"):rep(15)
      if opcode ~= 0x00 and opcode ~= 0x03 and opcode ~= 0x12 then
        assert.has.sense(dev:cmd(cdb, { data_in = 512 }),
                         scsi.INVALID_COMMAND_OPERATION_CODE)
      end
    end
  end)
end)
