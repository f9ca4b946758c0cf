--- What a spec inside the guest works with.
-- One table out of the files in guest/: processes, files, the kernel's log,
-- LIO's configfs, disks, and the product's daemon.  Everything that is made
-- here is taken away again by guest.cleanup(), the last made first.
--
--   local guest = require "spec.vm.guest"
--   describe("...", function()
--     after_each(guest.cleanup)

if not os.getenv "IN_GUEST" then
  error("this changes the machine it is run on: use spec/vm/check FILE", 0)
end

local guest = {}

for _, part in ipairs {
  "undo", "wait", "file", "process", "kernel", "device", "disk", "filesystem",
  "daemon",
} do
  for name, value in pairs(require("spec.vm.guest." .. part)) do
    assert(guest[name] == nil, name)
    guest[name] = value
  end
end

return guest
