--- Every bit of every CDB of a disk: what REPORT SUPPORTED OPERATION CODES says
--- of it is how it is answered, by C and by Lua alike.
--
-- Each command of spec.good_commands is sent with one bit after the other
-- changed.  A bit that the usage data do not have is refused, with a pointer to
-- it or to its field, unless it is one to be ignored.  A bit that they have may
-- be refused as well, where it gives its field a value that the device cannot
-- take, but then the pointer is to that field and no other.
local cdb = require "tcmu.cdb"
local good = require "spec.good_commands"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"
local sim = require "tcmu.sim"

local make = scsi.cdb
local BLOCK <const>, SIZE <const> = 512, 64 << 10
local POISON <const> = "\xA5"
local GROUP <const> = "16 0 1 11 0 1 1 1"   -- one that may be set

local DEVICES <const> = {
  ["a store in memory"] = { "handlers/ram.lua", "removable=1" },
  ["a disk in Lua"] = { [[=cached
    local tcmu = require "tcmu"
    return tcmu.handler { name = "cached",
      open = function(dev) return { bytes = tcmu.buffer(dev.size) } end,
      read = function(self, cmd, offset, n)
        cmd.data:copy(0, self.bytes, offset, n)
      end,
      write = function(self, cmd, offset, n)
        self.bytes:copy(offset, cmd.data, 0, n)
      end,
      unmap = function(self, _, offset, n) self.bytes:fill(0, offset, n) end,
      flush = function() end }]], "" },
}

-- What the kernel answers, which no disk of ours sees; and the clock moves.
local function is_kernels(layout)
  return layout.opcode == 0xA0 or layout.name:find "RESERVE"
         or layout.name:find "RELEASE"
end
local function moves(layout) return layout.id == "report_timestamp" end

local function field_at(layout, byte, bit)
  local place = byte * 8 + 7 - bit
  for _, field in ipairs(layout.fields) do
    local first = field.byte * 8 + 7 - field.bit
    if place >= first and place < first + field.width then return field end
  end
end

-- Where a field pointer points to: a field of whole bytes has no bit.
local function pointer_to(field)
  return { cdb = true, byte = field.byte,
           bit = field.width % 8 ~= 0 and field.bit or nil }
end

local function flipped(bytes, byte, bit)
  return bytes:sub(1, byte) .. string.char(bytes:byte(byte + 1) ~ 1 << bit)
         .. bytes:sub(byte + 2)
end

for what, device in pairs(DEVICES) do
  describe("of " .. what, function()
    local fast, slow

    setup(function()
      local function open(no_fast_path)
        local dev = assert(sim.device(device[1], {
          size = SIZE, options = device[2], no_fast_path = no_fast_path }))
        assert.equal(0, (dev:change("alua", { groups = GROUP })))
        dev.kernel:poison(POISON:byte())
        return dev
      end
      fast, slow = open(false), open(true)
    end)
    teardown(function()
      fast:close()
      slow:close()
    end)

    -- nil for a command that the device does not have.
    local function usage_of(layout)
      local r = slow:cmd(make.report_supported_operation_codes {
        reporting_options = 3, length = 512,
        requested_operation_code = layout.opcode,
        requested_service_action = layout.action or 0 })
      assert.is.good(r)
      if r.data:byte(2) & 7 ~= 3 then return nil end
      return (string.unpack(">s2", r.data, 3))
    end

    -- The answer of both, which is one and the same.
    local function ask(layout, bytes, data)
      -- As much Data-In as the blocks have: else C leaves READ to Lua.
      local how = data and { data_out = data }
                  or { data_in = layout.blocks and 2 * BLOCK or 4096 }
      local told = {}
      for i, dev in ipairs { fast, slow } do
        told[i] = dev:cmd(bytes, how)
        -- What goes on after an answer with IMMED comes to its end.
        dev:run(function() return false end)
      end
      local a, b = told[1], told[2]
      assert.equal(a.status, b.status)
      assert.equal(a.sense_bytes, b.sense_bytes)
      if not moves(layout) then assert.is_true(a.data == b.data) end
      assert.is_nil(a.data:find(POISON, 1, true))
      assert.is_false(a.status ~= 0 and a.sense.key == 4)
      return a
    end

    local function check_unused(layout, r, byte, bit)
      local field = field_at(layout, byte, bit)
      if field and field.ignored then
        assert.is.good(r)
        return
      end
      assert.has.sense(r, scsi.INVALID_FIELD_IN_CDB)
      if not field or field.name == "control" then
        field = { byte = byte, bit = bit, width = 1 }
      end
      assert.same(pointer_to(field), r.sense.pointer)
    end

    local function check_used(layout, r, byte, bit)
      local field = assert(field_at(layout, byte, bit))
      assert.is_nil(field.no)
      if r.status ~= 0 and r.sense:is(scsi.INVALID_FIELD_IN_CDB) then
        local also <const> = layout.field[good[layout.id].also]
        if also and r.sense.pointer.byte == also.byte then field = also end
        assert.same(pointer_to(field), r.sense.pointer)
      end
    end

    for _, layout in ipairs(cdb.all "disk") do
      local command = good[layout.id]
      if command then
        it("every bit of " .. layout.name .. " is what is said of it",
        function()
          local usage = usage_of(layout)
          if not usage then
            local r = ask(layout, make[layout.id](command.fields),
                          command.data)
            assert.is_true(r.sense:is(scsi.INVALID_COMMAND_OPERATION_CODE)
                           or r.sense:is(scsi.INVALID_FIELD_IN_CDB))
            return
          end
          local plain = make[layout.id](command.fields)
          local r = ask(layout, plain, command.data)
          if command.unknown then
            assert.same(pointer_to(layout.field[command.unknown]),
                        r.sense.pointer)
          else
            assert.is.good(r)
          end
          for byte = 1, #usage - 1 do
            for bit = 7, 0, -1 do
              local field = field_at(layout, byte, bit)
              local name = field and field.name
              if name ~= "service_action" and name ~= "additional_cdb_length"
                 and name ~= command.unknown then
                r = ask(layout, flipped(plain, byte, bit), command.data)
                local used = usage:byte(byte + 1) & 1 << bit ~= 0
                local check = used and check_used or check_unused
                if not (used and command.unknown) then
                  local fine, why = pcall(check, layout, r, byte, bit)
                  assert(fine, ("byte %d, bit %d: %s\n%s"):format(byte, bit,
                    r.sense and sense.describe(r.sense) or "GOOD",
                    tostring(why)))
                end
              end
            end
          end
        end)
      else
        it(layout.name .. " is the kernel's, or nobody's", function()
          local usage = usage_of(layout)
          assert.is_true(usage == nil or is_kernels(layout) ~= nil)
        end)
      end
    end
  end)
end
