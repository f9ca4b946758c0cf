--- The device kind tcmu.cdrom and its handler, as an initiator sees them.
local encode = require "tcmu.encode"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = encode.all("cdrom")
local BLOCK <const> = 2048
local BLOCKS <const> = 300

local function image(path, seed, blocks)
  local f = assert(io.open(path, "wb"))
  for i = 0, blocks - 1 do
    f:write(string.pack("<I8", i * 7919 + seed):rep(BLOCK // 8))
  end
  f:close()
end

local function block(lba, seed)
  return string.pack("<I8", lba * 7919 + seed):rep(BLOCK // 8)
end

describe("a cdrom", function()
  local path, dev

  before_each(function()
    path = os.tmpname()
    image(path, 1, BLOCKS)
    dev = assert(sim.device("handlers/cdrom.lua", {
      size = BLOCKS * BLOCK, block_size = BLOCK, options = path }))
  end)
  after_each(function()
    dev:close()
    os.remove(path)
  end)

  local function get(cdb, room)
    local r = dev:cmd(cdb, { data_in = room or 255 })
    assert.is.good(r)
    return r.data
  end

  local function eject() return dev:cmd(make.start_stop_unit { loej = 1 }) end
  local function load()
    return dev:cmd(make.start_stop_unit { loej = 1, start = 1 })
  end

  it("is a removable drive of type 5 with the handler's product", function()
    local data = get(make.inquiry { length = 96 }, 96)
    assert.equal(0x05, data:byte(1))
    assert.equal(0x80, data:byte(2))
    assert.equal("TCMU CD-ROM     ", data:sub(17, 32))
    local page = get(make.inquiry { evpd = 1, page_code = 0, length = 32 }, 32)
    assert.equal("\5\0\0\3\0\x80\x83", page)
  end)

  it("has blocks of 2048 bytes, as many as the image", function()
    assert.equal(string.pack(">I4I4", BLOCKS - 1, BLOCK),
                 get(make.read_capacity_10(), 8))
    dev:close()
    dev = assert(sim.device("handlers/cdrom.lua", {
      size = 512, block_size = 512, options = path }))
    assert.equal(string.pack(">I4I4", BLOCKS - 1, BLOCK),
                 get(make.read_capacity_10(), 8))
  end)

  it("has the size of its image and no other", function()
    for _, blocks in ipairs { BLOCKS // 2, 2 * BLOCKS } do
      local status, why = dev:change("size", { size = blocks * BLOCK,
                                               force = true })
      assert.is_true(status < 0)
      assert.matches("as large as its image", why)
    end
    assert.equal(string.pack(">I4I4", BLOCKS - 1, BLOCK),
                 get(make.read_capacity_10(), 8))
  end)

  it("takes another size where the handler has no image", function()
    local read <close> = assert(sim.device([[=reads
return require("tcmu").handler {
  name = "reads",
  device = require "tcmu.cdrom",
  read = function(_, cmd) cmd.data:fill(1) end,
}]], { size = 2 * BLOCK, block_size = BLOCK }))
    assert.equal(0, (read:change("size", { size = 3 * BLOCK })))
    read:cmd(make.test_unit_ready())
    assert.equal(string.pack(">I4I4", 2, BLOCK),
                 read:cmd(make.read_capacity_10()).data)
  end)

  it("reads the image by READ (10), READ (12) and READ CD", function()
    local want = block(17, 1) .. block(18, 1)
    for _, cdb in ipairs {
      make.read_10 { lba = 17, blocks = 2 },
      make.read_12 { lba = 17, blocks = 2 },
      make.read_cd { lba = 17, blocks = 2, user_data = 1 },
    } do assert.is_true(get(cdb, 2 * BLOCK) == want) end
  end)

  it("reads nothing past the end, and tells where that is", function()
    local r = dev:cmd(make.read_10 { lba = BLOCKS - 1, blocks = 2 },
                      { data_in = 2 * BLOCK })
    assert.has.sense(r, scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    assert.equal(BLOCKS, r.sense.information)
  end)

  it("gives no raw sectors and no audio", function()
    assert.has.sense(dev:cmd(make.read_cd { lba = 0, blocks = 1, sync = 1 }),
                     scsi.INVALID_FIELD_IN_CDB, 9)
    assert.has.sense(dev:cmd(make.read_cd { lba = 0, blocks = 1, user_data = 1,
                                            expected_sector_type = 1 }),
                     scsi.ILLEGAL_MODE_FOR_THIS_TRACK)
  end)

  it("has no command that writes", function()
    assert.has.sense(dev:cmd(scsi.cdb.write_10 { lba = 0, blocks = 1 },
                             block(0, 9)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)

  it("has a table of contents of one track and the lead-out", function()
    local data = get(make.read_toc_pma_atip { length = 255 })
    assert.equal(string.pack(">I2BBBBBBI4BBBBI4", 18, 1, 1, 0, 0x14, 1, 0, 0,
                             0, 0x14, 0xAA, 0, BLOCKS), data)
    data = get(make.read_toc_pma_atip { length = 255, msf = 1,
                                        track_session_number = 0xAA })
    -- 300 + 150 frames are six seconds.
    assert.equal("\0\x0A\1\1\0\x14\xAA\0\0\0\6\0", data)
    assert.has.sense(dev:cmd(make.read_toc_pma_atip {
      length = 255, track_session_number = 2 }), scsi.INVALID_FIELD_IN_CDB, 6)
  end)

  it("tells the session in the place of the format that Linux uses", function()
    local want = "\0\x0A\1\1\0\x14\1\0\0\0\0\0"
    assert.equal(want, get(make.read_toc_pma_atip { length = 12, format = 1 }))
    assert.equal(want, get(make.read_toc_pma_atip { length = 12,
                                                    old_format = 1 }))
  end)

  it("tells the points of the lead-in", function()
    local data = get(make.read_toc_pma_atip { length = 255, format = 2 })
    assert.equal(4 + 4 * 11, #data)
    local points = {}
    for at = 8, #data, 11 do points[#points + 1] = data:byte(at) end
    assert.same({ 0xA0, 0xA1, 0xA2, 1 }, points)
    assert.equal("\0\6\0", data:sub(4 + 2 * 11 + 9, 4 + 3 * 11))
  end)

  it("says that disc and track are finished", function()
    local disc = get(make.read_disc_information { length = 255 })
    assert.equal(34, #disc)
    assert.equal(0x0E, disc:byte(3))
    local track = get(make.read_track_information {
      length = 255, address_number_type = 1,
      address_or_number = 1 })
    assert.equal(36, #track)
    assert.equal(BLOCKS, (string.unpack(">I4", track, 25)))
    assert.has.sense(dev:cmd(make.read_track_information {
      length = 255, address_number_type = 1,
      address_or_number = 2 }),
      scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  local function features(data)
    local list, at = {}, 9
    while at < #data do
      local code, flags, body = string.unpack(">I2Bs1", data, at)
      list[code] = { current = flags & 1 == 1, body = body }
      list[#list + 1] = code
      at = at + 4 + #body
    end
    return list
  end

  it("lists its features, in which it reads a CD and no DVD", function()
    local data = get(make.get_configuration { length = 255 })
    local length, profile = string.unpack(">I4xxI2", data)
    assert.equal(#data - 4, length)
    assert.equal(0x0008, profile)
    local all = features(data)
    assert.is_true(all[0x001E].current)
    assert.is_false(all[0x001F].current)
    local one = features(get(make.get_configuration {
      rt = 2, starting_feature_number = 0x10, length = 255 }))
    assert.same({ [1] = 0x10 }, { one[1], one[2] })
    local current = features(get(make.get_configuration { rt = 1,
                                                          length = 255 }))
    assert.is_nil(current[0x001F])
  end)

  it("takes what is too large for a CD for a DVD", function()
    dev:close()
    local f = assert(io.open(path, "r+b"))
    f:seek("set", 800 * 1024 * 1024 - 1)
    f:write("\0")
    f:close()
    dev = assert(sim.device("handlers/cdrom.lua", { size = BLOCK,
                                                    options = path }))
    local data = get(make.get_configuration { length = 8 })
    assert.equal(0x0010, (string.unpack(">I2", data, 7)))
  end)

  it("has page 2Ah without a block descriptor", function()
    local short = get(make.mode_sense_6 { page_code = 0x2A, length = 255 })
    assert.equal(4 + 26, #short)
    assert.equal("\x1D\0\0\0\x2A\x18", short:sub(1, 6))
    local long = get(make.mode_sense_10 { page_code = 0x2A, length = 255 })
    assert.equal("\0\0", long:sub(7, 8))
    assert.equal(short:sub(5), long:sub(9))
    -- A tray that can be ejected and locked.
    assert.equal(0x29, short:byte(4 + 7))
  end)

  it("takes back what it told in MODE SENSE, and nothing else", function()
    local page = get(make.mode_sense_10 { page_code = 0x01, length = 255 })
    local same = ("\0"):rep(8) .. page:sub(9)
    assert.is.good(dev:cmd(make.mode_select_10 { pf = 1, length = #same },
                           same))
    local other = same:sub(1, 10) .. "\x80" .. same:sub(12)
    assert.has.sense(dev:cmd(make.mode_select_10 { pf = 1, length = #other },
                             other), scsi.INVALID_FIELD_IN_PARAMETER_LIST)
  end)

  local function media_event()
    local data = get(make.get_event_status_notification {
      polled = 1, notification_class_request = 0x10, length = 8 }, 8)
    assert.equal("\0\6\4", data:sub(1, 3))
    return data:byte(5), data:byte(6)
  end

  it("is without a disc between eject and load", function()
    assert.same({ 0, 2 }, { media_event() })
    assert.is.good(eject())
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    assert.has.sense(dev:cmd(make.read_toc_pma_atip { length = 12 }),
                     scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    assert.equal(0, (string.unpack(">I2",
      get(make.get_configuration { length = 8 }), 7)))
    assert.equal(0x10, get(make.mechanism_status { length = 8 }):byte(2))
    assert.is.good(load())
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.equal(0, get(make.mechanism_status { length = 8 }):byte(2))
  end)

  it("tells each media event once", function()
    eject()
    assert.same({ 3, 1 }, { media_event() })
    assert.same({ 0, 1 }, { media_event() })
    load()
    assert.same({ 2, 2 }, { media_event() })
    assert.same({ 0, 2 }, { media_event() })
  end)

  it("refuses events that are not polled, and knows other classes", function()
    assert.has.sense(dev:cmd(make.get_event_status_notification {
      notification_class_request = 0x10, length = 8 }),
      scsi.INVALID_FIELD_IN_CDB, 1)
    assert.equal("\0\2\x80\x56", get(make.get_event_status_notification {
      polled = 1, notification_class_request = 0x08, length = 8 }, 8))
  end)

  it("keeps the disc while removal is prevented", function()
    dev:cmd(make.prevent_allow_medium_removal { prevent = 1 })
    assert.has.sense(eject(), scsi.MEDIUM_REMOVAL_PREVENTED)
    assert.is.good(dev:cmd(make.test_unit_ready()))
    dev:cmd(make.prevent_allow_medium_removal { prevent = 0 })
    assert.is.good(eject())
  end)

  it("loads the image that lies at the path by then", function()
    eject()
    os.remove(path)
    image(path, 77, 100)
    assert.is.good(load())
    dev:cmd(make.test_unit_ready())
    assert.equal(string.pack(">I4I4", 99, BLOCK),
                 get(make.read_capacity_10(), 8))
    assert.is_true(get(make.read_10 { lba = 99, blocks = 1 }, BLOCK)
                   == block(99, 77))
    assert.has.sense(dev:cmd(make.read_10 { lba = 100, blocks = 1 }),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
  end)

  it("stays open when there is no image to load", function()
    eject()
    os.remove(path)
    assert.has.sense(load(), scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    image(path, 5, 10)
    assert.is.good(load())
  end)

  it("takes an image without a whole block for no disc", function()
    eject()
    local f <close> = assert(io.open(path, "wb"))
    f:write(("x"):rep(BLOCK - 1))
    f:flush()
    assert.has.sense(load(), scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    assert.has.sense(dev:cmd(make.read_capacity_10()),
                     scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    local made, message = sim.device("handlers/cdrom.lua", {
      size = BLOCK - 1, block_size = BLOCK, options = path })
    assert.is_nil(made)
    assert.matches("2047 bytes", message)
    image(path, 5, 10)
    assert.is.good(load())
  end)
end)
