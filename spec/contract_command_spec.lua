--- The handler contract for commands: on[opcode], what a command says and can
--- do, and what becomes of what is raised.
local commands = require "spec.commands"
local inline = require "spec.inline"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

local BLOCK <const> = 512
local STORE <const> = inline.STORE

local device <const> = inline.device
local read <const>, vendor <const>, write <const> = commands.read,
  commands.vendor, commands.write

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
