--- The handlers on the system bus, for targetcli.
--
-- There each is a backstore "user:NAME" whose help shows the handler's options
-- and whose cfgstring is checked before a disk is made of it.  Without a bus,
-- or while another program has the name, everything else works all the same.

local catalog = require "tcmu.catalog"
local core = require "tcmu.core"
local jobs = require "tcmu.jobs"
local probe = require "tcmu.probe"
local uio = require "tcmu.uio"
local uv = require "luv"

local dbus = {}

local EOPNOTSUPP <const> = 95
local CONFIG_MAX <const> = 255

-- What targetcli's library and the kernel make of some characters.
local FORBIDDEN <const> = {
  { "[,%c]", "the kernel would cut the options off at a comma: they are " ..
             "separated by ';'" },
  { ":", "targetcli's library refuses every ':'; 'tcmu-lua create' does not" },
}

local ANY_FILE <const> = {
  name = "lua", about = "a handler that need not be installed",
  options = { "path=PATH  its file, from the root; its own options follow" },
}

-- What goes over the bus has to be UTF-8 without control characters.
local function plain(text)
  text = text:gsub("[%z\1-\9\11-\31\127]", "?")
  return utf8.len(text) and text or (text:gsub("[\128-\255]", "?"))
end

local function description(facts)
  if #facts.options == 0 then
    return facts.about .. "\nIt has no options: the cfgstring is ignored."
  end
  return ("%s\nkey=value, separated by semicolons:\n  %s"):format(
    facts.about, table.concat(facts.options, "\n  "))
end

-- Why no handler needs to be asked about a dev_config; nil if one must be.
local function unfit(config)
  for _, rule in ipairs(FORBIDDEN) do
    local found = config:match(rule[1])
    if found then return rule[2] end
  end
  if #config > CONFIG_MAX then
    return ("the options are %d characters too long for the kernel"):format(
      #config - CONFIG_MAX)
  end
end

local Bus = {}
Bus.__index = Bus

function Bus:log(level, text) self.out(level, "dbus", text) end

-- The sentence for a caller who knows which handler it is about.
local function without_path(why, path)
  local start = path .. ": "
  return why:sub(1, #start) == start and why:sub(#start + 1) or why
end

-- In a job.
-- @return true, ""; or false and why not
function Bus:check(call)
  local why = unfit(call.config)
  if why then return false, why end
  if uio.split_config(call.config) ~= call.subtype then
    return false, ("'%s' does not begin with '%s/'"):format(call.config,
                                                            call.subtype)
  end
  local path, options = catalog.resolve(self.handlers, call.config)
  if not path then
    return false, "the path of the handler's file is missing: path=FILE"
  end
  local facts
  facts, why = probe.handler(self.program, path, options)
  if not facts then return false, without_path(why, path) end
  return true, ""
end

function Bus:answer(call)
  local valid, text = self:check(call)
  if not self.bus then return end       -- lost meanwhile
  local ok, why = self.bus:answer(call.id, valid, plain(text))
  if not ok then self:log("warning", "answering CheckConfig: " .. why) end
  self:arm()
end

-- Says once what has become of the name.
function Bus:announce()
  local name = self.bus:name()
  if name == self.name or not self.complete then return end
  self.name = name
  if name == "ours" then
    self:log("info", "targetcli can make disks of " ..
             table.concat(self.offered, ", "))
  elseif name == "queued" then
    self:log("warning", "another program, such as tcmu-runner, tells " ..
             "targetcli about handlers; ours are listed when it has ended")
  elseif name == "refused" then
    self:log("warning", "targetcli cannot list our handlers: the system bus " ..
             "refuses the name org.kernel.TCMUService1, which the policy " ..
             "dist/org.kernel.TCMUService1.conf allows")
  end
end

function Bus:lose(why)
  self:log("warning", "the system bus is gone, and targetcli with it, until " ..
           "'tcmu-lua serve' is restarted: " .. why)
  self.poll:close()
  self.timer:close()
  self.bus:close()
  self.bus = nil
end

function Bus:arm()
  local events, ms, why = self.bus:wants()
  if not events then return self:lose(why) end
  self.poll:start(events, self.turn)
  if ms then self.timer:start(ms, 0, self.turn) else self.timer:stop() end
end

function Bus:process()
  local calls, why = self.bus:process()
  if not calls then return self:lose(why) end
  self:announce()
  for _, call in ipairs(calls) do
    jobs.start(self.out, self.answer, self, call)
  end
  if self.bus then self:arm() end
end

-- In a job.
function Bus:offer(name, facts)
  local ok, why = self.bus:add(name, plain(description(facts)))
  if ok then
    table.insert(self.offered, name)
  else
    self:log("warning", ("targetcli cannot have '%s', a name of letters, " ..
             "digits and '_' would do: %s"):format(name, why))
  end
end

-- In a job.
function Bus:offer_all(names)
  for _, name in ipairs(names) do
    local path = self.handlers[name]
    local facts, why = probe.handler(self.program, path)
    if not self.bus then return end     -- lost meanwhile
    if facts then
      self:offer(name, facts)
    else
      self:log("warning", "not for targetcli: " .. why)
    end
  end
  if not self.handlers.lua then self:offer("lua", ANY_FILE) end
  self.complete = true
  self:announce()
end

local function without_bus(log, why, code)
  if code == EOPNOTSUPP then why = "this is built without libsystemd" end
  log("info", "dbus", "targetcli will not list our handlers: " .. why)
end

--- Offers handlers to targetcli, in a job, as long as the event loop runs.
-- @param of  { handlers = { [name] = path }, names = in order, log =
-- function(level, who, text), program = the tcmu-lua that looks at handlers,
-- this one if absent }
function dbus.serve(of)
  local bus, why, code = core.dbus.open()
  if not bus then return without_bus(of.log, why, code) end

  local self = setmetatable({
    bus = bus, handlers = of.handlers, out = of.log,
    program = of.program or "/proc/self/exe",
    name = "not asked", offered = {},
    poll = uv.new_poll(bus:fd()), timer = uv.new_timer(),
  }, Bus)
  self.turn = jobs.callback(of.log, function()
    if self.bus then self:process() end
  end)
  -- The name first: while nobody has it, asking for it may start tcmu-runner.
  bus:ask_name()
  self:process()
  self:offer_all(of.names)
end

return dbus
