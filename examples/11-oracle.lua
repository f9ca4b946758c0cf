--- Lesson 11: not a disk.
--
-- `device = tcmu.bare` answers only what every SCSI device must: INQUIRY, TEST
-- UNIT READY, REQUEST SENSE.  All the rest is yours.  This one takes a question
-- with D0h and gives the answer with D1h, whose bytes 7 and 8 say how much of
-- it the initiator wants.
--
-- Raising a status is like raising sense: BUSY means "ask again later".
--
-- Try:    tcmu-lua try examples/11-oracle.lua, then
--         'cdb d0 0 0 0 0 0 0 0 0 0 "Will it rain?"' and
--         'cdb d1 0 0 0 0 0 0 0 40 0'
-- Change: let it think for a while (lesson 6) and be BUSY meanwhile.

local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

local PROCESSOR <const> = 0x03          -- the device type (SPC-4 table 144)
local QUESTION <const>, ANSWER <const> = 0xD0, 0xD1
local ANSWERS <const> = { "Yes.", "No.", "Ask again.", "Read the standard." }

return tcmu.handler {
  name = "11-oracle",
  about = "lesson 11: a device that answers questions",
  device = tcmu.bare,
  inquiry = { vendor = "DELPHI", product = "Oracle", revision = "1" },

  open = function() return {} end,

  on = {
    [scsi.INQUIRY] = function(_, cmd)
      local page = cmd:default()
      page:set8(0, PROCESSOR)           -- byte 0 is the type in every page
      return page
    end,

    [QUESTION] = function(self, cmd)
      self.question = cmd.data:get()
    end,

    [ANSWER] = function(self, cmd)
      if not self.question then error(scsi.status.BUSY) end
      local answer = ANSWERS[#self.question % #ANSWERS + 1]
      self.question = nil
      return answer:sub(1, cmd:u16(7))
    end,
  },
}
