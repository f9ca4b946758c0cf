--- What a device does for longer than a command lasts: FORMAT UNIT, SANITIZE.
--
-- An operation belongs to the device: the command that started it may be
-- aborted, the operation goes on, also after a restart of the host.  Meanwhile
-- other commands are refused with NOT READY and the progress, and once it has
-- failed, with what failed.
--
--   none --> running --> none
--              |  ^
--              v  | the same command again
--            failed --> none    (only of SANITIZE: EXIT FAILURE MODE)
--
-- All of it is remembered before it counts.  What cannot be remembered does not
-- begin; and what cannot be forgotten does not end, for the next start would
-- go on with it over newer data.

local core = require "tcmu.core"
local extent = require "tcmu.extent"
local keep = require "tcmu.keep"
local scsi = require "tcmu.scsi"
local sense = require "tcmu.sense"

local operation = {}

-- Milliseconds after each part (a MiB when writing).  An operation has all day,
-- its neighbours on the same disks have not: it writes 200 MiB/s at most.  What
-- is erased may be gone in a moment; then so is the pause, of which a large disk
-- has many.
local PAUSE <const> = 5

local ERASE_STEP <const> = 64 << 20 -- bytes between two looks at the clock

-- Between two notes of the progress, which take their time: bytes, and ms.
local KEEP_STEP <const>, KEEP_PAUSE <const> = 256 << 20, 1000

local function known(name)
  return assert(sense.constant[name], name)
end

-- Per kind of operation: what is answered meanwhile and after a failure, and
-- the command that may come in spite of a failure.
local KINDS <const> = {
  sanitize = {
    name = "SANITIZE", again = scsi.SANITIZE,
    running = known "LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS",
    failed = known "SANITIZE_COMMAND_FAILED",
  },
  format = {
    name = "FORMAT UNIT", again = scsi.FORMAT_UNIT,
    running = known "LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS",
    failed = known "FORMAT_COMMAND_FAILED",
  },
}

-- Work ----------------------------------------------------------------------

local work = {}

-- The whole medium filled with one block, `passes` times, each the inverse of
-- the one before if `invert` is 1; the last is never inverted (SBC-3 5.24.2).
-- Goes on from job.done.
function work.overwrite(dev, job, progress)
  local first <const> = job.done // dev.size + 1
  for pass = first, job.passes do
    local pattern = job.pattern
    if job.invert == 1 and (job.passes - pass) % 2 == 1 then
      pattern = pattern:gsub(".", function(c)
        return string.char(c:byte() ~ 0xFF)
      end)
    end
    local base <const> = (pass - 1) * dev.size
    local from <const> = pass == first and job.done - base or 0
    extent.fill(dev, pattern, from, dev.size - from, function(done)
      progress(base + from + done)
    end)
    if dev.can.flush then dev:flush(0, dev.size) end
  end
end

-- The whole medium reads as zeroes, and takes up no space where it can.
function work.erase(dev, job, progress)
  for at = job.done, dev.size - 1, ERASE_STEP do
    local n = math.min(ERASE_STEP, dev.size - at)
    if dev.can.unmap then dev:unmap(at, n) else dev:zero(at, n) end
    progress(at + n)
  end
  if dev.can.flush then dev:flush(0, dev.size) end
end

-- State ---------------------------------------------------------------------

-- What is answered while a format runs (SBC-4 4.33.2).
local ALLOWED <const> = {
  [scsi.INQUIRY] = true, [scsi.REPORT_LUNS] = true,
  [scsi.REQUEST_SENSE] = true,
}

-- What else is while a sanitize runs, and after either has failed (SBC-4
-- 4.11.2): opcode -> true, or { byte, mask, values there }.
local ACTION <const>, PAGE <const> = 0x1F, 0x3F
local MODE_PAGES <const> = { 2, PAGE, {
  [0x08] = true, [0x0A] = true, [0x1C] = true } }
local ABOUT <const> = {
  [scsi.READ_CAPACITY_10] = true,
  [scsi.SERVICE_ACTION_IN_16] = { 1, ACTION, {
    [scsi.action.READ_CAPACITY_16] = true } },
  [scsi.MODE_SENSE_6] = MODE_PAGES, [scsi.MODE_SENSE_10] = MODE_PAGES,
  [scsi.LOG_SENSE] = { 2, PAGE, { [0x0D] = true } },    -- temperature
  [scsi.MAINTENANCE_IN] = { 1, ACTION, {
    [scsi.action.REPORT_SUPPORTED_OPERATION_CODES] = true,
    [scsi.action.REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS] = true } },
}

local function allowed(cmd, job)
  if ALLOWED[cmd.opcode] then return true end
  local about <const> = ABOUT[cmd.opcode]
  if not about or job.kind == "format" and not job.failed then return false end
  if about == true then return true end
  local byte, mask, values = table.unpack(about)
  return values[cmd:u8(byte) & mask]
end

--- The sense value of the device's operation, with the progress of one that
-- runs, or nil: for REQUEST SENSE.
function operation.sense(dev)
  local job <const> = dev.operation
  if not job then return nil end
  local kind <const> = KINDS[job.kind]
  if job.failed then return kind.failed end
  return kind.running:progressing(job.done * 65535 // job.total)
end

-- dev.not_ready while there is an operation.
local function refuse(cmd)
  local job <const> = cmd.dev.operation
  if allowed(cmd, job) then return end
  if job.failed and cmd.opcode == KINDS[job.kind].again then return end
  error(operation.sense(cmd.dev))
end

-- What a restart has to know of an operation.
local FIELDS <const> = { "kind", "how", "pattern", "passes", "invert", "done",
                         "total", "ause", "failed" }

-- Remembers an operation, or with nil forgets it.
local function remember(dev, job)
  local changes = {}
  for _, name in ipairs(FIELDS) do
    changes["operation_" .. name] = job and job[name] or false
  end
  keep.change(dev, changes)
end

-- What is remembered, or nil.  On a device that has another size by now it
-- cannot go on, but what it was to erase may be there all the same.
local function remembered(dev)
  local kept, job = keep.read(dev), {}
  for _, name in ipairs(FIELDS) do job[name] = kept["operation_" .. name] end
  if not KINDS[job.kind] or not work[job.how] then return nil end
  if job.total ~= dev.size * (job.passes or 1) then job.failed = 1 end
  return job
end

local function wake_all(list)
  for _, wake in ipairs(list) do wake() end
end

local function log(dev, level, text, ...)
  core.log(level, dev.hba .. "/" .. dev.name, text:format(...))
end

-- Does the work and notes how far it is: what a note says is done is on stable
-- storage, or the operation has failed.  Raises.
local function carry_out(dev, job)
  local kept, noted, rested = job.done, core.now(), core.now()
  work[job.how](dev, job, function(done)
    job.done = done
    if done - kept >= KEEP_STEP and core.now() - noted >= KEEP_PAUSE then
      kept, noted = done, core.now()
      if dev.can.flush then dev:flush(0, dev.size) end
      pcall(remember, dev, job)     -- or a restart goes on from further back
    end
    local took <const> = core.now() - rested
    core.sleep(job.how == "erase" and math.min(PAUSE, took) or PAUSE)
    rested = core.now()
  end)
  remember(dev, nil)
end

-- A task of its own.  `waiting` has who waits for it to have begun for good,
-- and who for its end; `before` is the operation whose place it takes.
local function perform(dev, job, waiting, before)
  local over = false
  -- However the task ends: pcall does not catch what the watchdog stops.
  local _ <close> = setmetatable({}, { __close = function()
    if not over then job.failed = 1 end
    job.begun = true
    wake_all(waiting.begun)
    wake_all(waiting.ended)
  end })
  if not job.resumed then
    local ok, why = pcall(remember, dev, job)
    if not ok then
      job.refused = why
      dev.operation = before
      dev:set { not_ready = before and dev.not_ready or false }
    end
  end
  job.begun = true
  wake_all(waiting.begun)
  if not job.refused then
    local ok, why = pcall(carry_out, dev, job)
    if ok then
      dev.operation = nil
      dev:set { not_ready = false }
    else
      job.failed = 1
      pcall(remember, dev, job)
      log(dev, "error", "%s failed after %d of %d bytes: %s",
          KINDS[job.kind].name, job.done, job.total, tostring(why))
    end
  end
  over = true
end

local function begin(dev, job)
  local waiting = { begun = {}, ended = {} }
  local before <const> = dev.operation
  dev.operation = job
  dev:set { not_ready = refuse }
  core.background(perform, dev, job, waiting, before)
  return waiting
end

-- Waits for one of both.
local function await(list)
  core.await(function(wake) list[#list + 1] = wake end)
end

--- Starts an operation and waits for its end, or with `immed` until a restart
-- would know of it.  `job` is { kind =
-- "sanitize" or "format", how = "overwrite" or "erase", and for overwrite
-- pattern = a block, passes =, invert = 0 or 1 }.  Commands that were there
-- first come to their end before.  Waits; raises.
function operation.run(self, dev, job, immed)
  local waiting
  do
    local _ <close> = extent.lock_from(self, 0)
    -- Somebody else may have been quicker.
    extent.check_ready(dev, KINDS[job.kind].again)
    extent.check_writable(dev)
    job.done, job.total = 0, dev.size * (job.passes or 1)
    waiting = begin(dev, job)
  end
  if immed then
    if not job.begun then await(waiting.begun) end
  else
    await(waiting.ended)
  end
  if job.refused then error(job.refused) end
  if job.failed and not immed then error(KINDS[job.kind].failed) end
end

--- Goes on with what a restart has interrupted.  For a device that opens.
function operation.resume(dev)
  local job = remembered(dev)
  if not job then return end
  local name <const> = KINDS[job.kind].name
  if job.failed then
    log(dev, "warning", "%s has failed before: it is to be done again", name)
    dev.operation = job
    dev:set { not_ready = refuse }
    return
  end
  log(dev, "info", "goes on with %s at byte %d of %d", name, job.done,
      job.total)
  job.resumed = true
  begin(dev, job)
end

--- True after a SANITIZE that failed and did not allow to leave it at that:
--- the next one may not either.
function operation.restricted(dev)
  local job <const> = dev.operation
  return job ~= nil and job.failed and job.kind == "sanitize" and job.ause ~= 1
end

--- Ends the state after a SANITIZE that failed, if it allowed that (AUSE).
-- Waits; raises.
-- @return false if it did not
function operation.forgive(self, dev)
  if not dev.operation then return true end
  -- Meanwhile nothing begins: it would be forgotten, too.
  local _ <close> = extent.lock_from(self, 0)
  extent.check_ready(dev, scsi.SANITIZE)
  local job <const> = dev.operation
  if not job then return true end
  if job.ause ~= 1 then return false end
  remember(dev, nil)
  dev.operation = nil
  dev:set { not_ready = false }
  return true
end

return operation
