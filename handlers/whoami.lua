--- Answers INQUIRY in its own words, and one vendor opcode.
local tcmu = require "tcmu"
local scsi = require "tcmu.scsi"

local ASK <const> = 0xC1

return tcmu.handler {
  name = "whoami",
  about = "a disk in memory with opinions about INQUIRY",

  open = function(dev)
    return { store = tcmu.store.memory(dev.size), asked = 0 }
  end,

  on = {
    [scsi.INQUIRY] = function(self, cmd)
      self.asked = self.asked + 1
      local cdb = cmd:decode()              -- field names as in SPC-4
      if cdb.evpd and cdb.page_code == 0x80 then
        return scsi.vpd(0x80, ("LUA-%04d"):format(self.asked))
      end

      local page = cmd:default()            -- what the host would have said
      if not cdb.evpd then
        page:put(8, ("%-8s%-16s"):format("ACME", "Teaching disk"))
      end
      return page                           -- cut to the allocation length
    end,

    [ASK] = function(_, cmd)                -- ours alone
      assert(cmd:u8(1) == 0, scsi.INVALID_FIELD_IN_CDB:at(1))
      tcmu.sleep(250)                       -- this one waits, others do not
      return "asked nicely\0"
    end,
  },
}
