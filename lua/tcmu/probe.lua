--- What the control thread wants to know about a handler, found out by
--- `tcmu-lua check --facts` in a process of its own.
--
-- A handler's code may hang or take the process down with it; control has
-- netlink to answer meanwhile, and a command line has not.

local jobs = require "tcmu.jobs"
local uv = require "luv"

local probe = {}

-- Milliseconds; who calls by D-Bus waits for 25 s.
local LIMIT <const> = 20000
local ROOM <const> = 64 << 10       -- bytes of output that are kept

-- Collects what comes through a pipe; then calls ended().
local function collect(pipe, ended)
  local parts, size = {}, 0
  pipe:read_start(function(_, data)
    if not data then
      pipe:close()
      return ended()
    end
    if size < ROOM then parts[#parts + 1] = data end
    size = size + #data
  end)
  return parts
end

-- Runs a program to its end, in a job.
-- @return what it printed, and how it ended; or nil, message
local function output_of(program, arguments)
  local out = uv.new_pipe()
  local parts, process, ending
  local done, why = jobs.wait(LIMIT, function(wake)
    local left = 2
    local function ended()
      left = left - 1
      if left == 0 then wake(true) end
    end
    local spawned, failure = uv.spawn(program, {
      args = arguments, stdio = { nil, out, 2 },
    }, function(status, signal)
      ending = signal == 0 and "exit status " .. status or "signal " .. signal
      process:close()
      ended()
    end)
    if not spawned then return wake(nil, program .. ": " .. failure) end
    process = spawned
    parts = collect(out, ended)
  end)
  if done then return table.concat(parts), ending end
  if process and process:is_active() then process:kill("sigkill") end
  if not out:is_closing() then out:close() end
  return nil, why
end

-- The lines of `check --facts`; see tcmu.cli.survey.
local function facts_of(text)
  local facts = { options = {} }
  for line in text:gmatch("[^\n]+") do
    local key, value = line:match("^(%l+)\t(.*)$")
    if key == "option" then
      facts.options[#facts.options + 1] = value
    elseif key then
      facts[key] = value
    end
  end
  return facts
end

--- Loads a handler, and has it check the text of its options if there is one.
-- In a job.
-- @param program  the tcmu-lua that does it
-- @return { name, about, options = lines }; or nil and one sentence
function probe.handler(program, path, options)
  local text, how = output_of(program, { "check", "--facts", "--",
                                         path, options })
  if not text then return nil, ("%s: %s"):format(path, how) end
  local facts = facts_of(text)
  if facts.refused then return nil, facts.refused end
  if facts.name then return facts end
  return nil, ("%s: looking at it has ended early, with %s: see the log")
              :format(path, how)
end

return probe
