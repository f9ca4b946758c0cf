--- START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.25, SPC-4 6.13).
--
-- A disk that is removable can be ejected and loaded; what it holds is the same
-- afterwards.  Everybody shares one prevention, since a ring entry names no
-- initiator; a LUN RESET ends it.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local guard = require "tcmu.guard"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

local medium = {}

local REMOVAL_PREVENTED <const> = sense.constant.MEDIUM_REMOVAL_PREVENTED
local NOT_PRESENT <const> = sense.constant.MEDIUM_NOT_PRESENT_TRAY_OPEN
local CHANGED <const> =
  sense.constant.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED

-- What a drive without a medium does not answer; all else is about the drive.
local NEEDS_MEDIUM <const> = {}
for _, id in ipairs {
  "TEST_UNIT_READY", "FORMAT_UNIT", "READ_6", "WRITE_6", "READ_CAPACITY_10",
  "READ_10", "WRITE_10", "WRITE_AND_VERIFY_10", "VERIFY_10", "PRE_FETCH_10",
  "SYNCHRONIZE_CACHE_10", "READ_DEFECT_DATA_10", "WRITE_SAME_10", "UNMAP",
  "SANITIZE", "THIRD_PARTY_COPY_OUT", "READ_16", "COMPARE_AND_WRITE",
  "WRITE_16", "ORWRITE_16", "WRITE_AND_VERIFY_16", "VERIFY_16",
  "PRE_FETCH_16", "SYNCHRONIZE_CACHE_16", "WRITE_SAME_16", "WRITE_ATOMIC_16",
  "SERVICE_ACTION_IN_16", "READ_12", "WRITE_12", "WRITE_AND_VERIFY_12",
  "VERIFY_12", "READ_DEFECT_DATA_12", "VARIABLE_LENGTH",
} do NEEDS_MEDIUM[scsi[id]] = true end

local function absent(cmd)
  local needs = cmd.dev.kind.needs_medium or NEEDS_MEDIUM
  if needs[cmd.opcode] then error(NOT_PRESENT) end
end

--- False while the medium is ejected.
function medium.present(dev) return dev.not_ready ~= absent end

local function prevented(dev)
  return dev.prevented_at == dev.handle():resets()
end

-- Whether the handler can give another medium: the table that its `open`
-- returned has a function `reload(self)` that opens a store.
local function reloads(self) return type(self) == "table" and self.reload end

-- All that was written is on stable storage.  Raises if it is not; but a store
-- that has failed to flush never can again until it is opened anew, which only
-- a load does: so who has been told of that once gets his medium.
local function flush_last(self, dev)
  local good, why = pcall(dev.flush, dev, 0, dev.size)
  if not good then
    if not dev.unflushed or not reloads(self) then
      dev.unflushed = true
      error(why, 0)
    end
    core.log("error", dev.hba .. "/" .. dev.name, "the medium is taken out "
             .. "although it could not be flushed: what was written last may "
             .. "not be on it")
  end
  dev.unflushed = nil
end

--- Takes the medium out; raises if that is prevented, or, once, if what was
-- written is not on stable storage.
-- `kind.ejected(self, dev)` hears of it.  Waits.
function medium.eject(self, dev)
  if prevented(dev) then error(REMOVAL_PREVENTED) end
  if not medium.present(dev) then return end
  -- What is being written still comes to its end.
  local _ <close> = extent.lock_from(self, 0)
  if dev.can.flush then flush_last(self, dev) end
  if prevented(dev) then error(REMOVAL_PREVENTED) end
  if not medium.present(dev) then return end
  extent.check_ready(dev, scsi.START_STOP_UNIT)
  dev:set { not_ready = absent }
  if dev.kind.ejected then dev.kind.ejected(self, dev) end
end

--- Puts the medium in; raises if that is prevented.  No unit attention: it
-- would hit who has just loaded, and the blocks are those of before.  Unless
-- `kind.loading(self, dev)` has seen to another medium: that has to be told.
-- May wait.
function medium.load(self, dev)
  if prevented(dev) then error(REMOVAL_PREVENTED) end
  -- Behind an eject; the blocks stay what they are.
  local _ <close> = extent.lock_from(self, 0, true)
  if medium.present(dev) then return end
  if dev.kind.loading then
    dev.kind.loading(self, dev)
    dev:set { attention = CHANGED }
  end
  dev:set { not_ready = false }
end

--- For `kind.ejected`: lets go of the store if there is `reload`, so that its
-- file can be taken away.
function medium.release(self, dev)
  if not reloads(self) then return end
  local store <const> = dev.store
  dev.store, self.store = nil, nil
  dev.handle():set("store", nil)
  -- What still reads keeps it open; then it closes with the last reference.
  pcall(store.close, store)
end

--- For `kind.loading`: the store of the medium that is there now, or, without
-- `reload`, that of before.  Raises MEDIUM NOT PRESENT if there is none.
function medium.reload(self, dev)
  if reloads(self) then
    local good, store = pcall(self.reload, self)
    if not good then
      require("tcmu").log(tostring(store), "error")
      error(NOT_PRESENT)
    end
    dev.store, self.store = store, store
    dev.handle():set("store", store)
  end
end

--- START STOP UNIT.  There is nothing to spin and no power to save, so every
-- power condition is as good as another; before a stop the cache is written
-- unless NO_FLUSH.
function medium.start_stop_unit(self, cmd, layout)
  local dev <const> = cmd.dev
  if guard.field(cmd, layout, "power_condition") ~= 0 then return end
  local start <const> = guard.field(cmd, layout, "start") == 1
  if guard.field(cmd, layout, "loej") == 1 then
    if start then medium.load(self, dev) else medium.eject(self, dev) end
  elseif not start and dev.can.flush
         and guard.field(cmd, layout, "no_flush") == 0 then
    dev:flush(0, dev.size)
  end
end

--- PREVENT ALLOW MEDIUM REMOVAL: 1 prevents, 0 allows (SPC-4 table 213).
function medium.prevent_allow(_, cmd, layout)
  local dev <const> = cmd.dev
  local value <const> = guard.field(cmd, layout, "prevent")
  if value > 1 then guard.refuse(layout, "prevent") end
  dev.prevented_at = value == 1 and dev.handle():resets() or nil
end

--- True if the medium can be taken out.
function medium.removable(dev) return dev.removable end

return medium
