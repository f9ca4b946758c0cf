--- POPULATE TOKEN, WRITE USING TOKEN and RECEIVE ROD TOKEN INFORMATION.
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const> = 512
local numbered <const> = lists.numbered
local UNKNOWN <const> = scsi.INVALID_TOKEN_OPERATION_TOKEN_UNKNOWN
local REVOKED <const> = scsi.INVALID_TOKEN_OPERATION_TOKEN_REVOKED
local EXPIRED <const> = scsi.INVALID_TOKEN_OPERATION_TOKEN_EXPIRED
local ZEROES <const> = string.pack(">I4xxI2c504", 0xFFFF0001, 504,
                                   ("\0"):rep(504))

describe("a ROD token", function()
  local host, a, b

  local function start(shards, options)
    host = sim.host { shards = shards }
    local function add(path, more)
      local all = { size = 8 << 20, serial = "00112233" }
      for key, value in pairs(more or {}) do all[key] = value end
      return assert(host:device(path, all))
    end
    a = add(options and options.source or "handlers/ram.lua")
    b = add("handlers/ram.lua")
    return add
  end
  before_each(function() start(2) end)
  after_each(function() host:close() end)

  local function ranges(...)
    local out = {}
    for i, range in ipairs { ... } do
      out[i] = string.pack(">I8I4xxxx", range[1], range[2])
    end
    return table.concat(out)
  end

  local function populate(dev, list, more)
    more = more or {}
    local flags = (more.immed and 1 or 0) | (more.kind and 2 or 0)
    local body = string.pack(">BxI4I4xxs2", flags, more.seconds or 0,
                             more.kind or 0, list)
    local text = string.pack(">s2", body)
    return dev:cmd(make.populate_token { list_identifier = more.id or 1,
                                         length = #text }, text)
  end

  local function information(dev, id)
    local r = dev:cmd(make.receive_rod_token_information {
      list_identifier = id or 1, length = 1024 })
    if r.status ~= 0 then return r end
    local sense = r.data:byte(14)
    return { status = 0, action = r.data:byte(5), state = r.data:byte(6),
             unit = r.data:byte(16),
             count = string.unpack(">I8", r.data, 17),
             segments = string.unpack(">I2", r.data, 25),
             available = string.unpack(">I4", r.data), length = #r.data,
             token = r.data:sub(33 + sense + 4 + 2) }
  end

  -- The state and, of the sense data in descriptor format, key and code.
  local function reason(dev, id)
    local r = dev:cmd(make.receive_rod_token_information {
      list_identifier = id, length = 1024 })
    return { r.data:byte(6), r.data:byte(34, 36) }
  end

  local function use(dev, token, list, more)
    more = more or {}
    local body = string.pack(">BxxxxxI8c512xxxxxxs2", more.flags or 0,
                             more.offset or 0, token, list)
    local text = string.pack(">s2", body)
    return dev:cmd(make.write_using_token { list_identifier = more.id or 2,
                                            length = #text }, text)
  end

  local function write(dev, lba, data)
    assert.is.good(dev:cmd(make.write_16 { lba = lba, blocks = #data // BLOCK },
                           data))
  end

  local function read(dev, lba, n)
    return dev:cmd(make.read_16 { lba = lba, blocks = n }).data
  end

  -- A token for these blocks of a.
  local function token_for(...)
    assert.is.good(populate(a, ranges(...)))
    return information(a).token
  end

  it("stands for blocks, here and on other devices, without being asked for "
     .. "the operator's word", function()
    for shards = 1, 2 do
      for _, source in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
        host:close()
        start(shards, { source = source })
        local data = numbered(3000)
        write(a, 10, data:sub(1, 1500 * BLOCK))
        write(a, 5000, data:sub(1500 * BLOCK + 1))
        assert.is.good(populate(a, ranges({ 10, 1500 }, { 5000, 1500 })))
        local told = information(a)
        assert.same({ 0x10, 1, 0xF1, 3000, 0, 512, told.length - 4 },
                    { told.action, told.state, told.unit, told.count,
                      told.segments, #told.token, told.available })
        assert.equal(3000 * BLOCK, (string.unpack(">I8", told.token, 57)))

        assert.is.good(use(b, told.token, ranges({ 7, 100 }, { 200, 1800 })))
        assert.is_true(data:sub(1, 1900 * BLOCK)
                       == read(b, 7, 100) .. read(b, 200, 1800))
        assert.is.good(use(b, told.token, ranges({ 0, 10 }), { offset = 1495 }))
        assert.equal(data:sub(1495 * BLOCK + 1, 1505 * BLOCK), read(b, 0, 10))
        assert.is.good(use(a, told.token, ranges({ 9000, 1600 })))
        assert.is_true(data:sub(1, 1600 * BLOCK) == read(a, 9000, 1600))
        local r = information(a, 2)
        assert.same({ 0x11, 1, 1600 }, { r.action, r.state, r.count })
      end
    end
  end)

  it("is revoked by whatever changes its blocks, and only by that", function()
    local data <const> = ("x"):rep(BLOCK)
    for name, change in pairs {
      write = function() write(a, 19, data) end,
      same = function()
        assert.is.good(a:cmd(make.write_same_16 { lba = 0, blocks = 11 }, data))
      end,
      unmap = function()
        assert.is.good(a:cmd(make.unmap { length = 40 },
          string.pack(">I2I2xxxxI8I4xxxxI8I4xxxx", 38, 32, 12, 1, 500, 1)))
      end,
      one = function()
        assert.is.good(a:cmd(make.unmap { length = 24 },
          string.pack(">I2I2xxxxI8I4xxxx", 22, 16, 12, 1)))
      end,
      compare = function()
        a:cmd(make.compare_and_write { lba = 15, blocks = 1 },
              read(a, 15, 1) .. data)
      end,
      format = function() a:cmd(make.format_unit {}) end,
      token = function()
        assert.is.good(use(a, ZEROES, ranges({ 15, 1 })))
      end,
      copy = function()
        write(b, 0, data)
        assert.is.good(populate(b, ranges({ 0, 1 }), { id = 9 }))
        assert.is.good(use(a, information(b, 9).token, ranges({ 15, 1 })))
      end,
      smaller = function()
        assert.equal(0, a:change("size", { size = 4 << 20, force = true }))
        a:cmd(make.test_unit_ready())
        assert.equal(0, a:change("size", { size = 8 << 20 }))
        a:cmd(make.test_unit_ready())
      end,
    } do
      local token = token_for({ 10, 10 })
      write(a, 20, data)
      write(a, 9, data)
      assert.is.good(a:cmd(make.unmap { length = 40 },
        string.pack(">I2I2xxxxI8I4xxxxI8I4xxxx", 38, 32, 20, 8, 0, 10)))
      assert.is.good(use(b, token, ranges({ 0, 10 })), name)
      change()
      assert.has.sense(use(b, token, ranges({ 0, 10 })), REVOKED)
    end
  end)

  it("outlives the load of a medium that is there", function()
    host:close()
    start(1, { source = [[=removable
      local tcmu = require "tcmu"
      return tcmu.handler { name = "removable",
        options = { removable = tcmu.option.boolean { "it is",
                                                      default = true } },
        open = function(dev)
          return { store = tcmu.store.memory(dev.size) }
        end }]] })
    local token = token_for({ 10, 10 })
    assert.is.good(a:cmd(make.start_stop_unit { loej = true, start = true }))
    assert.is.good(use(b, token, ranges({ 0, 10 })))
  end)

  it("is revoked by writes that Lua serves, and by Lua's own", function()
    host:close()
    start(2, { source = "handlers/ramdisk.lua" })
    local token = token_for({ 10, 10 })
    assert.is.good(use(b, token, ranges({ 0, 10 })))
    write(a, 12, ("x"):rep(BLOCK))
    assert.has.sense(use(b, token, ranges({ 0, 10 })), REVOKED)
    assert.equal(("\0"):rep(BLOCK), read(b, 2, 1))
  end)

  it("waits for the write that is under way when it is made", function()
    host:close()
    start(2, { source = [[=slow
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "slow",
        open = function(dev) return { all = tcmu.buffer(dev.size) } end,
        read = function(self, cmd, offset, length)
          cmd.data:copy(0, self.all, offset, length)
        end,
        write = function(self, cmd, offset, length)
          self.all:copy(offset, cmd.data, 0, length // 2)
          tcmu.sleep(1000)
          self.all:copy(offset, cmd.data)
        end,
      }]] })
    local data <const> = numbered(2)
    local slow = a:submit(make.write_16 { lba = 10, blocks = 2 }, data)
    a.shard:turn(false)
    local token = token_for({ 10, 2 })
    assert.is.good(use(b, token, ranges({ 0, 2 })))
    assert.equal(data, read(b, 0, 2))
    assert.is.good(a:wait(slow))
  end)

  it("passes on nothing that was written while it was read", function()
    host:close()
    start(2, { source = [[=slow
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "slow",
        open = function(dev) return { all = tcmu.buffer(dev.size) } end,
        read = function(self, cmd, offset, length)
          tcmu.sleep(1000)
          cmd.data:copy(0, self.all, offset, length)
        end,
        write = function(self, cmd, offset)
          self.all:copy(offset, cmd.data)
        end,
      }]] })
    local token = token_for({ 10, 2 })
    local body = string.pack(">BxxxxxI8c512xxxxxxs2", 0, 0, token,
                             ranges({ 0, 2 }))
    local text = string.pack(">s2", body)
    local running = b:submit(make.write_using_token {
      list_identifier = 2, length = #text }, text)
    for _ = 1, 20 do
      a.shard:turn(false)
      b.shard:turn(false)
    end
    write(a, 11, ("x"):rep(BLOCK))
    assert.has.sense(b:wait(running), REVOKED)
    assert.equal(("\0"):rep(2 * BLOCK), read(b, 0, 2))
    assert.equal(2, information(b, 2).state)
  end)

  it("expires when nobody uses it, is deleted when asked, and dies with its "
     .. "device", function()
    assert.is.good(populate(a, ranges({ 0, 1 }), { seconds = 10 }))
    local token = information(a).token
    assert.is.good(use(b, token, ranges({ 0, 1 })))
    host.shards[1]:advance(60 * 1000000000)
    b:run(function() return false end)
    assert.has.sense(use(b, token, ranges({ 0, 1 })), EXPIRED)

    token = token_for({ 0, 1 })
    assert.is.good(use(b, token, ranges({ 0, 1 }), { flags = 2 }))
    assert.has.sense(use(b, token, ranges({ 0, 1 })),
                     scsi.INVALID_TOKEN_OPERATION_TOKEN_DELETED)

    token = token_for({ 0, 1 })
    a:close()
    assert.has.sense(use(b, token, ranges({ 0, 1 })), UNKNOWN)
  end)

  it("cannot be guessed or changed", function()
    local token = token_for({ 0, 4 })
    for _, at in ipairs { 9, 57, 461, 473, 500, 512 } do
      local forged = token:sub(1, at - 1)
                     .. string.char(token:byte(at) ~ 1) .. token:sub(at + 1)
      assert.has.sense(use(b, forged, ranges({ 0, 1 })), UNKNOWN)
    end
    assert.has.sense(use(b, token:sub(1, 460) .. ("\xFF"):rep(52),
                         ranges({ 0, 1 })), UNKNOWN)
    assert.has.sense(use(b, "\0\1\0\0" .. token:sub(5), ranges({ 0, 1 })),
                     scsi.INVALID_TOKEN_OPERATION_UNSUPPORTED_TOKEN_TYPE)
    assert.has.sense(use(b, ("\0"):rep(512), ranges({ 0, 1 })),
                     scsi.INVALID_TOKEN_OPERATION_INVALID_TOKEN_LENGTH)
    local other = token_for({ 0, 4 })
    assert.not_equal(token:sub(473), other:sub(473))
  end)

  it("of zeroes writes zeroes", function()
    write(b, 0, numbered(20))
    assert.is.good(use(b, ZEROES, ranges({ 1, 3 }, { 10, 5 })))
    assert.equal(numbered(1) .. ("\0"):rep(3 * BLOCK), read(b, 0, 4))
    assert.equal(("\0"):rep(5 * BLOCK) .. numbered(1, BLOCK, 15),
                 read(b, 10, 6))
  end)

  it("goes on in the background if asked to", function()
    write(a, 0, numbered(100))
    assert.is.good(populate(a, ranges({ 0, 100 }), { immed = true }))
    b:run(function() return information(a).state == 1 end)
    local token = information(a).token
    assert.equal(512, #token)
    assert.is.good(use(b, token, ranges({ 5, 100 }), { flags = 1 }))
    b:run(function() return information(b, 2).state == 1 end)
    assert.equal(numbered(100), read(b, 5, 100))
  end)

  it("says why its own device could not be written, in the background too",
     function()
    host:close()
    start(1, { source = [[=short
      local tcmu = require "tcmu"
      return tcmu.handler {
        name = "short",
        open = function() return { disk = tcmu.store.memory(1 << 20) } end,
        read = function(self, cmd, offset)
          self.disk:read(cmd.data, offset)
        end,
        write = function(self, cmd, offset)
          if offset >= 2 << 20 then error "a bug" end
          self.disk:write(cmd.data, offset)
        end,
      }]] })
    local token <const> = token_for { 0, 8 }
    for lba, value in pairs { [3000] = scsi.LOGICAL_UNIT_COMMUNICATION_FAILURE,
                              [5000] = scsi.INTERNAL_TARGET_FAILURE } do
      assert.has.sense(use(a, token, ranges { lba, 8 }), value)
      assert.same({ 2, value.key, value.asc, value.ascq }, reason(a, 2))
      assert.is.good(use(a, token, ranges { lba, 8 }, { id = 3, flags = 1 }))
      for _ = 1, 10 do a:cmd(make.test_unit_ready {}) end
      assert.same({ 2, value.key, value.asc, value.ascq }, reason(a, 3))
    end
  end)

  it("is made of what the device allows, no more", function()
    local function refused(list, byte, more)
      local r = populate(a, list, more)
      assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
      assert.equal(byte, r.sense.pointer.byte)
    end
    refused(ranges({ 0, 10 }, { 9, 1 }), 32)
    refused(ranges({ 0, 0 }), 14)
    refused("", 0)
    refused(ranges({ 0, 1 }), 4, { seconds = 601 })
    refused(ranges({ 0, 1 }), 8, { kind = 0x00010000 })
    refused(ranges({ 0, 1 }), 8, { kind = 0x00800002 })
    for _, kind in ipairs { 0x00800000, 0x00800001, 0x0080FFFF } do
      assert.is.good(populate(a, ranges({ 0, 1 }), { kind = kind }))
    end
    assert.has.sense(populate(a, ranges({ 8 << 11, 1 })),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    local many = {}
    for i = 1, 33 do many[i] = { i, 1 } end
    assert.has.sense(populate(a, ranges(table.unpack(many))),
                     scsi.TOO_MANY_SEGMENT_DESCRIPTORS)
    local text <const> = string.pack(">s2", string.pack(">BxI4I4xxs2", 0, 0, 0,
                                                        ranges({ 0, 1 })))
    for n = 1, #text - 1 do
      assert.not_equal(0, a:cmd(make.populate_token {
        list_identifier = 1, length = n }, text:sub(1, n)).status)
    end
    for _ = 1, 70 do populate(a, ranges({ 0, 1 })) end
    assert.has.sense(populate(a, ranges({ 0, 1 })),
                     scsi.INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN)
    write(a, 0, ("x"):rep(BLOCK))
    assert.is.good(populate(a, ranges({ 0, 1 })))
  end)

  it("ignores a descriptor that is not whole", function()
    write(a, 0, numbered(4))
    local function made_of(length, text)
      local list = string.pack(">I2BxI4I4xxI2", 14 + #text, 0, 0, 0, length)
                   .. text
      assert.is.good(a:cmd(make.populate_token {
        list_identifier = 1, length = #list }, list))
      return information(a).count
    end
    local two = ranges({ 0, 1 }, { 1, 3 })
    assert.equal(4, made_of(#two, two))
    assert.equal(1, made_of(31, two))
    assert.equal(1, made_of(32, two:sub(1, 31)))
    -- What a cut list leaves unwritten nobody would miss, so it is refused.
    local token = information(a).token
    for length, why in pairs {
      [32] = scsi.PARAMETER_LIST_LENGTH_ERROR,
      [31] = scsi.INVALID_FIELD_IN_PARAMETER_LIST,
    } do
      local list = string.pack(">I2xxxxxxI8c512xxxxxxI2", 534 + length, 0,
                               token, 32) .. two:sub(1, 31)
      assert.has.sense(b:cmd(make.write_using_token {
        list_identifier = 2, length = #list }, list), why)
    end
  end)

  it("does no harm to another of the same blocks", function()
    write(a, 0, numbered(4))
    local one, other = token_for({ 0, 4 }), token_for({ 2, 4 })
    assert.is.good(use(b, one, ranges({ 0, 4 })))
    assert.is.good(use(b, other, ranges({ 4, 2 })))
    assert.equal(numbered(4) .. numbered(2, BLOCK, 2), read(b, 0, 6))
  end)

  it("gives what it has where more is asked for, and says so", function()
    write(a, 0, numbered(4))
    local token = token_for({ 0, 4 })
    write(b, 0, ("b"):rep(7 * BLOCK))
    -- SBC-3 5.48.2: no error, but the amount and "partial ROD token usage".
    assert.is.good(use(b, token, ranges({ 0, 3 }, { 4, 2 }, { 6, 1 })))
    assert.equal(numbered(3) .. ("b"):rep(BLOCK) .. numbered(1, BLOCK, 3)
                 .. ("b"):rep(2 * BLOCK), read(b, 0, 7))
    local told = information(b, 2)
    assert.same({ 3, 4 }, { told.state, told.count })
    local r = use(b, token, ranges({ 0, 1 }), { offset = 4 })
    assert.has.sense(r, scsi.INVALID_FIELD_IN_PARAMETER_LIST)
    assert.equal(8, r.sense.pointer.byte)
  end)

  it("is told of by its own list identifier only", function()
    token_for({ 0, 1 })
    assert.has.sense(a:cmd(make.receive_rod_token_information {
      list_identifier = 77, length = 1024 }), scsi.INVALID_FIELD_IN_CDB, 2)
  end)

  it("is not told of once a refused command has had its list identifier",
     function()
    local token <const> = token_for { 0, 1 }
    assert.is.good(use(b, token, ranges { 1, 1 }))
    assert.equal(1, information(b, 2).state)
    write(a, 0, numbered(1))
    assert.has.sense(use(b, token, ranges { 1, 1 }), REVOKED)
    assert.has.sense(information(b, 2), scsi.INVALID_FIELD_IN_CDB, 2)
  end)
end)
