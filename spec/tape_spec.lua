--- The device kind tcmu.tape and its handler, as an initiator sees them.
local encode = require "tcmu.encode"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = encode.all("tape")
local SIZE <const> = 1 << 20
local BLANK <const>, OVERFLOW <const> = 0x8, 0xD

describe("a tape", function()
  local path, dev

  local function open(options)
    options = options or {}
    options.options = "path=" .. path .. (options.mode or "")
    options.size = options.size or SIZE
    dev = assert(sim.device("handlers/tape.lua", options))
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
  end

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    open()
  end)
  after_each(function()
    dev:close()
    os.remove(path)
  end)

  local function good(cdb, data)
    local r = dev:cmd(cdb, data or { data_in = 0 })
    assert.is.good(r)
    return r.data
  end

  local function write(text) good(make.write_6 { blocks = #text }, text) end
  local function marks(n)
    good(make.write_filemarks_6 { filemark_count = n })
  end
  local function rewind() good(make.rewind()) end
  local function space(code, count)
    return dev:cmd(make.space_6 { code = code, count = count & 0xFFFFFF },
                   { data_in = 0 })
  end

  local function read(n, fields)
    local cdb = { blocks = n }
    for k, v in pairs(fields or {}) do cdb[k] = v end
    return dev:cmd(make.read_6(cdb), { data_in = n })
  end

  local function blocks_of(size)
    local list = string.pack(">BBBBBI3BI3", 0, 0, 0x10, 8, 0, 0, 0, size)
    good(make.mode_select_6 { pf = 1, length = #list }, list)
  end
  local function read_blocks(n, size)
    return dev:cmd(make.read_6 { fixed = 1, blocks = n },
                   { data_in = n * size })
  end

  local function position()
    local data = good(make.read_position_long(), { data_in = 32 })
    local number, file = string.unpack(">I8I8", data, 9)
    return number, file, data:byte(1) & 0x80 ~= 0
  end

  -- A result: NO SENSE with flags, or another key, and what was missing.
  local function stopped(r, key, ascq, flag, missing)
    assert.has.status(r, 0x02)
    assert.same({ key, 0x00, ascq, missing },
                { r.sense.key, r.sense.asc, r.sense.ascq,
                  r.sense.information })
    for _, name in ipairs { "filemark", "eom", "ili" } do
      assert.equal(name == flag, r.sense[name] == true, name)
    end
  end

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

  it("lets nobody write on at the start of the tape after a restart",
  function()
    write "one"
    dev:close()
    dev = assert(sim.device("handlers/tape.lua", {
      size = SIZE, options = "path=" .. path }))
    assert.has.sense(dev:cmd(make.write_6 { blocks = 3 }, "two"),
                     scsi.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    assert.equal("one", read(3).data)
  end)

  it("keeps tape and filemarks over a restart, rewound", function()
    write "one"
    marks(2)
    dev:close()
    open()
    assert.same({ 0, 0, true }, { position() })
    assert.equal("one", read(3).data)
    assert.is.good(space(2, 2))
    stopped(read(1), BLANK, 0x05, nil, 1)
  end)

  it("can be read but not written with mode=ro", function()
    write "one"
    dev:close()
    open { mode = ";mode=ro" }
    for _, cdb in ipairs { make.write_6 { blocks = 1 },
                           make.write_filemarks_6 { filemark_count = 1 },
                           make.erase_6() } do
      local data = cdb:byte(1) == 0x0A and "x" or { data_in = 0 }
      assert.has.sense(dev:cmd(cdb, data), scsi.WRITE_PROTECTED)
    end
    assert.equal("one", read(3).data)
    local header = good(make.mode_sense_6 { length = 12 }, { data_in = 12 })
    assert.equal(0x80, header:byte(3) & 0x80)
  end)

  it("takes no file that is something else", function()
    dev:close()
    local f = assert(io.open(path, "r+b"))
    f:write("precious")
    f:close()
    local none, why = sim.device("handlers/tape.lua", {
      size = SIZE, options = "path=" .. path })
    assert.is_nil(none)
    assert.matches("the file is no tape", why)
  end)

  it("tells block length and buffered mode, and takes new ones", function()
    local function header()
      return good(make.mode_sense_6 { length = 12 }, { data_in = 12 })
    end
    assert.equal(string.pack(">BBBBBI3BI3", 11, 0, 0x10, 8, 0x80, 0, 0, 0),
                 header())
    blocks_of(1024)
    assert.equal(1024, (string.unpack(">I3", header(), 10)))
    local list = string.pack(">BBBBBI3BI3", 0, 0, 0x00, 8, 0x7F, 0, 0, 0)
    good(make.mode_select_6 { pf = 1, length = 12 }, list)
    assert.equal(string.pack(">BBBBBI3BI3", 11, 0, 0x00, 8, 0x80, 0, 0, 0),
                 header())
  end)

  it("refuses densities and modes that it does not have", function()
    local function refuses(list, byte)
      local r = dev:cmd(make.mode_select_6 { pf = 1, length = #list }, list)
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST, byte)
    end
    refuses(string.pack(">BBBBBI3BI3", 0, 0, 0x10, 8, 0x44, 0, 0, 0), 4)
    refuses(string.pack(">BBBBBI3BI3", 0, 0, 0x20, 8, 0, 0, 0, 0), 2)
    refuses(string.pack(">BBBBBI3BI3", 0, 0, 0x10, 8, 0, 0, 0, 0xFFFFFF), 9)
  end)

  it("tells its block limits and its density", function()
    assert.equal(string.pack(">BI3I2", 0, 8 << 20, 1),
                 good(make.read_block_limits(), { data_in = 6 }))
    local data = good(make.report_density_support { length = 255 },
                      { data_in = 255 })
    assert.equal(4 + 52, #data)
    assert.equal(0x80, data:byte(5))
  end)

  it("is empty after an unload, and rewound after a load", function()
    write "one"
    good(make.load_unload { load = 0 })
    assert.has.sense(read(3), scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    good(make.load_unload { load = 1 })
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
    assert.equal("one", read(3).data)
  end)

  it("loads another tape when another file lies at the path", function()
    write "one"
    good(make.load_unload { load = 0 })
    os.rename(path, path .. ".old")
    good(make.load_unload { load = 1 })
    dev:cmd(make.test_unit_ready())
    stopped(read(3), BLANK, 0x05, nil, 3)
    write "other"
    good(make.load_unload { load = 0 })
    os.rename(path .. ".old", path)
    good(make.load_unload { load = 1 })
    dev:cmd(make.test_unit_ready())
    assert.equal("one", read(3).data)
  end)

  it("stays empty when the file is no tape", function()
    good(make.load_unload { load = 0 })
    local f = assert(io.open(path, "r+b"))
    f:write("precious")
    f:close()
    assert.has.sense(dev:cmd(make.load_unload { load = 1 }),
                     scsi.CANNOT_READ_MEDIUM_UNKNOWN_FORMAT)
    assert.has.sense(dev:cmd(make.read_6 { blocks = 1 }),
                     scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    os.remove(path)
    good(make.load_unload { load = 1 })
  end)

  it("keeps the tape while removal is prevented", function()
    good(make.prevent_allow_medium_removal { prevent = 1 })
    assert.has.sense(dev:cmd(make.load_unload { load = 0 }),
                     scsi.MEDIUM_REMOVAL_PREVENTED)
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

  it("says that a damaged tape is damaged", function()
    write(("x"):rep(1000))
    rewind()
    dev:close()
    local f = assert(io.open(path, "r+b"))
    f:seek("set", 512)
    f:write("\x00\x7F\xFF\xFF")
    f:close()
    open()
    assert.has.sense(read(1000), scsi.MEDIUM_FORMAT_CORRUPTED)
  end)
end)

describe("cmd:moved", function()
  local SOURCE <const> = [[=partial
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "partial",
  open = function(dev) return { store = tcmu.store.zero(dev.size) } end,
  on = {
    [0xC0] = function(_, cmd)
      cmd.data:put(0, "some text")
      cmd:moved(cmd:u8(1))
      error(scsi.NO_ADDITIONAL_SENSE_INFORMATION:stream { ili = true })
    end,
    [0xC1] = function(_, cmd)
      cmd:moved(4)
      error(scsi.NO_ADDITIONAL_SENSE_INFORMATION)
    end,
    [0xC2] = function(_, cmd) cmd:moved(#cmd.data + 1) end,
  },
}
]]
  local dev

  before_each(function() dev = assert(sim.device(SOURCE)) end)
  after_each(function() dev:close() end)

  local function ask(opcode, n)
    dev.kernel:poison(0xEE)
    return dev:cmd(string.char(opcode, n) .. ("\0"):rep(8), { data_in = 64 })
  end

  it("sends so many bytes with the sense", function()
    local r = ask(0xC0, 4)
    assert.is_true(r.sense.ili)
    assert.equal("some", r.data)
    assert.equal("some text" .. ("\0"):rep(55), ask(0xC0, 64).data)
  end)

  it("sends sense alone for 0, and where nothing was put", function()
    assert.equal("", ask(0xC0, 0).data or "")
    assert.equal("", ask(0xC1, 0).data or "")
  end)

  it("does not go past the data", function()
    assert.has.sense(ask(0xC2, 0), scsi.INTERNAL_TARGET_FAILURE)
  end)
end)
