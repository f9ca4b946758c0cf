-- The doctor on a machine that cannot serve; on one that can, in the VM.
local doctor = require "tcmu.doctor"
local files = require "tcmu.files"
local tree = require "spec.tree"

describe("tcmu.doctor", function()
  local root

  before_each(function() root = tree.make { ["ram.lua"] = "" } end)
  after_each(function() tree.remove(root) end)

  local function text_of(findings)
    local lines = {}
    for i, finding in ipairs(findings) do lines[i] = finding.text end
    return table.concat(lines, "\n")
  end

  it("says what to type when the module is not loaded", function()
    if files.exists "/sys/module/target_core_user" then
      return pending "the module is loaded here"
    end
    local findings, ok = doctor.examine { root }
    assert.is_false(ok)
    assert.matches("'modprobe target_core_user'", text_of(findings), 1, true)
  end)

  it("names the handlers that it finds, or that there are none", function()
    assert.matches("handlers: ram", text_of(doctor.examine { root }), 1, true)
    local findings, ok = doctor.examine { root .. "/none" }
    assert.is_false(ok)
    assert.matches("no handler in " .. root .. "/none", text_of(findings),
                   1, true)
  end)
end)
