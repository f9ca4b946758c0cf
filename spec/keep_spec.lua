--- What has to survive a restart: the names of its files as well, seen from
--- outside, by way of strace.
local can_trace <const> =
  os.execute("strace -o /dev/null true >/dev/null 2>&1") == true

-- Runs `body` (with dev and scsi) in another interpreter.  What happens to the
-- names in the state directory, in words, with those that the body says.
local function trace(body)
  local directory, out, script = os.tmpname(), os.tmpname(), os.tmpname()
  os.remove(directory)
  assert(os.execute("mkdir " .. directory))
  local f = assert(io.open(script, "w"))
  f:write(([[
    package.path, package.cpath = %q, %q
    local sim, scsi = require "tcmu.sim", require "tcmu.scsi"
    local state_dir = %q
    local function say(word) assert(not io.open("/nowhere/say-" .. word)) end
    local dev = assert(sim.device("handlers/ram.lua", { size = 1 << 20,
      name = "disk", state_dir = state_dir }))
    local function cmd(...) assert(dev:cmd(...).status == 0) end
    say "start"
    %s
    say "end"
    dev:close()
    os.exit(true, true)]]):format(package.path, package.cpath, directory, body))
  f:close()
  local ok = os.execute(("strace -f -qq -y -o %s -e trace=fsync,fdatasync,"
    .. "rename,renameat,renameat2,unlink,unlinkat,openat lua5.4 %s")
    :format(out, script))
  local words
  for line in io.lines(out) do
    local said = line:match("/nowhere/say%-(%w+)")
    if said == "start" then words = {} end
    if said then
      words[#words + 1] = said
    elseif words and line:find("unlink.*/sim_disk\"") then
      words[#words + 1] = "removed"
    elseif words and line:find("rename.*/sim_disk\"") then
      words[#words + 1] = "renamed"
    elseif words and line:find("fsync%(%d+<" .. directory .. "/?>") then
      words[#words + 1] = "synced"
    end
  end
  os.execute(("rm -rf %s %s %s"):format(directory, out, script))
  assert.is_true(ok)
  return table.concat(words, " ")
end

local function traced(what, body)
  it(what, function()
    if not can_trace then pending "strace may not trace here" return end
    body()
  end)
end

describe("what is remembered", function()
  traced("cannot come back or be lost by a loss of power", function()
    -- The first sync is of the new file's own name.
    assert.equal("start synced renamed synced removed synced end",
                 trace "cmd(scsi.cdb.format_unit {}, '')")
  end)

  traced("is on the medium before the command is answered", function()
    assert.equal("start synced renamed synced end", trace [[
      cmd(scsi.cdb.set_identifying_information { length = 5 }, "shelf")]])
  end)

  traced("does not come back after the device was deleted", function()
    assert.equal("start synced renamed synced removed synced end", trace [[
      cmd(scsi.cdb.set_identifying_information { length = 5 }, "shelf")
      assert(require("tcmu.keep").remove { hba = "sim", name = "disk",
                                           state_dir = state_dir })]])
  end)
end)
