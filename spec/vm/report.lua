--- busted's output inside the guest: progress to read, and a report to count.
-- Each test ends in one line on stdout and one in /results/report, which is
-- there even if the guest dies in the next test:
--
--   passed NAME | failed NAME | pending NAME: REASON | end
--
-- A test that is pending without a reason has failed.

local uv = require "luv"

local REPORT <const> = "/results/report"

return function()
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base" ()
  local report = assert(io.open(REPORT, "w"))
  local started

  report:setvbuf "line"
  io.stdout:setvbuf "line"

  local function seconds()
    return started and (uv.hrtime() - started) / 1e9 or 0
  end

  local function indented(text)
    print("        " .. text:gsub("%s+$", ""):gsub("\n", "\n        "))
  end

  local function tell(word, name, detail)
    local reason = word == "pending" and ": " .. detail or ""

    report:write(word, " ", name, reason, "\n")
    print(("%-7s %6.1f s  %s"):format(word == "passed" and "ok" or word:upper(),
      seconds(), name))
    if detail then indented(detail) end
  end

  local function failure(t)
    local message, trace = t.message, t.trace or {}

    if type(message) ~= "string" then
      message = message == nil and "an error of nil" or tostring(message)
    end
    local place = trace.short_src
    if place and not message:find(place .. ":", 1, true) then
      message = ("%s:%d: %s"):format(place, trace.currentline, message)
    end
    tell("failed", t.name, message)
    if t.isError and trace.traceback then indented(trace.traceback) end
  end

  function handler.testStart()
    started = uv.hrtime()
    return nil, true
  end

  function handler.testEnd(element, _, status)
    if status == "success" then
      tell("passed", handler.getFullName(element))
    elseif status == "pending" then
      local t = handler.pendings[#handler.pendings]
      if t.message then
        tell("pending", t.name, t.message)
      else
        tell("failed", t.name, "pending, and does not say why")
      end
    elseif status == "failure" then
      failure(handler.failures[#handler.failures])
    elseif status == "error" then
      failure(handler.errors[#handler.errors])
    end
    return nil, true
  end

  -- A file that does not load, a setup or a teardown that fails.
  function handler.otherError(element)
    if element.descriptor ~= "it" then
      failure(handler.errors[#handler.errors])
    end
    return nil, true
  end

  function handler.suiteEnd()
    report:write "end\n"
    return nil, true
  end

  busted.subscribe({ "test", "start" }, handler.testStart)
  busted.subscribe({ "test", "end" }, handler.testEnd)
  busted.subscribe({ "error" }, handler.otherError)
  busted.subscribe({ "failure" }, handler.otherError)
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  return handler
end
