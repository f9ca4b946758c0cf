-- Loaded before all specs: assertions in SCSI's own words, and a limit for each
-- test.
require "spec.limit"
local assert = require "luassert"
local say = require "say"
local sense = require "tcmu.sense"

local function told(result)
  if result.status == 0 then return "GOOD" end
  if result.sense then return sense.describe(result.sense) end
  return ("status %02Xh"):format(result.status)
end

-- assert.is.good(result)
say:set("assertion.good.positive", "Expected GOOD, got:\n%s")
say:set("assertion.good.negative", "Expected anything but GOOD, got:\n%s")
assert:register("assertion", "good", function(_, arguments)
  local result = arguments[1]
  arguments[1], arguments.n = told(result), 1
  return result.status == 0
end, "assertion.good.positive", "assertion.good.negative")

-- assert.has.sense(result, scsi.X [, byte [, bit]])
say:set("assertion.sense.positive", "Expected:\n%s\ngot:\n%s")
say:set("assertion.sense.negative", "Expected anything but:\n%s\ngot:\n%s")
assert:register("assertion", "sense", function(_, arguments)
  local result, want, byte, bit = table.unpack(arguments, 1, 4)
  if byte then want = want:at(byte, bit) end
  local got = result.sense
  arguments[1], arguments[2] = sense.describe(want), told(result)
  arguments.n = 2
  if not got or not got:is(want) then return false end
  local pointer = got.pointer
  if byte and not (pointer and pointer.byte == byte) then return false end
  return not bit or pointer.bit == bit
end, "assertion.sense.positive", "assertion.sense.negative")

-- assert.has.status(result, 0x08)
say:set("assertion.status.positive", "Expected status %s, got:\n%s")
say:set("assertion.status.negative", "Expected not status %s, got:\n%s")
assert:register("assertion", "status", function(_, arguments)
  local result, want = arguments[1], arguments[2]
  arguments[1], arguments[2] = ("%02Xh"):format(want), told(result)
  return result.status == want
end, "assertion.status.positive", "assertion.status.negative")

-- A busy machine or a sanitizer must not make handlers look guilty; the specs
-- of the watchdog set the budget that they are about.
require("tcmu.core").budget(2000)

-- Opened once for all: busted forgets modules after each file, and luv must not
-- come twice into one state, where its first loop may be collected meanwhile.
pcall(require, "luv")
