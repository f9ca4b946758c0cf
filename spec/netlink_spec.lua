-- The netlink socket where there is no target module; its life with one is
-- proven in the VM.
local core = require "tcmu.core"
local files = require "tcmu.files"

describe("core.netlink", function()
  it("says which module is missing, and what to type", function()
    if files.exists "/sys/module/target_core_user" then
      return pending "the module is loaded here"
    end
    local nl, why = core.netlink.open()
    assert.is_nil(nl)
    -- A sandbox may refuse the socket itself.
    assert.truthy(why:find("modprobe target_core_user", 1, true) or
                  why:find("AF_NETLINK", 1, true))
  end)
end)
