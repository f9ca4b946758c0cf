--- The tape in the drive of tcmu.tape and its handler: its file, what is said
--- of it, loading and unloading, restarts.
local drive = require "spec.tape_drive"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = drive.make
local BLANK <const> = drive.BLANK

local blocks_of <const>, good <const>, marks <const>, open <const> =
  drive.blocks_of, drive.good, drive.marks, drive.open
local position <const>, read <const>, rewind <const>, space <const> =
  drive.position, drive.read, drive.rewind, drive.space
local stopped <const>, write <const> = drive.stopped, drive.write

describe("a tape", function()
  local dev, path

  before_each(function() dev, path = drive.start() end)
  after_each(drive.clean)

  it("lets nobody write on at the start of the tape after a restart",
  function()
    write "one"
    dev:close()
    dev = assert(drive.on())
    assert.has.sense(dev:cmd(make.write_6 { blocks = 3 }, "two"),
                     scsi.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    assert.equal("one", read(3).data)
  end)

  it("keeps tape and filemarks over a restart, rewound", function()
    write "one"
    marks(2)
    dev:close()
    dev = open()
    assert.same({ 0, 0, true }, { position() })
    assert.equal("one", read(3).data)
    assert.is.good(space(2, 2))
    stopped(read(1), BLANK, 0x05, nil, 1)
  end)

  it("can be read but not written with mode=ro", function()
    write "one"
    dev:close()
    dev = open ";mode=ro"
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
    local none, why = drive.on()
    assert.is_nil(none)
    assert.matches("the file is no tape", why)
  end)

  it("takes no file that begins with zeroes and is something else", function()
    dev:close()
    -- The superblocks of ext4 and of btrfs.
    for _, at in ipairs { 1024, 65536 } do
      local f = assert(io.open(path, "wb"))
      f:write(("\0"):rep(at), "precious", ("\0"):rep(drive.SIZE - at - 8))
      f:close()
      local none, why = drive.on()
      assert.is_nil(none)
      assert.matches("the file is no tape", why)
      f = assert(io.open(path, "rb"))
      assert.equal(("\0"):rep(at) .. "precious", f:read(at + 8))
      f:close()
    end
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

  it("can be loaded again wherever its unload was aborted", function()
    write "one"
    for looks = 1, 40 do
      local unload = dev:submit(make.load_unload { load = 0 })
      dev:run(function()
        looks = looks - 1
        return looks <= 0 or unload.result
      end)
      if not unload.result then dev:abort(unload) end
      dev:wait(unload)
      good(make.load_unload { load = 1 })
      dev:cmd(make.test_unit_ready())
      assert.equal("one", read(3).data)
    end
  end)

  it("is written by nobody who asked before it was loaded", function()
    local function submit(text)
      return dev:submit(make.write_6 { blocks = #text }, text)
    end
    local one = submit "one"
    local unload = dev:submit(make.load_unload { load = 0 })
    local two = submit "two"
    local load = dev:submit(make.load_unload { load = 1 })
    -- So many that the drive hears of all while it unloads: of a few commands
    -- the first two are taken by themselves, and it could be loaded already.
    local more = {}
    for _ = 1, 10 do
      table.insert(more, submit "three")
      table.insert(more, dev:submit(make.rewind()))
    end
    assert.is.good(dev:wait(one))
    assert.is.good(dev:wait(unload))
    assert.has.sense(dev:wait(two), scsi.MEDIUM_NOT_PRESENT_TRAY_OPEN)
    assert.is.good(dev:wait(load))
    for _, handle in ipairs(more) do
      assert.has.sense(dev:wait(handle),
                       scsi.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
    end
    dev:cmd(make.test_unit_ready())
    assert.equal("one", read(3).data)
    stopped(read(1), BLANK, 0x05, nil, 1)
  end)

  it("may be out of the drive while the handler is loaded again", function()
    write "one"
    good(make.load_unload { load = 0 })
    assert(dev:reload())
    good(make.load_unload { load = 1 })
    dev:cmd(make.test_unit_ready())
    assert.equal("one", read(3).data)
    write "two"
    rewind()
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

  it("is as long as it was made", function()
    write "one"
    for _, size in ipairs { drive.SIZE // 2, 2 * drive.SIZE } do
      local status, why = dev:change("size", { size = size, force = true })
      assert.is_true(status < 0)
      assert.matches("the size of a tape cannot change", why)
    end
    assert.equal(0, (dev:change("size", { size = drive.SIZE })))
    rewind()
    assert.equal("one", read(3).data)
  end)

  it("says that a damaged tape is damaged", function()
    write(("x"):rep(1000))
    rewind()
    dev:close()
    local f = assert(io.open(path, "r+b"))
    f:seek("set", 512)
    f:write("\x00\x7F\xFF\xFF")
    f:close()
    dev = open()
    assert.has.sense(read(1000), scsi.MEDIUM_FORMAT_CORRUPTED)
  end)
end)

describe("a tape that is rewound by a restart", function()
  local dev

  before_each(function()
    dev = drive.start()
    for _, text in ipairs { "one", "two" } do write(text) end
  end)
  after_each(drive.clean)

  -- The unit attention goes to somebody who only looks.
  local function restart()
    dev:close "remove"
    dev = open()
  end

  local function refuses()
    for _, cdb in ipairs { make.write_6 { blocks = 1 },
                           make.write_filemarks_6 { filemark_count = 1 },
                           make.write_filemarks_6(), make.erase_6() } do
      local data = cdb:byte(1) == 0x0A and "x" or { data_in = 0 }
      assert.has.sense(dev:cmd(cdb, data),
                       scsi.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    end
  end

  it("is not written by who may not know of it", function()
    restart()
    refuses()
    refuses()
    assert.equal("one", read(3).data)
    assert.is.good(space(0, 1))
    refuses()
    rewind()
    assert.equal("onetwo", read(3).data .. read(3).data)
  end)

  it("is written by who has found the place", function()
    local function end_of_data() return space(3, 0) end
    for find, objects in pairs {
      [end_of_data] = 3, [rewind] = 1,
      [function() good(make.locate_10 { logical_object_identifier = 1 }) end]
        = 2,
      [function() good(make.load_unload { load = 1 }) end] = 1,
    } do
      good(make.locate_10 { logical_object_identifier = 0 })
      for _, text in ipairs { "one", "two" } do write(text) end
      restart()
      refuses()
      find()
      write "new"
      assert.equal(objects, (position()))
    end
  end)

  it("is written at once if it was at its start before", function()
    rewind()
    restart()
    write "new"
    good(make.load_unload { load = 0 })
    restart()
    write "newer"
  end)

  it("is written at once if there is nothing on it", function()
    assert.is.good(space(0, -2))
    good(make.erase_6())
    stopped(read(3), BLANK, 0x05, nil, 3)
    restart()
    write "new"
  end)

  it("is not written if it had only been read or spaced over", function()
    for _, move in ipairs { function() return space(3, 0) end,
                            function() return read(3) end } do
      rewind()
      assert.is.good(move())
      restart()
      refuses()
    end
    rewind()
    assert.equal("onetwo", read(3).data .. read(3).data)
  end)
end)

describe("a tape of which nobody knows what is on stable storage", function()
  it("is flushed by the first command after a restart that promises it",
  function()
    local path <const> = os.tmpname()
    os.remove(path)
    local function start()
      local dev = assert(sim.device([[=counts
local tcmu = require "tcmu"
return tcmu.handler {
  name = "counts",
  device = require "tcmu.tape",
  options = { path = tcmu.option.path "the tape" },
  open = function(dev)
    return { kept = tcmu.store.file(dev.options.path, "c", dev.size),
             flushes = 0 }
  end,
  read = function(self, cmd, offset) self.kept:read(cmd.data, offset) end,
  write = function(self, cmd, offset) self.kept:write(cmd.data, offset) end,
  flush = function(self) self.flushes = self.flushes + 1 end,
  on = { [0xC1] = function(self) return tostring(self.flushes) end },
}]], { size = 1 << 20, options = "path=" .. path }))
      dev:cmd(make.test_unit_ready())
      return dev
    end
    local dev = start()
    assert.is.good(dev:cmd(make.write_6 { blocks = 3 }, "one"))
    for _, cdb in ipairs { make.rewind(), make.load_unload { load = 1 } } do
      dev:close "remove"
      dev = start()
      for _ = 1, 2 do
        assert.is.good(dev:cmd(cdb))
        assert.equal("1", dev:cmd("\xC1\0\0\0\0\0", { data_in = 9 }).data)
      end
    end
    dev:close()
    os.remove(path)
  end)
end)

describe("a tape whose disk takes no writes any more", function()
  it("can still be read", function()
    local dev <close> = assert(sim.device([[=once
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "once",
  device = require "tcmu.tape",
  open = function(dev) return { kept = tcmu.store.memory(dev.size) } end,
  read = function(self, cmd, offset) self.kept:read(cmd.data, offset) end,
  write = function(self, cmd, offset)
    if self.fails then error(scsi.WRITE_ERROR) end
    self.kept:write(cmd.data, offset)
  end,
  on = { [0xC1] = function(self) self.fails = true end },
}]], { size = 1 << 20 }))
    dev:cmd(make.test_unit_ready())
    assert.is.good(dev:cmd(make.write_6 { blocks = 3 }, "one"))
    assert.is.good(dev:cmd(make.rewind()))
    assert.is.good(dev:cmd("\xC1\0\0\0\0\0"))
    local r = dev:cmd(make.read_6 { blocks = 3 }, { data_in = 3 })
    assert.equal("one", r.data)
    assert.is.good(dev:cmd(make.rewind()))
    assert.has.sense(dev:cmd(make.write_6 { blocks = 3 }, "two"),
                     scsi.WRITE_ERROR)
  end)
end)

describe("a tape whose disk fails once to flush", function()
  it("flushes again before it says that filemarks are stable", function()
    local dev <close> = assert(sim.device([[=fails
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"
return tcmu.handler {
  name = "fails",
  device = require "tcmu.tape",
  open = function(dev)
    return { kept = tcmu.store.memory(dev.size), flushes = 0 }
  end,
  read = function(self, cmd, offset) self.kept:read(cmd.data, offset) end,
  write = function(self, cmd, offset) self.kept:write(cmd.data, offset) end,
  flush = function(self)        -- the first is for the new tape
    self.flushes = self.flushes + 1
    if self.flushes == 2 then error(scsi.WRITE_ERROR) end
  end,
  on = { [0xC1] = function(self) return tostring(self.flushes) end },
}]], { size = 1 << 20 }))
    local stable <const> = make.write_filemarks_6 { filemark_count = 0 }
    local function flushes()
      return dev:cmd("\xC1\0\0\0\0\0", { data_in = 9 }).data
    end
    dev:cmd(make.test_unit_ready())
    assert.is.good(dev:cmd(make.write_6 { blocks = 3 }, "one"))
    assert.has.sense(dev:cmd(stable, { data_in = 0 }), scsi.WRITE_ERROR)
    assert.is.good(dev:cmd(stable, { data_in = 0 }))
    assert.equal("3", flushes())
    assert.is.good(dev:cmd(stable, { data_in = 0 }))
    assert.equal("3", flushes())
  end)
end)
