--- The numbered lessons: each does what its head says.

local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local MOST_LINES <const> = 60

local function lessons()
  local paths = {}
  local pipe <close> = assert(io.popen("ls examples/*.lua"))
  for path in pipe:lines() do paths[#paths + 1] = path end
  return paths
end

local function open(name, options)
  options = options or {}
  options.size = options.size or 1 << 20
  return assert(sim.device("examples/" .. name .. ".lua", options))
end

local function read(dev, lba, length)
  return dev:cmd(scsi.cdb.read_10 { lba = lba, length = length or 1 })
end

local function write(dev, lba, text)
  return dev:cmd(scsi.cdb.write_10 { lba = lba, length = 1 },
                 text .. ("\0"):rep(512 - #text))
end

local function ours(opcode, byte1, n)
  return string.pack(">BBI4BI2B", opcode, byte1 or 0, 0, 0, n or 0, 0)
end

describe("every lesson", function()
  it("has its number and its turn", function()
    for i, path in ipairs(lessons()) do
      assert.matches(("^examples/%02d%%-%%l+%%.lua$"):format(i), path)
    end
  end)

  it("is shorter than 60 lines, with a head that says what to try", function()
    for i, path in ipairs(lessons()) do
      local f <close> = assert(io.open(path))
      local text = f:read("a")
      local _, lines = text:gsub("\n", "")
      assert.is_true(lines < MOST_LINES, path)
      assert.matches(("^%%-%%-%%- Lesson %d: "):format(i), text)
      assert.matches("\n%-%- Try:    tcmu%-lua try " .. path:gsub("%p", "%%%0"),
                     text)
      assert.matches("\n%-%- Change: ", text)
    end
  end)

  it("has the name of its file, and opens twice on two shards", function()
    local a <const>, b <const> = os.tmpname(), os.tmpname()
    for _, path in ipairs(lessons()) do
      local host <close> = sim.host { shards = 2 }
      for i = 1, 2 do
        local options = path:find("mirror")
                        and ("a=%s%d;b=%s%d"):format(a, i, b, i) or nil
        local dev = assert(host:device(path, { size = 1 << 20,
                                               options = options }))
        assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
      end
      local f <close> = assert(io.open(path))
      assert.equal(path:match("/(.*)%.lua$"),
                   f:read("a"):match('\n  name = "([^"]*)"'))
    end
    for i = 1, 2 do
      os.remove(a .. i)
      os.remove(b .. i)
    end
    os.remove(a)
    os.remove(b)
  end)
end)

describe("lesson 1, hello", function()
  it("is a disk", function()
    local dev <close> = open "01-hello"
    assert.is.good(write(dev, 9, "first"))
    assert.equal("first\0", read(dev, 9).data:sub(1, 6))
  end)
end)

describe("lesson 2, name", function()
  it("says its name and how often it was asked", function()
    local dev <close> = open "02-name"
    for i = 1, 3 do
      local r = dev:cmd(scsi.cdb.inquiry { length = 96 })
      assert.equal("LUA     Lesson two      000" .. i, r.data:sub(9, 36))
    end
  end)

  it("leaves the pages alone", function()
    local dev <close> = open("02-name", { serial = "S-1" })
    local r = dev:cmd(scsi.cdb.inquiry { evpd = 1, page_code = 0x80,
                                         length = 96 })
    assert.equal("S-1", r.data:sub(5))
  end)
end)

describe("lesson 3, blocks", function()
  it("keeps blocks, and forgets what is unmapped", function()
    local dev <close> = open "03-blocks"
    write(dev, 1, "one")
    write(dev, 2, "two")
    local list = string.pack(">I2I2I4I8I4I4", 22, 16, 0, 1, 1, 0)
    assert.is.good(dev:cmd(scsi.cdb.unmap { parameter_list_length = #list },
                           list))
    local data = read(dev, 1, 2).data
    assert.equal(("\0"):rep(512) .. "two\0", data:sub(1, 516))
  end)
end)

describe("lesson 4, options", function()
  it("makes each block when it is read", function()
    local dev <close> = open("04-options", { options = "text=block;digits=3" })
    assert.equal("block 007\n", read(dev, 7).data:sub(1, 10))
  end)

  it("is write protected", function()
    local dev <close> = open "04-options"
    assert.has.sense(write(dev, 0, "x"), scsi.WRITE_PROTECTED)
  end)

  it("refuses options that cannot be, in one sentence", function()
    local dev, why = sim.device("examples/04-options.lua",
                                { options = "digits=99" })
    assert.is_nil(dev)
    assert.equal("digits=99: choose 1 to 20", why)
  end)
end)

describe("lesson 5, sense", function()
  it("fails reads of its bad block, and says which it was", function()
    local dev <close> = open("05-sense", { options = "bad=5" })
    assert.is.good(read(dev, 4))
    local r = read(dev, 0, 10)
    assert.has.sense(r, scsi.UNRECOVERED_READ_ERROR)
    assert.equal(5, r.sense.information)
  end)

  it("heals the block when it is written", function()
    local dev <close> = open("05-sense", { options = "bad=5" })
    assert.is.good(write(dev, 5, "healed"))
    assert.equal("healed", read(dev, 5).data:sub(1, 6))
  end)
end)

describe("lesson 6, waiting", function()
  it("takes its time for each command, for many at once", function()
    local dev <close> = open("06-waiting", { options = "seek=20" })
    local before = dev:now()
    local slow = {}
    for i = 1, 10 do
      slow[i] = dev:submit(scsi.cdb.read_10 { lba = i, length = 1 })
    end
    local quick = dev:submit(scsi.cdb.test_unit_ready())
    assert.equal(quick, dev:next_done())
    for i = 1, 10 do assert.is.good(dev:wait(slow[i])) end
    assert.equal(20, math.floor((dev:now() - before) * 1000 + 0.5))
  end)
end)

describe("lesson 7, vendor", function()
  it("keeps notes by number", function()
    local dev <close> = open "07-vendor"
    assert.is.good(dev:cmd(ours(0xC0, 7), "buy milk"))
    assert.equal("buy milk", dev:cmd(ours(0xC1, 7)).data)
  end)

  it("points to the byte with the wrong number", function()
    local dev <close> = open "07-vendor"
    assert.has.sense(dev:cmd(ours(0xC1, 100)), scsi.INVALID_FIELD_IN_CDB, 1)
    assert.has.sense(dev:cmd(ours(0xC0), ("x"):rep(513)),
                     scsi.PARAMETER_LIST_LENGTH_ERROR)
  end)

  it("has switched a command off", function()
    local dev <close> = open "07-vendor"
    assert.has.sense(dev:cmd(scsi.cdb.write_same_10 { length = 1 },
                             ("\0"):rep(512)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)

describe("lesson 8, attention", function()
  it("turns over, and says so once", function()
    local dev <close> = open "08-attention"
    write(dev, 0, "side A")
    assert.is.good(dev:cmd(ours(0xC0)))
    assert.is.good(dev:cmd(scsi.cdb.inquiry { length = 36 }))
    assert.has.sense(read(dev, 0),
                     scsi.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED)
    assert.equal(("\0"):rep(512), read(dev, 0).data)
    dev:cmd(ours(0xC0))
    read(dev, 0)
    assert.equal("side A", read(dev, 0).data:sub(1, 6))
  end)
end)

describe("lesson 9, mirror", function()
  local a, b

  before_each(function()
    a, b = os.tmpname(), os.tmpname()
    os.remove(a)
    os.remove(b)
  end)
  after_each(function()
    os.remove(a)
    os.remove(b)
  end)

  local function mirror()
    return open("09-mirror", { options = ("a=%s;b=%s"):format(a, b) })
  end

  local function content(path)
    local f <close> = assert(io.open(path, "rb"))
    return f:read("a")
  end

  it("writes both files", function()
    local dev = mirror()
    assert.is.good(write(dev, 3, "twice"))
    assert.is.good(dev:cmd(scsi.cdb.synchronize_cache_10()))
    dev:close()
    assert.equal("twice", content(a):sub(1537, 1541))
    assert.is_true(content(a) == content(b))
  end)

  it("reads the second file where the first one fails", function()
    local dev <close> = mirror()
    write(dev, 0, "still here")
    assert(os.execute("truncate -s 0 " .. a))
    assert.equal("still here", read(dev, 0).data:sub(1, 10))
  end)
end)

describe("lesson 10, outside", function()
  it("shows a file as it is at every read", function()
    local path = os.tmpname()
    local function put(text)
      local f <close> = assert(io.open(path, "wb"))
      f:write(text)
    end
    put "now"
    local dev <close> = open("10-outside", { options = "path=" .. path })
    assert.equal("now" .. ("\0"):rep(509), read(dev, 0).data)
    put(("x"):rep(512) .. "then")
    assert.equal("then\0", read(dev, 1).data:sub(1, 5))
    os.remove(path)
  end)

  it("takes no more memory for a block far behind the text", function()
    local dev <close> = open("10-outside", { size = 1 << 40 })
    assert.equal(("\0"):rep(512), read(dev, (1 << 31) - 1).data)
  end)

  it("closes the file of a read that is aborted while it is opened", function()
    local path = os.tmpname()
    os.remove(path)
    assert(os.execute("mkfifo " .. path))
    finally(function() os.remove(path) end)
    local dev <close> = open("10-outside", { options = "path=" .. path })
    local slow = dev:submit(scsi.cdb.read_10 { lba = 0, length = 1 })
    for _ = 1, 3 do read(dev, 0, 0) end
    dev:abort(slow)
    local _ <close> = assert(io.open(path, "r+"))
    assert.has.status(dev:wait(slow), 0x40)
    local left <close> = io.popen("ls -l /proc/$PPID/fd | grep -c " .. path)
    assert.equal("1", left:read())          -- ours
  end)
end)

describe("lesson 11, oracle", function()
  it("is no disk and answers what it was asked", function()
    local dev <close> = open "11-oracle"
    assert.equal(0x03, dev:cmd(scsi.cdb.inquiry { length = 36 }).data:byte(1))
    assert.has.sense(read(dev, 0), scsi.INVALID_COMMAND_OPERATION_CODE)
    assert.has.status(dev:cmd(ours(0xD1, 0, 64)), 0x08)
    assert.is.good(dev:cmd(ours(0xD0), "Will it rain?"))
    assert.equal("No.", dev:cmd(ours(0xD1, 0, 64)).data)
    dev:cmd(ours(0xD0), "Will it rain?")
    assert.equal("N", dev:cmd(ours(0xD1, 0, 1)).data)
  end)
end)

describe("lesson 12, upgrade", function()
  -- Opens a copy of the lesson, which its reader may edit.
  local function lesson()
    local path <const> = os.tmpname()
    local source
    do
      local f <close> = assert(io.open "examples/12-upgrade.lua")
      source = f:read("a")
    end
    local function put(page)
      local text, found = source:gsub("(PAGE <const> = )4096", "%1" .. page)
      assert(found == 1)
      local f <close> = assert(io.open(path, "w"))
      f:write(text)
    end
    put(4096)
    finally(function() os.remove(path) end)
    return assert(sim.device(path, { size = 1 << 20 })), put
  end

  it("keeps what was written when its pages change their length", function()
    local dev <close>, put = lesson()
    for lba = 0, 99, 3 do write(dev, lba, "block " .. lba) end
    for _, page in ipairs { 8192, 1024, 65536, 4096 } do
      put(page)
      assert.is_true(dev:reload())
      for lba = 0, 99, 3 do
        local text <const> = "block " .. lba
        assert.equal(text, read(dev, lba).data:sub(1, #text))
      end
    end
  end)
end)
