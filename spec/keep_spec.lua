--- What has to survive a restart: the names of its files as well, seen from
--- outside, by way of strace.
local shell = require "spec.shell"
local strace = require "spec.strace"

-- Runs `body` (with dev and scsi) in another interpreter.  What happens to the
-- names in the state directory, in words.
local function trace(body)
  local directory = shell.temporary()
  assert(os.execute("mkdir " .. directory))
  local lines, out = strace.run(([[
    local state_dir = %q
    local dev = assert(sim.device("handlers/ram.lua", { size = 1 << 20,
      name = "disk", state_dir = state_dir }))
    local function cmd(...) assert(dev:cmd(...).status == 0) end
    mark "start"
    %s
    mark "end"
    dev:close()
    os.exit(true, true)]]):format(directory, body), "fsync,fdatasync,rename,"
    .. "renameat,renameat2,unlink,unlinkat", "-y")
  os.execute("rm -rf " .. directory)
  assert.equal("", out)
  local words
  for _, line in ipairs(lines) do
    local said = line:match "^> (.*)"
    if said == "start" then words = {} end
    if said then
      words[#words + 1] = said
    elseif words and line:find "unlink.*/sim_disk\"" then
      words[#words + 1] = "removed"
    elseif words and line:find "rename.*/sim_disk\"" then
      words[#words + 1] = "renamed"
    elseif words and line:find("fsync%(%d+<" .. directory:gsub("%p", "%%%0")
                               .. "/?>") then
      words[#words + 1] = "synced"
    end
  end
  return table.concat(words, " ")
end

local function traced(what, body)
  it(what, function()
    if not strace.works then pending "strace may not trace here" return end
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

  traced("is gone where nothing was, even if nothing can be removed", function()
    local directory = shell.temporary()
    assert(os.execute("mkdir " .. directory))
    local _, out = strace.run(([[
      local there = assert(io.open(%q .. "/sim_there", "w"))
      there:close()
      for _, name in ipairs { "disk", "there" } do
        print(require("tcmu.keep").remove { hba = "sim", name = name,
                                            state_dir = %q })
      end]]):format(directory, directory), "unlink",
      "-e inject=unlink:error=EROFS")
    os.execute("rm -rf " .. directory)
    assert.matches("^true\nnil\t.*Read%-only file system", out)
  end)
end)
