--- Lua programs of which the system calls are looked at from outside.
local shell = require "spec.shell"

local strace = {}

--- Whether strace may trace here: not where everything is traced already.
strace.works = os.execute "strace -o /dev/null true >/dev/null 2>&1" == true

-- What every program begins with.  A mark is a call that all traces have.
local HEAD <const> = [[
package.path, package.cpath = %q, %q
local sim, scsi = require "tcmu.sim", require "tcmu.scsi"
local function mark(label) assert(not io.open("/nowhere/" .. label)) end
]]

--- Runs a program, in which `sim`, `scsi` and mark(label) are at hand.
-- @param calls  which calls are wanted: "read,write", or "none"
-- @param options  more options for strace, or nil
-- @return the calls, one by one as strace writes them and "> label" for a mark;
--         and what was printed
function strace.run(program, calls, options)
  local log, script = os.tmpname(), os.tmpname()
  local file <close> = assert(io.open(script, "w"))
  assert(file:write(HEAD:format(package.path, package.cpath), program))
  assert(file:close())
  local out = shell.output(("UV_THREADPOOL_SIZE=1 ASAN_OPTIONS=detect_leaks=0 "
    .. "strace -f --seccomp-bpf -qq -o %s -e trace=openat%s %s "
    .. "lua5.4 %s 2>&1"):format(log, calls == "none" and "" or "," .. calls,
                                options or "", script))
  local lines = {}
  for line in io.lines(log) do
    local label = line:match('"/nowhere/([^"]*)"')
    if label then
      lines[#lines + 1] = "> " .. label
    elseif not line:find "openat%(" then
      lines[#lines + 1] = line
    end
  end
  os.remove(log)
  os.remove(script)
  return lines, out
end

--- Whether a store's io_uring is to be had here, as far as can be told.
function strace.shows_a_ring()
  if not strace.works then return false end
  local lines = strace.run("require 'tcmu'.store.file('Makefile', 'r')",
                           "io_uring_setup")
  return table.concat(lines):find "io_uring_setup%(.*= %d" ~= nil
end

--- Those between two marks.
function strace.between(lines, first, last)
  local chosen, on = {}, false
  for _, line in ipairs(lines) do
    if line == "> " .. last then on = false end
    if on then chosen[#chosen + 1] = line end
    if line == "> " .. first then on = true end
  end
  return chosen
end

return strace
