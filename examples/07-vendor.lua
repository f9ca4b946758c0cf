--- Lesson 7: commands of your own.
--
-- Opcodes from C0h on belong to the vendor: you.  `on[opcode]` gets the
-- command; cmd:u8(at), u16, u24, u32 and u64 read its CDB from byte 0,
-- cmd.data is its Data-Out, and a string that is returned is its Data-In.
-- For these opcodes the CDB has 10 bytes.
--
-- C0h: byte 1 is the number of a note, Data-Out its text.
-- C1h: byte 1 is the number of a note, Data-In its text.
--
-- Try:    tcmu-lua try examples/07-vendor.lua, then
--         'cdb c0 07 00 00 00 00 00 00 00 00 "buy milk"' and
--         'cdb c1 07 00 00 00 00 00 00 00 00'
-- On a real disk: sg_raw -r 512 /dev/sdX c1 07 00 00 00 00 00 00 00 00
-- Change: let C2h delete a note, and say what happens if there is none.

local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

local LONGEST <const> = 512

return tcmu.handler {
  name = "07-vendor",
  about = "lesson 7: a disk that keeps notes",

  open = function(dev)
    return { store = tcmu.store.memory(dev.size), notes = {} }
  end,

  on = {
    [0xC0] = function(self, cmd)
      -- The pointer tells the initiator which byte it should look at.
      assert(cmd:u8(1) < 100, scsi.INVALID_FIELD_IN_CDB:at(1))
      assert(#cmd.data <= LONGEST, scsi.PARAMETER_LIST_LENGTH_ERROR)
      self.notes[cmd:u8(1)] = cmd.data:get()
    end,

    [0xC1] = function(self, cmd)
      assert(cmd:u8(1) < 100, scsi.INVALID_FIELD_IN_CDB:at(1))
      return self.notes[cmd:u8(1)] or ""
    end,

    -- A command that the host has can be taken away, too.
    [scsi.WRITE_SAME_10] = false,
  },
}
