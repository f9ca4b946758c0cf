--- Lesson 6: commands that wait.
--
-- Every command runs in a coroutine of its own.  tcmu.sleep reads like a call
-- that blocks, but only this command waits; the others of the device go on and
-- overtake it.  If the initiator gives up, the coroutine ends where it waits,
-- and its <close> variables are closed.
--
-- In the simulator time is simulated too: an hour passes at once.
--
-- Try:    tcmu-lua try examples/06-waiting.lua seek=20
-- Change: wait longer the farther the head has to go.

local tcmu = require "tcmu"

local function counted(self)
  self.waiting = self.waiting + 1
  self.most = math.max(self.most, self.waiting)
  return setmetatable({}, { __close = function()
    self.waiting = self.waiting - 1
  end })
end

return tcmu.handler {
  name = "06-waiting",
  about = "lesson 6: a disk with a slow arm",
  options = {
    seek = tcmu.option.number { "milliseconds for every command",
                                default = 8 },
  },

  open = function(dev)
    return { disk = tcmu.store.memory(dev.size), seek = dev.options.seek,
             waiting = 0, most = 0 }
  end,

  close = function(self)
    tcmu.log(("at most %d commands waited at a time"):format(self.most))
  end,

  read = function(self, cmd, offset)
    local _ <close> = counted(self)
    tcmu.sleep(self.seek)
    self.disk:read(cmd.data, offset)
  end,

  write = function(self, cmd, offset)
    local _ <close> = counted(self)
    tcmu.sleep(self.seek)
    self.disk:write(cmd.data, offset)
  end,
}
