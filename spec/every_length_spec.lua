--- Three lengths of every command of a disk: what the CDB allows or announces,
--- what the fabric has room for or has sent, and what there is.
--
-- Data-In is as much of the answer as both allow, and nothing else leaves: the
-- data area is full of another command's bytes.  Of Data-Out nothing that is
-- not there is believed.
local cdb = require "tcmu.cdb"
local good = require "spec.good_commands"
local lists = require "spec.copy_lists"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local SIZE <const> = 64 << 10
local POISON <const> = "\xA5"
local READ_LEN <const> = 2                  -- of the capabilities
local ALL <const> = 0x0F

local function with(fields, more)
  local all = {}
  for name, value in pairs(fields) do all[name] = value end
  for name, value in pairs(more) do all[name] = value end
  return all
end

local function open(path, caps)
  local dev = assert(sim.device(path, {
    size = SIZE, serial = "0123456789abcdef", kernel = { caps = caps } }))
  assert.equal(0, (dev:change("alua", { groups = "16 0 1 11 0 1 1 1" })))
  dev.kernel:poison(POISON:byte())
  return dev
end

-- Commands with an allocation length: id and fields.
local asking = {}
for _, layout in ipairs(cdb.all "disk") do
  local command = good[layout.id]
  if command and layout.allocation and not command.unknown
     and layout.id ~= "report_timestamp" then           -- which moves
    asking[#asking + 1] = { layout.id, command.fields, layout.name }
  end
end
for _, page in ipairs { 0x00, 0x80, 0x83, 0x86, 0x87, 0x8F, 0xB0, 0xB1,
                        0xB2 } do
  asking[#asking + 1] = { "inquiry", { evpd = true, page_code = page },
                          ("INQUIRY of page %02Xh"):format(page) }
end
for _, id in ipairs { "mode_sense_6", "mode_sense_10" } do
  asking[#asking + 1] = { id, { page = 0x3F, subpage_code = 0xFF },
                          cdb.by_id(id).name .. " of all pages" }
end

-- Data-In of `length` bytes; the simulated kernel, too, takes READ_LEN 0 for
-- none, and then all of the fabric's buffer leaves.
local function check_data(r, whole, length, room, caps)
  assert.is.good(r)
  assert.equal(whole:sub(1, length), r.data:sub(1, length))
  assert.is_nil(r.data:find("[^\0]", length + 1))
  if caps & READ_LEN ~= 0 and length > 0 then assert.equal(length, #r.data)
  else assert.equal(room, #r.data) end
end

for _, path in ipairs { "handlers/ram.lua", "handlers/ramdisk.lua" } do
  for _, caps in ipairs { ALL, ALL & ~READ_LEN } do
    describe(("Data-In of %s%s"):format(path, caps == ALL and ""
                                        or ", without READ_LEN"), function()
      local dev
      setup(function() dev = open(path, caps) end)
      teardown(function() dev:close() end)

      for _, entry in ipairs(asking) do
        local id, fields, name = table.unpack(entry)
        it("is as much as both lengths allow: " .. name, function()
          local layout <const> = cdb.by_id(id)
          local most <const> = layout.allocation.limit
          local function ask(allowed, room)
            return dev:cmd(make[id](with(fields, { length = allowed })),
                           { data_in = room })
          end
          local first = ask(math.min(most, 8192), 8192)
          assert.is.good(first)
          local whole <const> = first.data
          local n <const> = #whole
          for _, allowed in ipairs { 0, 1, 2, 3, 4, 5, 7, 8, 12, n - 1, n,
                                     n + 1, most } do
            for _, room in ipairs { 0, 1, 4, n - 1, n, n + 1, 5000 } do
              local r = ask(math.min(allowed, most), room)
              if allowed < 4 and id:find "task_management" then
                -- SPC-4 6.36 wants room for four bytes.
                assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB, 6)
              else
                check_data(r, whole, math.min(allowed, most, room, n), room,
                           caps)
              end
            end
          end
        end)
      end
    end)
  end
end

-- Parameter lists that are right: id, fields, list.
local function parameter_lists(dev)
  local target = lists.target(lists.designators(dev:cmd(make.inquiry {
    evpd = true, page_code = 0x83, length = 255 }).data)[2])
  local segment <const> = lists.segment(0, 0, 2, 4, 100)
  local range <const> = string.pack(">I8I4xxxx", 4, 2)
  local zeroes <const> = string.pack(">I4xxI2c504", 0xFFFF0001, 504,
                                     ("\0"):rep(504))
  local pages <const> = "\x01\x0A" .. ("\0"):rep(10)
                        .. "\x4A\1\0\x1C\7\0\x60" .. ("\0"):rep(25)
  return {
    { "mode_select_6", { pf = 1 },
      "\0\0\0\8" .. string.pack(">I4I4", 0, 512) .. pages },
    { "mode_select_10", { pf = 1 },
      "\0\0\0\0\1\0\0\16" .. string.pack(">I8I4I4", 0, 0, 512) .. pages },
    { "unmap", {}, string.pack(">I2I2xxxx", 38, 32) .. range:rep(2) },
    { "sanitize_overwrite", {}, "\1\0\0\4abcd" },
    { "set_timestamp", {}, ("\0"):rep(12) },
    { "set_identifying_information", { information_type = 2 }, "abc\0" },
    { "extended_copy_lid1", {}, lists.lid1(target, segment, 0, 3) },
    { "extended_copy_lid4", {}, lists.lid4(target, segment, 0, 0, 3) },
    { "populate_token", { list_identifier = 7 },
      string.pack(">I2xxI4I4xxs2", 30, 0, 0, range) },
    { "write_using_token", { list_identifier = 9 },
      string.pack(">I2xxxxxxI8c512xxxxxxs2", 550, 0, zeroes, range) },
    { "set_target_port_groups", {}, "\0\0\0\0" },
  }
end

-- A list that is cut off and still means something: a descriptor that is not
-- whole does not count, a text is shorter.
local MAY_BE_CUT <const> = { unmap = true, set_identifying_information = true,
                             mode_select_6 = true, mode_select_10 = true }

describe("Data-Out", function()
  local dev
  before_each(function() dev = open("handlers/ram.lua", ALL) end)
  after_each(function() dev:close() end)

  local function settle() dev:run(function() return false end) end

  it("that is cut off is refused, wherever it is", function()
    for _, entry in ipairs(parameter_lists(dev)) do
      local id, fields, list = table.unpack(entry)
      assert.is.good(dev:cmd(make[id](with(fields, { length = #list })), list))
      settle()
      for n = 1, #list - 1 do
        local text <const> = list:sub(1, n)
        -- The fabric has sent less than the CDB announces.
        local r = dev:cmd(make[id](with(fields, { length = #list })), text)
        assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB,
                         cdb.by_id(id).parameter.byte)
        -- The CDB announces less than a list has.
        r = dev:cmd(make[id](with(fields, { length = n })), text)
        settle()
        local told = r.status == 0 and "GOOD" or sense.describe(r.sense)
        local place = ("%s after %d bytes: %s"):format(id, n, told)
        if r.status == 0 then assert.is_true(MAY_BE_CUT[id] == true, place)
        else assert.equal(5, r.sense.key, place) end
      end
    end
  end)

  it("that is longer than announced is cut", function()
    for _, entry in ipairs(parameter_lists(dev)) do
      local id, fields, list = table.unpack(entry)
      assert.is.good(dev:cmd(make[id](with(fields, { length = #list })),
                             list .. ("?"):rep(600)))
      settle()
    end
  end)

  it("with any bit changed never is our fault", function()
    for _, entry in ipairs(parameter_lists(dev)) do
      local id, fields, list = table.unpack(entry)
      for at = 1, #list do
        for bit = 0, 7 do
          local text = list:sub(1, at - 1)
                       .. string.char(list:byte(at) ~ 1 << bit)
                       .. list:sub(at + 1)
          local r = dev:cmd(make[id](with(fields, { length = #list })), text)
          settle()
          local key = r.status == 2 and r.sense.key
          assert.is_true(r.status == 0 or key == 0x5 or key == 0xA
                         or key == 0x7,
                         ("%s, byte %d, bit %d"):format(id, at - 1, bit))
        end
      end
    end
  end)
end)
