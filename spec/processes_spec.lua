-- What /proc tells, by a proc of our own with the text of a real one.
local processes = require "tcmu.processes"
local tree = require "spec.tree"
local uv = require "luv"

local ENABLE <const> = [[
[<0>] tcmu_netlink_event_send+0x17e/0x2d0 [target_core_user]
[<0>] tcmu_configure_device+0x26e/0x390 [target_core_user]
[<0>] target_dev_enable_store+0x32/0x50 [target_core_mod]
[<0>] configfs_write_iter+0xb0/0x120 [configfs]
]]

local RMDIR <const> = [[
[<0>] tcmu_netlink_event_send+0x17e/0x2d0 [target_core_user]
[<0>] tcmu_destroy_device+0xc3/0x150 [target_core_user]
[<0>] configfs_rmdir+0x302/0x390 [configfs]
[<0>] vfs_rmdir+0x93/0x200
]]

local CONFIGFS <const> = "/sys/kernel/config/target/core/"

local function process(pid, name, state, stack, writes)
  local at = pid .. "/"
  return {
    [at .. "comm"] = name .. "\n",
    [at .. ("task/%d/stat"):format(pid)] =
      ("%d (%s) %s 1 1 1 0"):format(pid, name, state),
    [at .. ("task/%d/stack"):format(pid)] = stack,
    [at .. "fd/0"] = { link = "/dev/null" },
    [at .. "fd/1"] = { link = writes and CONFIGFS .. writes or "/dev/null" },
  }
end

describe("tcmu.processes", function()
  local root

  local function proc(...)
    root = tree.make {}
    for _, files in ipairs { ... } do tree.add(root, files) end
  end

  after_each(function()
    tree.remove(root)
  end)

  it("names an enable that waits for an answer, and its device", function()
    proc(process(71, "sh", "D", ENABLE, "user_0/d1/enable"))
    assert.same({ {
      pid = 71, process = "sh", command = "added",
      hba = "user_0", name = "d1", file = "enable",
    } }, processes.waiting(root))
  end)

  it("tells a change of an attribute from an enable", function()
    proc(process(71, "sh", "D", ENABLE, "user_0/d1/attrib/dev_size"))
    local wait = processes.waiting(root)[1]
    assert.equal("reconfig", wait.command)
    assert.equal("attrib/dev_size", wait.file)
  end)

  it("cannot tell which device an rmdir removes, but that it waits", function()
    proc(process(72, "rmdir", "D", RMDIR))
    assert.same({ { pid = 72, process = "rmdir", command = "removed" } },
                processes.waiting(root))
  end)

  it("finds a removal that hangs, whatever for", function()
    proc(process(75, "sh", "D", ENABLE, "user_0/d1/enable"))
    assert.is_nil(processes.hanging_rmdir(root))
    tree.add(root, process(76, "rmdir", "D",
      "[<0>] rwsem_down_write_slowpath+0x1\n[<0>] configfs_rmdir+0x2\n"))
    assert.same({ pid = 76, name = "rmdir" }, processes.hanging_rmdir(root))
    assert.equal(1, #processes.waiting(root))
  end)

  it("leaves out what waits for something else", function()
    proc(process(1, "init", "S", "[<0>] do_epoll_wait+0x5e1/0x700\n"),
         process(73, "dd", "D", "[<0>] folio_wait_bit+0x1/0x2\n"),
         process(74, "sh", "S", ENABLE, "user_0/d1/enable"))
    assert.same({}, processes.waiting(root))
  end)

  it("finds who listens to a netlink group, but not itself", function()
    proc(process(512, "tcmu-runner", "S", ""), process(600, "other", "S", ""),
      { ["net/netlink"] = ([[
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks
00000000ea02c692 16  %d  00000100 0        0        0     2        0 1
00000000ea02c693 16  %d  00000100 0        0        0     2        0 1
00000000ea02c694 16  600  00000080 0        0        0     2        0 1
00000000ea02c695 15  600  00000100 0        0        0     2        0 1
]]):format(512 + (493 << 22), uv.os_getpid()) })
    assert.same({ { pid = 512, name = "tcmu-runner" } },
                processes.listeners(9, root))
  end)

  it("admits that it cannot see a group above 32", function()
    proc()
    assert.is_nil(processes.listeners(33, root))
  end)

  it("finds who has a device open", function()
    proc(process(80, "tcmu-runner", "S", ""))
    tree.add(root, { ["80/fd/7"] = { link = "/dev/uio4" } })
    assert.same({ ["/dev/uio4"] = { pid = 80, name = "tcmu-runner" } },
                processes.holders({ "/dev/uio3", "/dev/uio4" }, root))
  end)
end)
