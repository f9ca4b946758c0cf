--- libiscsi's conformance suite, iscsi-test-cu, and what it says.
--
-- Its own summary counts a skipped test as passed, so the lines of each test
-- are read here: "passed", "failed" or "skipped", with the text that came.

local guest = require "spec.vm.guest"

local libiscsi = {}

-- One test ends where the next, a suite or the summary begins.
local function each_test(log)
  return coroutine.wrap(function()
    local suite, name, lines
    local function done()
      if name then coroutine.yield(name, table.concat(lines, "\n")) end
      name = nil
    end
    for line in log:gmatch "[^\n]*" do
      local new_suite = line:match "^Suite: (%S+)"
      local test, rest = line:match "^  Test: (%S+) %.%.%.(.*)"
      if new_suite then
        done()
        suite = new_suite
      elseif test then
        done()
        name, lines = suite .. "." .. test, { rest }
      elseif line:find "^Run Summary" then
        done()
      elseif name then
        lines[#lines + 1] = line
      end
    end
    done()
  end)
end

-- The assertions that did not hold: "    1. file.c:75  - CU_ASSERT...".
local function complaints(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    list[#list + 1] = line:match "^%s+%d+%. %S+:%d+%s+%- (.*)$"
  end
  return list
end

local function outcome(text, failures)
  if #failures > 0 then return "failed" end
  if text:find("[SKIPPED]", 1, true) then return "skipped" end
  return "passed"
end

--- Runs the suite, or one test of it ("SCSI.Read10.Simple"), against exported
-- devices; `urls` has one, or two for the tests of two paths.  The log is kept
-- in /results.
-- @return { passed =, failed =, skipped = } counts, and in [name] =
-- { outcome =, text =, failures = the assertions that did not hold } every test
function libiscsi.run(urls, name, test)
  local log = ("/results/libiscsi-%s.log"):format(name)
  os.remove(log)                -- of an earlier guest
  local status = guest.start(("exec iscsi-test-cu --dataloss --allow-sanitize "
    .. "--test=%s %s"):format(test or "ALL", urls), log):wait(3600)
  local result = { passed = 0, failed = 0, skipped = 0, status = status }
  for which, text in each_test(guest.read_file(log)) do
    local failures = complaints(text)
    local how = outcome(text, failures)
    result[how] = result[how] + 1
    result[which] = { outcome = how, text = text, failures = failures }
  end
  return result
end

--- The names of the tests with an outcome, sorted.
function libiscsi.names(result, how)
  local names = {}
  for name, test in pairs(result) do
    if type(test) == "table" and test.outcome == how then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

return libiscsi
