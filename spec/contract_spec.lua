--- The handler contract: what a handler's table may say, and what becomes of
--- what its functions return and raise.
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local BLOCK <const> = 512

local function handler(fields, name)
  return ("=h\nlocal tcmu = require 'tcmu'\nlocal scsi = require 'tcmu.scsi'\n"
          .. "log = {}\nreturn tcmu.handler { name = %q, %s }")
         :format(name or "h", fields)
end

local STORE <const> =
  "open = function(dev) return { store = tcmu.store.memory(dev.size) } end,"

local function device(fields, options)
  return assert(sim.device(handler(fields), options))
end

local function refusal(fields, name)
  local dev, why = sim.device(handler(fields, name))
  if dev then dev:close() end
  assert.is_nil(dev)
  assert.is_nil(why:find("traceback", 1, true), why)
  return why
end

local function vendor(opcode, n)
  return string.char(opcode, n or 0) .. ("\0"):rep(8)
end

local function write(lba, blocks, byte)
  return scsi.cdb.write_10 { lba = lba, length = blocks },
         byte:rep(blocks * BLOCK)
end

local function read(lba, blocks)
  return scsi.cdb.read_10 { lba = lba, length = blocks }
end

describe("a handler's table", function()
  it("with an unknown key is refused with the nearest known one", function()
    assert.matches("unknown key 'raed', did you mean 'read'",
                   refusal "raed = function() end")
    assert.matches("unknown key 'opne', did you mean 'open'",
                   refusal "opne = function() end")
    assert.matches("unknown key 'zzzzzz'", refusal "zzzzzz = 1")
  end)

  it("with a value of the wrong type is refused", function()
    assert.matches("'open' must be a function, not a table",
                   refusal "open = {}")
    assert.matches("'about' must be a string", refusal "about = 42")
    assert.matches("'version' must be a string", refusal "version = 2")
    assert.matches("'upgrade' must be a function", refusal "upgrade = '2'")
    assert.matches("'on' must be a table", refusal "on = print")
  end)

  it("needs a name of letters, digits, '_' and '-'", function()
    for _, name in ipairs { "", "a b", "a/b", "a;b", "a\nb" } do
      assert.matches("'name'", refusal(STORE, name))
    end
  end)

  it("with an opcode that is none is refused", function()
    for _, key in ipairs { "256", "-1", "1.5", "'x'" } do
      assert.matches("is no opcode", refusal(
        "on = { [" .. key .. "] = function() end }"))
    end
  end)

  it("with an answer that is neither function, table nor false is refused",
     function()
    assert.matches("on%[0xC1%] must be a function",
                   refusal "on = { [0xC1] = 'text' }")
    assert.matches("on%[0x9E%]%[16%] must be a function",
                   refusal "on = { [0x9E] = { [16] = 'text' } }")
  end)

  it("with an inquiry text that does not fit is refused", function()
    assert.matches("inquiry.vendor is a string of up to 8",
                   refusal "inquiry = { vendor = 'nine bytes' }")
    assert.matches("inquiry has no 'vendr', did you mean 'vendor'",
                   refusal "inquiry = { vendr = 'x' }")
  end)

  it("with write and without read is refused", function()
    assert.matches("'write' without 'read'", refusal "write = function() end")
  end)

  it("with an option that was not declared is refused", function()
    assert.matches("option 'path' must be declared",
                   refusal "options = { path = 'x' }")
  end)

  it("is what the file returns", function()
    for _, source in ipairs { "=x\n", "=x\nreturn {}", "=x\nreturn 1" } do
      local dev, why = sim.device(source)
      assert.is_nil(dev)
      assert.matches("x does not return a handler", why)
    end
  end)

  it("that does not compile is refused with the line", function()
    local dev, why = sim.device "=x\nlocal a = \nreturn nil"
    assert.is_nil(dev)
    assert.matches("^x:2: ", why)
  end)

  it("in a file that is not there is refused with its name", function()
    local dev, why = sim.device "/nowhere/h.lua"
    assert.is_nil(dev)
    assert.matches("/nowhere/h.lua", why)
  end)
end)

describe("open", function()
  it("may be absent: then the handler has no self", function()
    local dev <close> = device [[on = {
      [0xC1] = function(self) return tostring(self) end }]]
    assert.equal("nil", dev:cmd(vendor(0xC1)).data)
  end)

  it("gets the device: its names, size and options", function()
    local dev <close> = device([[
      options = { word = tcmu.option.string "a word" },
      open = function(dev)
        return { ("%s %s %d %d %s"):format(dev.name, dev.options.word,
                   dev.size, dev.block_size, dev.wwn.serial) }
      end,
      on = { [0xC1] = function(self) return self[1] end }]],
      { name = "disk7", options = "word=hello", size = 1 << 20,
        block_size = 4096, serial = "S1" })
    assert.equal("disk7 hello 1048576 4096 S1", dev:cmd(vendor(0xC1)).data)
  end)

  it("that returns a store does not go with read, write, unmap or flush",
     function()
    for _, key in ipairs { "read", "unmap", "flush" } do
      assert.matches("'" .. key .. "' would never be called",
                     refusal(STORE .. key .. " = function() end"))
    end
  end)

  it("is not reached by options that are wrong", function()
    local dev, why = sim.device(handler [[
      options = { n = tcmu.option.integer "a number" },
      open = function() error "reached" end]], { options = "n=many" })
    assert.is_nil(dev)
    assert.equal("option 'n': 'many' is not an integer", why)
  end)

  it("is not reached by what check refuses", function()
    local dev, why = sim.device(handler [[
      options = { n = tcmu.option.integer "a number" },
      check = function(options) assert(options.n > 0, "n is positive") end,
      open = function() error "reached" end]], { options = "n=0" })
    assert.is_nil(dev)
    assert.matches("n is positive", why)
  end)
end)

describe("read", function()
  it("fills the data that it is asked for", function()
    local dev <close> = device [[
      read = function(_, cmd, offset, length)
        cmd.data:put(0, ("%d+%d"):format(offset, length))
        assert(length == #cmd.data)
      end]]
    local r = dev:cmd(read(5, 3))
    assert.is.good(r)
    assert.equal("2560+1536", r.data:match("^[^\0]+"))
    assert.equal(3 * BLOCK, #r.data)
  end)

  it("may return a string or a buffer instead", function()
    for _, reply in ipairs { "('r'):rep(length)",
      "(function() local b = tcmu.buffer(length) b:fill(114) return b end)()",
      "(function() cmd.data:fill(114) return cmd.data end)()" } do
      local dev <close> = device("read = function(_, cmd, offset, length) "
                                 .. "return " .. reply .. " end")
      for _, cdb in ipairs { read(0, 2),
                             scsi.cdb.read_10 { lba = 0, length = 2, dpo = 1 } } do
        local r = dev:cmd(cdb)
        assert.is.good(r)
        assert.is_true(r.data == ("r"):rep(2 * BLOCK))
      end
    end
  end)

  it("gives zeroes where it writes nothing", function()
    local dev <close> = device "read = function() end"
    assert.is_true(dev:cmd(read(0, 2)).data == ("\0"):rep(2 * BLOCK))
  end)

  it("that returns too little is a bug, not a short disk", function()
    local dev <close> = device "read = function() return 'short' end"
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INTERNAL_TARGET_FAILURE)
    local slow <close> = assert(sim.device(
      handler "read = function() return 'short' end", { no_fast_path = true }))
    assert.has.sense(slow:cmd(read(0, 1)), scsi.INTERNAL_TARGET_FAILURE)
  end)

  it("is not asked for blocks beyond the end, or for none", function()
    local dev <close> = device([[
      read = function() error "asked" end]], { size = 1 << 20 })
    assert.has.sense(dev:cmd(read(2048, 1)),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    assert.has.sense(dev:cmd(read(2047, 2)),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
    assert.is.good(dev:cmd(read(0, 0)))
  end)

  it("reports an I/O error as a medium error", function()
    local dev <close> = device [[
      open = function()
        return { s = tcmu.store.memory(1 << 20) } end,
      read = function(self, cmd) self.s:read(cmd.data, 1 << 20) end]]
    local r = dev:cmd(read(0, 1))
    assert.equal(0x02, r.status)
    assert.is_not_nil(r.sense)
    assert.is_not.equal(0x04, r.sense.key)
  end)
end)

describe("write", function()
  it("gets the data, and its result does not matter", function()
    local dev <close> = device [[
      open = function() return {} end,
      read = function(self, cmd) return self.data end,
      write = function(self, cmd, offset, length)
        self.data = cmd.data:get(0, length)
      end]]
    assert.is.good(dev:cmd(write(0, 2, "w")))
    assert.is_true(dev:cmd(read(0, 2)).data == ("w"):rep(2 * BLOCK))
  end)

  it("that is missing makes the disk read-only", function()
    local dev <close> = device "read = function() end"
    assert.has.sense(dev:cmd(write(0, 1, "x")), scsi.WRITE_PROTECTED)
  end)

  it("is not reached on a device that is read-only", function()
    local dev <close> = device([[read = function() end,
      write = function() error "reached" end]], { read_only = true })
    assert.has.sense(dev:cmd(write(0, 1, "x")), scsi.WRITE_PROTECTED)
  end)

  it("sees the pattern of WRITE SAME as ordinary data", function()
    local dev <close> = device [[
      open = function() return { n = 0, bytes = 0 } end,
      read = function() end,
      write = function(self, cmd, offset, length)
        assert(#cmd.data == length)
        assert(not cmd.data:get(0, length):find("[^p]"))
        assert(cmd.opcode == 0x41)
        self.bytes = self.bytes + length
      end,
      on = { [0xC1] = function(self) return tostring(self.bytes) end }]]
    assert.is.good(dev:cmd(scsi.cdb.write_same_10 { lba = 0, length = 3000 },
                           ("p"):rep(BLOCK)))
    assert.equal(tostring(3000 * BLOCK), dev:cmd(vendor(0xC1)).data)
  end)
end)

describe("flush", function()
  local FLUSHING <const> = [[
    read = function() log[#log + 1] = "r" end,
    write = function() log[#log + 1] = "w" end,
    flush = function(_, cmd, offset, length)
      log[#log + 1] = ("f%d+%d"):format(offset, length)
    end,
    on = { [0xC1] = function() return table.concat(log, " ") .. "." end }]]

  local function told(dev) return dev:cmd(vendor(0xC1)).data end

  it("follows every write while there is no write cache", function()
    local dev <close> = device(FLUSHING, { write_cache = false })
    dev:cmd(write(1, 2, "x"))
    assert.equal("w f512+1024.", told(dev))
  end)

  it("follows a write with FUA, and precedes a read with FUA", function()
    local dev <close> = device(FLUSHING)
    dev:cmd(write(1, 1, "x"))
    dev:cmd(scsi.cdb.write_10 { lba = 1, length = 1, fua = 1 },
            ("x"):rep(BLOCK))
    dev:cmd(scsi.cdb.read_10 { lba = 1, length = 1, fua = 1 })
    assert.equal("w w f512+512 f512+512 r.", told(dev))
  end)

  it("is SYNCHRONIZE CACHE; 0 blocks mean all that follow", function()
    local dev <close> = device(FLUSHING, { size = 1 << 20 })
    dev:cmd(scsi.cdb.synchronize_cache_10 { lba = 4, length = 2 })
    dev:cmd(scsi.cdb.synchronize_cache_10 { lba = 2046 })
    assert.equal("f2048+1024 f1047552+1024.", told(dev))
  end)

  it("that is missing means: no write cache is advertised, no command", function()
    local dev <close> = device [[read = function() end,
                                 write = function() end]]
    assert.has.sense(dev:cmd(scsi.cdb.synchronize_cache_10 {}),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
    local caching = dev:cmd(scsi.cdb.mode_sense_6 {
      page_code = 8, allocation_length = 64 }).data
    assert.equal(0, caching:byte(4 + caching:byte(4) + 3) & 0x04)
  end)

  it("runs once more when the cache is switched off", function()
    local dev <close> = device(FLUSHING, { size = 1 << 20 })
    assert.equal(0, (dev:change("write_cache", { write_cache = false })))
    assert.equal("f0+1048576.", told(dev))
  end)
end)

describe("unmap", function()
  it("is called once for each descriptor", function()
    local dev <close> = device [[
      read = function() end, write = function() end,
      unmap = function(_, cmd, offset, length)
        log[#log + 1] = ("u%d+%d"):format(offset, length)
      end,
      on = { [0xC1] = function() return table.concat(log, " ") .. "." end }]]
    local list = string.pack(">I2I2I4I8I4I4I8I4I4", 38, 32, 0,
                             2, 4, 0, 100, 1, 0)
    assert.is.good(dev:cmd(scsi.cdb.unmap { parameter_list_length = #list },
                           list))
    assert.equal("u1024+2048 u51200+512.", dev:cmd(vendor(0xC1)).data)
  end)

  it("that is missing means that UNMAP is not a command", function()
    local dev <close> = device [[read = function() end,
                                 write = function() end]]
    assert.has.sense(dev:cmd(scsi.cdb.unmap {}, ("\0"):rep(8)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)

describe("on[opcode]", function()
  it("answers a vendor command with what it returns", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd)
        if cmd:u8(1) == 0 then return "text" end
        if cmd:u8(1) == 1 then
          local b = tcmu.buffer(3) b:put(0, "abc") return b end
        if cmd:u8(1) == 2 then cmd.data:put(2, "in place") return end
      end }]])
    assert.equal("text", dev:cmd(vendor(0xC1, 0)).data)
    assert.equal("abc", dev:cmd(vendor(0xC1, 1)).data)
    assert.equal("\0\0in place\0", dev:cmd(vendor(0xC1, 2)).data:sub(1, 11))
    assert.is.good(dev:cmd(vendor(0xC1, 3)))
  end)

  it("that returns anything else fails its command", function()
    for _, value in ipairs { "42", "true", "false", "{}", "print", "cmd",
                             "tcmu.store.memory(512)" } do
      local dev <close> = device(STORE .. [[on = {
        [0xC1] = function(_, cmd) return ]] .. value .. " end }")
      assert.has.sense(dev:cmd(vendor(0xC1)), scsi.INTERNAL_TARGET_FAILURE)
    end
  end)

  it("is cut to the allocation length of a command that has one", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.INQUIRY] = function() return ("x"):rep(200) end }]])
    local r = dev:cmd(scsi.cdb.inquiry { length = 36 }, { data_in = 255 })
    assert.equal(("x"):rep(36), r.data)
    r = dev:cmd(scsi.cdb.inquiry { length = 255 }, { data_in = 20 })
    assert.equal(("x"):rep(20), r.data)
  end)

  it("gets the Data-Out of a command", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(self, cmd) self.got = cmd.data:get() end,
      [0xC2] = function(self) return self.got end }]])
    dev:cmd(vendor(0xC1), "sent this way")
    assert.equal("sent this way", dev:cmd(vendor(0xC2)).data)
  end)

  it("by service action leaves the others to the host", function()
    local dev <close> = device(STORE .. [[on = {
      [0x9E] = { [0x10] = function() return "mine" end } }]])
    assert.equal("mine", dev:cmd(scsi.cdb.read_capacity_16 {
      allocation_length = 32 }).data)
    local unknown = "\x9E\x1F" .. ("\0"):rep(14)
    assert.has.sense(dev:cmd(unknown), scsi.INVALID_FIELD_IN_CDB, 1, 4)
  end)

  it("of false switches a command off", function()
    local dev <close> = device(STORE .. "on = { [scsi.READ_10] = false }")
    assert.has.sense(dev:cmd(read(0, 1)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
    assert.is.good(dev:cmd(scsi.cdb.read_16 { lba = 0, length = 1 }))
  end)

  it("takes READ and WRITE away from the store", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.READ_10] = function(_, cmd)
        cmd.data:fill(0x21) end }]])
    assert.equal(("!"):rep(BLOCK), dev:cmd(read(0, 1)).data)
    assert.equal(("\0"):rep(BLOCK),
                 dev:cmd(scsi.cdb.read_16 { lba = 0, length = 1 }).data)
  end)

  it("answers a command of 32 bytes and one of a vendor group", function()
    local dev <close> = device(STORE .. [[on = {
      [0x7F] = function(_, cmd) return tostring(#cmd.cdb) end,
      [0xFF] = function(_, cmd) return tostring(#cmd.cdb) end }]])
    assert.equal("32", dev:cmd("\x7F" .. ("\0"):rep(6) .. "\24"
                               .. ("\0"):rep(24)).data)
    assert.equal("10", dev:cmd("\xFF" .. ("\0"):rep(9)).data)
  end)
end)

describe("a command", function()
  it("has its fields, its bytes and its words", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.READ_10] = function(_, cmd)
        return ("%d %d %d %d %d %d %s %d %d %d %d"):format(cmd.opcode, cmd.lba,
          cmd.blocks, cmd.offset, cmd.length, #cmd.cdb, cmd.dev.name,
          cmd:u8(0), cmd:u16(4), cmd:u24(3), cmd:u32(2))
      end,
      [0xC1] = function(_, cmd)
        return tostring(cmd.lba) .. tostring(cmd.length)
      end }]], { name = "d" })
    assert.equal("40 258 2 132096 1024 10 d 40 258 258 258",
                 dev:cmd(read(258, 2)).data)
    assert.equal("nilnil", dev:cmd(vendor(0xC1)).data)
  end)

  it("refuses numbers beyond its CDB", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd)
        local n = 0
        for _, f in ipairs { "u8", "u16", "u24", "u32", "u64" } do
          if not pcall(cmd[f], cmd, 10) then n = n + 1 end
          if not pcall(cmd[f], cmd, -1) then n = n + 1 end
          if not pcall(cmd[f], cmd, math.maxinteger) then n = n + 1 end
        end
        return tostring(n)
      end }]])
    assert.equal("15", dev:cmd(vendor(0xC1)).data)
  end)

  it("can be decoded and explained, where a layout knows it", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.INQUIRY] = function(_, cmd)
        local f = cmd:decode()
        return ("%s %d %s"):format(f.evpd, f.page_code, cmd:explain())
      end,
      [0xC1] = function(_, cmd) return tostring(cmd:decode()) end }]])
    local r = dev:cmd(scsi.cdb.inquiry { evpd = 1, page_code = 0x83,
                                         length = 255 })
    assert.matches("^true 131 INQUIRY", r.data)
    assert.equal("nil", dev:cmd(vendor(0xC1)).data)
  end)

  it("has the host's own answer, to be changed", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.INQUIRY] = function(_, cmd)
        local page = cmd:default()
        page:put(8, "CHANGED ")
        return page
      end }]])
    local r = dev:cmd(scsi.cdb.inquiry { length = 96 })
    assert.equal("CHANGED ", r.data:sub(9, 16))
    assert.has.sense(dev:cmd(scsi.cdb.inquiry { page_code = 1, length = 96 }),
                     scsi.INVALID_FIELD_IN_CDB)
  end)

  it("has the store's answer for READ and WRITE too", function()
    local dev <close> = device(STORE .. [[on = {
      [scsi.WRITE_10] = function(_, cmd) return cmd:default() end,
      [scsi.READ_10] = function(_, cmd) return cmd:default() end }]])
    assert.is.good(dev:cmd(write(7, 2, "d")))
    assert.is_true(dev:cmd(read(7, 2)).data == ("d"):rep(2 * BLOCK))
    assert.has.sense(dev:cmd(read(1 << 30, 1)),
                     scsi.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE)
  end)

  it("has no default where the host has no such command", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd) return cmd:default() end }]])
    assert.has.sense(dev:cmd(vendor(0xC1)),
                     scsi.INVALID_COMMAND_OPERATION_CODE)
  end)

  it("splits a range into units", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd)
        local all = {}
        for page, from, at, n in cmd:split(900, 2500, 1000) do
          all[#all + 1] = ("%d:%d@%d+%d"):format(page, from, at, n)
        end
        for _ in cmd:split(5, 0, 10) do all[#all + 1] = "never" end
        return table.concat(all, " ")
      end }]])
    assert.equal("0:900@0+100 1:0@100+1000 2:0@1100+1000 3:0@2100+400",
                 dev:cmd(vendor(0xC1)).data)
  end)

  it("does not take fields that are none", function()
    local dev <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd)
        return tostring(cmd.nothing) .. tostring(cmd[1])
          .. tostring((pcall(function() cmd.data = 1 end)))
      end }]])
    assert.equal("nilnilfalse", dev:cmd(vendor(0xC1)).data)
  end)
end)

describe("raising", function()
  local dev

  setup(function()
    dev = device(STORE .. [[on = {
      [0xC1] = function(self, cmd)
        local n = cmd:u8(1)
        if n == 0 then error(scsi.MEDIUM_NOT_PRESENT)
        elseif n == 1 then assert(nil, scsi.INVALID_FIELD_IN_CDB:at(3, 5))
        elseif n == 2 then error(scsi.status.BUSY)
        elseif n == 3 then error(scsi.status.RESERVATION_CONFLICT)
        elseif n == 4 then error(scsi.MISCOMPARE_DURING_VERIFY_OPERATION:info(77))
        elseif n == 5 then tcmu.sleep(1) error(scsi.MEDIUM_NOT_PRESENT)
        elseif n == 6 then cmd.data:put(0, "partly") error(scsi.WRITE_ERROR)
        elseif n == 7 then
          local ok, why = pcall(error, scsi.WRITE_ERROR)
          return tostring(rawequal(why, scsi.WRITE_ERROR))
        elseif n == 8 then self.store:read(tcmu.buffer(512), 1 << 40)
        elseif n == 9 then
          local ok, why = pcall(self.store.read, self.store, tcmu.buffer(512),
                                1 << 40)
          return ("%s %d %s"):format(why, why.errno, why.verb)
        end
      end }]])
  end)
  teardown(function() dev:close() end)

  it("a sense value is CHECK CONDITION with that sense", function()
    assert.has.sense(dev:cmd(vendor(0xC1, 0)), scsi.MEDIUM_NOT_PRESENT)
    assert.has.sense(dev:cmd(vendor(0xC1, 5)), scsi.MEDIUM_NOT_PRESENT)
  end)

  it("keeps the field pointer and the information", function()
    assert.has.sense(dev:cmd(vendor(0xC1, 1)), scsi.INVALID_FIELD_IN_CDB, 3, 5)
    local r = dev:cmd(vendor(0xC1, 4))
    assert.equal(77, r.sense.information)
  end)

  it("a status value is that status, without sense", function()
    local r = dev:cmd(vendor(0xC1, 2))
    assert.has.status(r, 0x08)
    assert.is_nil(r.sense)
    assert.has.status(dev:cmd(vendor(0xC1, 3)), 0x18)
  end)

  it("sends no data, whatever was written before", function()
    local r = dev:cmd(vendor(0xC1, 6))
    assert.has.sense(r, scsi.WRITE_ERROR)
    assert.equal("", r.data)
  end)

  it("passes a sense value through pcall untouched", function()
    assert.equal("true", dev:cmd(vendor(0xC1, 7)).data)
  end)

  it("an I/O error has text, errno and verb, and becomes sense by itself",
     function()
    assert.equal(0x02, dev:cmd(vendor(0xC1, 8)).status)
    assert.matches("^store: read failed: .* 6 read$",
                   dev:cmd(vendor(0xC1, 9)).data)
  end)

  it("uses the sense format that D_SENSE asks for", function()
    local d <close> = device(STORE .. [[on = {
      [0xC1] = function(_, cmd)
        cmd.dev:set { descriptor_sense = true }
        error(scsi.MEDIUM_NOT_PRESENT)
      end }]])
    local r = d:cmd(vendor(0xC1))
    assert.equal(0x72, r.sense_bytes:byte(1))
    assert.has.sense(r, scsi.MEDIUM_NOT_PRESENT)
    assert.is_true(sense.is(scsi.MEDIUM_NOT_PRESENT))
  end)
end)

describe("a kind of device", function()
  it("may be a table of the handler's own", function()
    local dev <close> = device [[
      device = { name = "toy", about = "a toy", on = {
        [0x00] = function() end,
        [0x12] = function() return "toy" end,
      } },
      on = { [0xC1] = function(_, cmd) return cmd.dev.kind.name end }]]
    assert.equal("toy", dev:cmd(vendor(0xC1)).data)
    assert.equal("toy", dev:cmd(scsi.cdb.inquiry { length = 36 }).data)
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INVALID_COMMAND_OPERATION_CODE)
  end)

  it("tcmu.bare answers only what SPC makes mandatory", function()
    local dev <close> = device "device = tcmu.bare"
    assert.is.good(dev:cmd(scsi.cdb.inquiry { length = 36 }))
    assert.is.good(dev:cmd(scsi.cdb.test_unit_ready()))
    assert.has.sense(dev:cmd(read(0, 1)), scsi.INVALID_COMMAND_OPERATION_CODE)
  end)
end)
