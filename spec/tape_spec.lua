--- The device kind tcmu.tape and its handler, as an initiator sees them: blocks
--- and filemarks, and the places between them.
local drive = require "spec.tape_drive"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = drive.make
local BLANK <const>, OVERFLOW <const> = drive.BLANK, drive.OVERFLOW

local blocks_of <const>, good <const>, marks <const>, position <const> =
  drive.blocks_of, drive.good, drive.marks, drive.position
local read <const>, read_blocks <const>, rewind <const>, space <const> =
  drive.read, drive.read_blocks, drive.rewind, drive.space
local stopped <const>, write <const> = drive.stopped, drive.write

describe("a tape", function()
  local dev

  before_each(function() dev = drive.start() end)
  after_each(drive.clean)

  it("is a removable device of type 1", function()
    local data = good(make.inquiry { length = 96 }, { data_in = 96 })
    assert.equal("\1\x80", data:sub(1, 2))
    assert.equal("TCMU tape       ", data:sub(17, 32))
  end)

  it("gives back blocks of the length in which they were written", function()
    local long = ("0123456789abcdef"):rep(6000)
    write "one"
    write(long)
    write "t"
    rewind()
    assert.equal("one", read(3).data)
    assert.is_true(read(#long).data == long)
    assert.equal("t", read(1).data)
    stopped(read(10), BLANK, 0x05, nil, 10)
  end)

  it("reads a shorter block with ILI, its data and what is missing", function()
    write "short"
    write "next"
    rewind()
    local r = read(12)
    stopped(r, 0, 0x00, "ili", 7)
    assert.equal("short", r.data)
    assert.equal("next", read(4).data)
  end)

  it("reads the start of a longer block with ILI and goes past it", function()
    write "rather long"
    write "next"
    rewind()
    local r = read(6)
    stopped(r, 0, 0x00, "ili", -5 & 0xFFFFFFFF)
    assert.equal("rather", r.data)
    assert.equal("next", read(4).data)
  end)

  it("says nothing of another length with SILI", function()
    write "short"
    write "rather long"
    rewind()
    local r = read(12, { sili = 1 })
    assert.is.good(r)
    assert.equal("short", r.data)
    assert.equal("rather", read(6, { sili = 1 }).data)
    assert.has.sense(dev:cmd(make.read_6 { fixed = 1, sili = 1, blocks = 1 }),
                     scsi.INVALID_FIELD_IN_CDB, 1)
  end)

  it("gives no bytes but those of the tape", function()
    write "x"
    rewind()
    dev.kernel:poison(0xEE)
    local r = read(4096)
    stopped(r, 0, 0x00, "ili", 4095)
    assert.equal("x", r.data)
    dev.kernel:poison(0xEE)
    r = read(4096)
    stopped(r, BLANK, 0x05, nil, 4096)
    assert.is_nil((r.data or ""):find("\xEE"))
  end)

  it("stops at a filemark and goes on behind it", function()
    write "one"
    marks(1)
    write "two"
    rewind()
    assert.equal("one", read(3).data)
    stopped(read(3), 0, 0x01, "filemark", 3)
    assert.equal("two", read(3).data)
    assert.same({ 3, 1, false }, { position() })
  end)

  it("reads nothing for a length of 0 and stays where it is", function()
    write "one"
    rewind()
    assert.is.good(read(0))
    assert.same({ 0, 0, true }, { position() })
  end)

  it("loses what came after a block that is written", function()
    for i = 1, 5 do write("block" .. i) end
    rewind()
    read(6)
    write "new"
    stopped(read(6), BLANK, 0x05, nil, 6)
    rewind()
    assert.equal("block1", read(6).data)
    assert.equal("new", read(3).data)
    assert.equal("BLANK CHECK", sense.key_name(read(6).sense.key))
  end)

  it("reads and writes many fixed blocks at a time", function()
    blocks_of(512)
    local text = {}
    for i = 1, 100 do text[i] = string.pack("<I8", i):rep(64) end
    text = table.concat(text)
    good(make.write_6 { fixed = 1, blocks = 100 }, text)
    rewind()
    assert.is_true(read_blocks(60, 512).data == text:sub(1, 60 * 512))
    assert.same({ 60, 0, false }, { position() })
    assert.is_true(read_blocks(40, 512).data == text:sub(60 * 512 + 1))
    rewind()
    -- They are blocks like any others.
    assert.equal(text:sub(1, 512), read(512).data)
  end)

  it("gives the fixed blocks before a filemark, and what is missing",
  function()
    blocks_of(16)
    good(make.write_6 { fixed = 1, blocks = 3 }, ("a"):rep(48))
    marks(1)
    rewind()
    local r = read_blocks(10, 16)
    stopped(r, 0, 0x01, "filemark", 7)
    assert.equal(("a"):rep(48), r.data)
    r = read_blocks(10, 16)
    stopped(r, BLANK, 0x05, nil, 10)
  end)

  it("gives the fixed blocks before one of another length", function()
    blocks_of(16)
    good(make.write_6 { fixed = 1, blocks = 2 }, ("a"):rep(32))
    write "odd"
    good(make.write_6 { fixed = 1, blocks = 1 }, ("b"):rep(16))
    rewind()
    local r = read_blocks(4, 16)
    stopped(r, 0, 0x00, "ili", 2)
    assert.equal(("a"):rep(32), r.data)
    assert.equal(("b"):rep(16), read_blocks(1, 16).data)
  end)

  it("refuses fixed blocks while no length is set", function()
    assert.has.sense(dev:cmd(make.write_6 { fixed = 1, blocks = 1 }, "x"),
                     scsi.INVALID_FIELD_IN_CDB, 1)
  end)

  it("refuses Data-Out that is too short, and writes nothing", function()
    assert.has.sense(dev:cmd(make.write_6 { blocks = 10 }, "123"),
                     scsi.INVALID_FIELD_IN_CDB, 2)
    assert.same({ 0, 0, true }, { position() })
  end)

  it("spaces over blocks both ways, and stops at filemarks", function()
    for i = 1, 4 do write("block" .. i) end
    marks(1)
    write "block5"
    rewind()
    assert.is.good(space(0, 2))
    assert.equal("block3", read(6).data)
    stopped(space(0, 5), 0, 0x01, "filemark", 4)
    assert.equal("block5", read(6).data)
    stopped(space(0, 2), BLANK, 0x05, nil, 2)
    stopped(space(0, -3), 0, 0x01, "filemark", 2)
    assert.is.good(space(0, -1))
    assert.equal("block4", read(6).data)
    stopped(space(0, -9), 0, 0x04, "eom", 5)
  end)

  it("spaces over filemarks both ways, and to the end of data", function()
    for i = 1, 3 do
      write("file" .. i)
      marks(1)
    end
    marks(1)
    rewind()
    assert.is.good(space(1, 2))
    assert.equal("file3", read(5).data)
    assert.is.good(space(1, -1))
    assert.same({ 3, 1, false }, { position() })
    stopped(space(1, 9), BLANK, 0x05, nil, 6)
    stopped(space(1, -9), 0, 0x04, "eom", 5)
    assert.is.good(space(2, 2))
    assert.same({ 7, 4, false }, { position() })
    rewind()
    assert.is.good(space(3, 0))
    assert.same({ 7, 4, false }, { position() })
    assert.has.sense(space(4, 0), scsi.INVALID_FIELD_IN_CDB, 1)
  end)

  it("locates every object by the number that READ POSITION told", function()
    for i = 0, 9 do write("block" .. i) end
    for _, i in ipairs { 7, 2, 9, 0, 5 } do
      good(make.locate_10 { logical_object_identifier = i })
      local data = good(make.read_position_short(), { data_in = 20 })
      assert.equal(data, good(make.read_position_short_vendor(),
                              { data_in = 20 }))
      assert.equal(i, (string.unpack(">I4", data, 5)))
      assert.equal(i == 0, data:byte(1) & 0x80 ~= 0)
      assert.equal("block" .. i, read(6).data)
    end
    local r = dev:cmd(make.locate_10 { logical_object_identifier = 11 })
    assert.same({ BLANK, 0, 5 }, { r.sense.key, r.sense.asc, r.sense.ascq })
  end)

  it("erases what follows", function()
    write "one"
    write "two"
    rewind()
    read(3)
    good(make.erase_6 { long = 1 })
    stopped(read(3), BLANK, 0x05, nil, 3)
    rewind()
    assert.equal("one", read(3).data)
  end)

  it("warns near the end, then is full, and keeps what it has taken", function()
    local text, n, warned = ("t"):rep(50000), 0, false
    local r
    repeat
      r = dev:cmd(make.write_6 { blocks = #text }, text)
      if r.status == 0 then
        assert.is_false(warned)
        n = n + 1
      elseif r.sense.key == 0 then
        stopped(r, 0, 0x02, "eom", 0)
        warned, n = true, n + 1
      end
    until r.sense and r.sense.key ~= 0
    assert.is_true(warned)
    stopped(r, OVERFLOW, 0x02, "eom", 50000)
    -- There is still room for what ends a file.
    r = dev:cmd(make.write_filemarks_6 { filemark_count = 2 })
    stopped(r, 0, 0x02, "eom", 0)
    rewind()
    for _ = 1, n do assert.is_true(read(50000).data == text) end
    stopped(read(1), 0, 0x01, "filemark", 1)
  end)

  it("does one command after the other, in their order", function()
    local handles = {}
    for i = 1, 20 do
      handles[#handles + 1] = dev:submit(make.write_6 { blocks = 7 },
                                         ("block%02d"):format(i))
      if i % 5 == 0 then
        handles[#handles + 1] = dev:submit(
          make.write_filemarks_6 { filemark_count = 1 }, { data_in = 0 })
      end
    end
    for _, handle in ipairs(handles) do assert.is.good(dev:wait(handle)) end
    rewind()
    for i = 1, 20 do
      assert.equal(("block%02d"):format(i), read(7).data)
      if i % 5 == 0 then stopped(read(1), 0, 0x01, "filemark", 1) end
    end
  end)
end)

-- A tape in memory, which is never waited for.
local PLAIN <const> = [[=plain
local tcmu = require "tcmu"
return tcmu.handler {
  name = "plain",
  device = require "tcmu.tape",
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
}]]

describe("beside a tape that is wound far", function()
  local RECORDS <const> = 20000
  local dev

  before_each(function()
    dev = assert(sim.device(PLAIN, { size = 4 << 20 }))
    dev:cmd(make.test_unit_ready())
    local list = string.pack(">BBBBBI3BI3", 0, 0, 0, 8, 0, 0, 0, 1)
    assert.is.good(dev:cmd(make.mode_select_6 { pf = 1, length = #list }, list))
    assert.is.good(dev:cmd(make.write_6 { fixed = 1, blocks = RECORDS },
                           ("r"):rep(RECORDS)))
  end)
  after_each(function() dev:close() end)

  for name, case in pairs {
    ["to its end"] = { true, make.space_6 { code = 3 } },
    ["over blocks"] = { true, make.space_6 { code = 0, count = RECORDS } },
    ["back"] = { false, make.space_6 { code = 0,
                                       count = -RECORDS & 0xFFFFFF } },
    ["by LOCATE"] = { true, make.locate_10 {
      logical_object_identifier = RECORDS } },
    ["by a READ"] = { true, make.read_6 { fixed = 1, blocks = RECORDS },
                      { data_in = RECORDS } },
    ["by a WRITE"] = { true, make.write_6 { fixed = 1, blocks = RECORDS },
                       ("w"):rep(RECORDS) },
    ["by filemarks"] = { true, make.write_filemarks_6 {
      filemark_count = 500000 } },
  } do
    it("others have their turn: " .. name, function()
      local rewound, cdb, data = table.unpack(case)
      if rewound then assert.is.good(dev:cmd(make.rewind())) end
      local long = dev:submit(cdb, data or { data_in = 0 })
      local short = dev:submit(make.request_sense { length = 18 })
      assert.equal(short, dev:next_done())
      assert.is.good(dev:wait(long))
    end)
  end
end)
