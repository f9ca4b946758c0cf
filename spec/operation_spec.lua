--- FORMAT UNIT and SANITIZE: what a device does for longer than a command.
local commands = require "spec.commands"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local SIZE <const> = 4 << 20
local SANITIZING <const> = scsi.LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS
local FORMATTING <const> = scsi.LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS

-- Fails writes from the byte on that C0h has set, and takes its time.
local FRAGILE <const> = [[=fragile
local tcmu = require "tcmu"
return tcmu.handler { name = "fragile",
  open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
  read = function(self, cmd, offset, length)
    cmd.data:copy(0, self.bytes, offset, length)
  end,
  write = function(self, cmd, offset, length)
    tcmu.sleep(100)
    if self.bad and offset + length > self.bad then error("no luck") end
    self.bytes:copy(offset, cmd.data, 0, length)
  end,
  on = { [0xC0] = function(self, cmd) self.bad = cmd:u32(2) end },
}
]]

describe("an operation", function()
  local dev

  local function open(path, options)
    options = options or {}
    options.size = SIZE
    dev = assert(sim.device(path or "handlers/ram.lua", options))
  end
  after_each(function() dev:close() end)

  local function overwrite(...) return dev:submit(commands.overwrite(...)) end

  local function read(lba)
    return dev:cmd(commands.read(lba))
  end

  local function finish()
    dev:run(function() return false end)
  end

  it("of SANITIZE OVERWRITE fills the medium with the pattern", function()
    for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
      open(path)
      assert.is.good(dev:wait(overwrite "abcd"))
      for _, lba in ipairs { 0, 4711, SIZE // BLOCK - 1 } do
        assert.equal(("abcd"):rep(BLOCK // 4), read(lba).data)
      end
      for passes = 1, 3 do      -- INVERT: the last one is the pattern
        assert.is.good(dev:wait(overwrite("\x0F", 0x80 | passes)))
        assert.equal(("\x0F"):rep(BLOCK), read(99).data)
      end
      dev:close()
    end
    open()
  end)

  it("of SANITIZE BLOCK ERASE leaves zeroes and no space in use", function()
    open()
    dev:cmd(make.write_10 { lba = 8, blocks = 1 }, ("x"):rep(BLOCK))
    assert.is.good(dev:cmd(make.sanitize_block_erase()))
    assert.equal(("\0"):rep(BLOCK), read(8).data)
    local r = dev:cmd(make.get_lba_status { lba = 0, length = 64 })
    assert.same({ SIZE // BLOCK, 1 },
                { (string.unpack(">I4", r.data, 17)), r.data:byte(21) })
  end)

  it("of FORMAT UNIT leaves zeroes, or the pattern that it was given",
  function()
    open()
    dev:cmd(make.write_10 { lba = 8, blocks = 1 }, ("x"):rep(BLOCK))
    assert.is.good(dev:cmd(make.format_unit {}, ""))
    assert.equal(("\0"):rep(BLOCK), read(8).data)
    local list = "\0\x88\0\0" .. "\0\1\0\2" .. "yz"
    assert.is.good(dev:cmd(make.format_unit { fmtdata = true }, list))
    assert.equal(("yz"):rep(BLOCK // 2), read(8).data)
  end)

  it("is refused with a pointer to what is wrong", function()
    open()
    local function sanitize(length, list, action)
      return dev:cmd(make["sanitize_" .. (action or "overwrite")]
                     { length = length }, list or "")
    end
    for length = 0, 4 do
      assert.has.sense(sanitize(length, ("\1"):rep(length)),
                       scsi.INVALID_FIELD_IN_CDB, 7)
    end
    assert.has.sense(sanitize(BLOCK + 5, ("\1"):rep(BLOCK + 5)),
                     scsi.INVALID_FIELD_IN_CDB, 7)
    assert.has.sense(sanitize(8, "\1\0\0\4", "block_erase"),
                     scsi.INVALID_FIELD_IN_CDB, 7)
    for list, at in pairs { ["\0\0\0\4abcd"] = 0, ["\x21\0\0\4abcd"] = 0,
                            ["\1\0\0\0abcd"] = 2, ["\1\0\0\5abcd"] = 2 } do
      local r = sanitize(8, list)
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.equal(at, r.sense.pointer.byte)
    end
    for list, at in pairs { ["\1\0\0\0"] = 0, ["\0\8\0\0"] = 1,
                            ["\0\x80\0\8"] = 2,
                            ["\0\x88\0\0\0\2\0\1z"] = 5,
                            ["\0\x88\0\0\0\1\0\2z"] = 6 } do
      local r = dev:cmd(make.format_unit { fmtdata = true }, list)
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.equal(at, r.sense.pointer.byte)
    end
    assert.has.sense(dev:cmd(make.format_unit { defect_list_format = 5 }, ""),
                     scsi.INVALID_FIELD_IN_CDB, 1, 2)
    -- 111b is no format, but the others are as good without defects.
    for format = 0, 7 do
      local r = dev:cmd(make.format_unit { fmtdata = true,
        defect_list_format = format }, "\0\0\0\0")
      if format < 7 then
        assert.is.good(r)
      else
        assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB, 1, 2)
      end
    end
  end)

  it("of FORMAT UNIT ignores what is about a list that is not there",
  function()
    open()
    assert.is.good(dev:cmd(make.format_unit { cmplst = true, longlist = true },
                           ""))
  end)

  it("refuses other commands meanwhile, and tells its progress", function()
    open(FRAGILE)
    assert.is.good(dev:wait(overwrite("x", 1, { immed = true })))
    for _, cdb in ipairs { make.test_unit_ready(), make.read_10 { blocks = 1 },
                           make.start_stop_unit { start = true },
                           make.sanitize_block_erase(),
                           make.log_sense { page = 0, length = 64 },
                           make.mode_sense_6 { page = 0x3F, length = 64 } } do
      assert.has.sense(dev:cmd(cdb), SANITIZING)
    end
    assert.has.sense(dev:cmd(make.write_10 { blocks = 1 }, ("y"):rep(BLOCK)),
                     SANITIZING)
    -- SBC-4 4.11.2: what says how the device is.
    for _, cdb in ipairs { make.inquiry { length = 36 },
                           make.report_supported_operation_codes
                             { length = 4 },
                           make.read_capacity_10(),
                           make.read_capacity_16 { length = 32 },
                           make.mode_sense_6 { page = 8, length = 64 },
                           make.mode_sense_10 { page = 0x1C, length = 64 } } do
      assert.is.good(dev:cmd(cdb))
    end
    local seen = 0
    dev:run(function()
      local r = dev:submit(make.request_sense { length = 18 })
      dev:wait(r)
      local value = sense.decode(r.result.data)
      if value.key == 0 then return true end
      assert.is_true(value:is(SANITIZING))
      assert.is_true(value.progress >= seen)
      seen = value.progress
      return false
    end)
    assert.is_true(seen > 0)
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.equal(("x"):rep(BLOCK), read(5).data)
  end)

  it("of FORMAT UNIT leaves little to be answered meanwhile", function()
    open(FRAGILE)
    assert.is.good(dev:cmd(make.format_unit { fmtdata = true }, "\0\2\0\0"))
    for _, cdb in ipairs { make.test_unit_ready(), make.read_capacity_10(),
                           make.log_sense { page = 0, length = 64 },
                           make.mode_sense_6 { page = 8, length = 64 },
                           make.report_supported_operation_codes
                             { length = 4 } } do
      assert.has.sense(dev:cmd(cdb), FORMATTING)
    end
    assert.is.good(dev:cmd(make.inquiry { length = 36 }))
    assert.is.good(dev:cmd(make.request_sense { length = 18 }))
    finish()
    assert.is.good(dev:cmd(make.test_unit_ready()))
  end)

  it("waits for the writes that were there first", function()
    open(FRAGILE)
    local slow = dev:submit(make.write_10 { lba = 3, blocks = 1 },
                            ("w"):rep(BLOCK))
    local last = overwrite "x"
    assert.equal(slow, dev:next_done())
    assert.is.good(slow.result)
    assert.is.good(dev:wait(last))
    assert.equal(("x"):rep(BLOCK), read(3).data)
  end)

  it("keeps the device at its size", function()
    open(FRAGILE)
    assert.is.good(dev:wait(overwrite("x", 1, { immed = true })))
    local status, why = dev:change("size", { size = 2 * SIZE })
    assert.equal(-22, status)
    assert.matches("SANITIZE", why)
    finish()
    assert.is.good(dev:cmd(make.test_unit_ready()))
  end)

  it("goes on when its command is aborted", function()
    open(FRAGILE)
    local handle = overwrite "x"
    dev:cmd(make.inquiry { length = 36 })
    dev:abort(handle)
    assert.has.status(dev:wait(handle), 0x40)
    assert.has.sense(dev:cmd(make.test_unit_ready()), SANITIZING)
    finish()
    assert.is.good(dev:cmd(make.test_unit_ready()))
    assert.equal(("x"):rep(BLOCK), read(5).data)
  end)

  it("that has failed is told until it is done again", function()
    open(FRAGILE)
    dev:cmd("\xC0\0\0\x20\0\0" .. ("\0"):rep(4))      -- bad from 2 MiB on
    assert.has.sense(dev:wait(overwrite "x"), scsi.SANITIZE_COMMAND_FAILED)
    assert.has.sense(dev:cmd(make.test_unit_ready()),
                     scsi.SANITIZE_COMMAND_FAILED)
    assert.has.sense(read(0), scsi.SANITIZE_COMMAND_FAILED)
    assert.has.sense(dev:cmd(make.sanitize_exit_failure_mode()),
                     scsi.INVALID_FIELD_IN_CDB, 1, 4)
    assert.has.sense(dev:wait(overwrite("x", 1, { ause = true })),
                     scsi.INVALID_FIELD_IN_CDB, 1, 5)
    assert.has.sense(dev:wait(overwrite "x"), scsi.SANITIZE_COMMAND_FAILED)
  end)

  it("that has failed can be left if that was allowed before", function()
    open(FRAGILE)
    dev:cmd("\xC0\0\0\x20\0\0" .. ("\0"):rep(4))      -- bad from 2 MiB on
    assert.has.sense(dev:wait(overwrite("\x0F", 0x80 | 2, { ause = true })),
                     scsi.SANITIZE_COMMAND_FAILED)
    assert.is.good(dev:cmd(make.sanitize_exit_failure_mode()))
    assert.is.good(dev:cmd(make.test_unit_ready()))
    -- The first of two passes with INVERT is the inversion.
    assert.equal(("\xF0"):rep(BLOCK), read(0).data)
  end)

  describe("that is remembered", function()
    local directory, options

    before_each(function()
      directory = os.tmpname()
      os.remove(directory)
      assert(os.execute("mkdir " .. directory))
      options = { name = "disk", state_dir = directory }
      open(FRAGILE, options)
    end)
    after_each(function() os.execute("rm -rf " .. directory) end)

    -- As a crash does it: the device is not told.
    local function restart()
      dev:close "remove"
      open(FRAGILE, options)
    end

    local function kept()
      local f = io.open(directory .. "/sim_disk")
      if not f then return nil end
      local text = f:read "a"
      f:close()
      return text
    end

    it("goes on after a restart where it was", function()
      local list = "\0\x8A\0\0" .. "\0\1\0\1" .. "z"
      assert.is.good(dev:cmd(make.format_unit { fmtdata = true }, list))
      dev:cmd(make.inquiry { length = 36 })
      restart()
      assert.has.sense(dev:cmd(make.test_unit_ready()), FORMATTING)
      finish()
      assert.is.good(dev:cmd(make.test_unit_ready()))
      assert.equal(("z"):rep(BLOCK), read(SIZE // BLOCK - 1).data)
      assert.is_nil(kept())
      restart()
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end)

    it("goes on from where its last note says", function()
      assert.is.good(dev:wait(overwrite("x", 1, { immed = true })))
      dev:close "remove"
      local at <const> = 3 << 20
      local f = assert(io.open(directory .. "/sim_disk", "r+"))
      local text = f:read("a"):gsub("operation_done=0", "operation_done=" .. at)
      f:seek "set"
      f:write(text)
      f:close()
      open(FRAGILE, options)
      finish()
      -- What was before the note is not done again: here it is empty.
      assert.equal(("\0"):rep(BLOCK), read(at // BLOCK - 1).data)
      assert.equal(("x"):rep(BLOCK), read(at // BLOCK).data)
    end)

    it("has failed after a restart too, until it is done again", function()
      dev:cmd("\xC0\0\0\x20\0\0" .. ("\0"):rep(4))      -- bad from 2 MiB on
      assert.has.sense(dev:wait(overwrite("x", 1, { ause = true })),
                       scsi.SANITIZE_COMMAND_FAILED)
      restart()
      assert.has.sense(read(0), scsi.SANITIZE_COMMAND_FAILED)
      assert.is.good(dev:cmd(make.sanitize_exit_failure_mode()))
      restart()
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end)

    it("does not begin where it cannot be remembered", function()
      assert.is.good(dev:cmd(make.write_10 { blocks = 1 }, ("w"):rep(BLOCK)))
      os.execute("rm -r " .. directory)
      for _, immed in ipairs { false, true } do
        assert.has.sense(dev:wait(overwrite("x", 1, { immed = immed })),
                         scsi.INTERNAL_TARGET_FAILURE)
      end
      assert.has.sense(dev:cmd(make.format_unit {}, ""),
                       scsi.INTERNAL_TARGET_FAILURE)
      assert.is.good(dev:cmd(make.test_unit_ready()))
      assert.equal(("w"):rep(BLOCK), read(0).data)
    end)

    it("does not end where it cannot be forgotten", function()
      assert.is.good(dev:wait(overwrite("x", 1, { immed = true })))
      -- A directory in its place: neither to be removed nor replaced.
      local at <const> = directory .. "/sim_disk"
      os.execute(("rm %s && mkdir -p %s/x"):format(at, at))
      finish()
      assert.has.sense(dev:cmd(make.write_10 { blocks = 1 }, ("y"):rep(BLOCK)),
                       scsi.SANITIZE_COMMAND_FAILED)
      os.execute("rm -r " .. at)
      assert.is.good(dev:wait(overwrite "z"))
      assert.is.good(dev:cmd(make.test_unit_ready()))
    end)

    it("keeps what is remembered at the same time", function()
      local function set(kind, text)
        return dev:submit(make.set_identifying_information {
          length = #text, information_type = kind }, text)
      end
      local all = { set(0, "shelf"), set(2, "floor\0"),
                    overwrite("x", 1, { immed = true }) }
      for _, command in ipairs(all) do assert.is.good(dev:wait(command)) end
      local text = kept()
      for _, name in ipairs { "identifying_0:", "identifying_2:",
                              "operation_done=" } do
        assert.matches(name, text, 1, true)
      end
    end)

    it("is looked up by a config of two lines too", function()
      dev:close()
      options.options = ("path=%s/a\nb;create=yes"):format(directory)
      open("handlers/file.lua", options)
      local command = make.set_identifying_information { length = 5 }
      assert.is.good(dev:cmd(command, "shelf"))
      dev:close "remove"
      open("handlers/file.lua", options)
      local r = dev:cmd(make.report_identifying_information { length = 64 })
      assert.equal("shelf", r.data:sub(5))
    end)

    it("keeps what else is remembered", function()
      local text <const> = "shelf 7"
      local command = make.set_identifying_information { length = #text }
      local first = overwrite("x", 1, { immed = true })
      assert.is.good(dev:wait(first))
      finish()
      assert.is.good(dev:cmd(command, text))
      assert.matches("identifying_0:" .. text:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end), kept())
      assert.is.good(dev:wait(overwrite "x"))
      restart()
      local r = dev:cmd(make.report_identifying_information { length = 64 })
      assert.equal(text, r.data:sub(5))
    end)
  end)
end)
