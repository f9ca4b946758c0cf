--- The kernel: modules and its log.

local file = require "spec.vm.guest.file"
local process = require "spec.vm.guest.process"

local kernel = {}

local marks = 0

--- Loads modules, and what they need.
function kernel.modprobe(...)
  process.sh("modprobe -a " .. table.concat({ ... }, " "))
end

--- Writes a line to the kernel's log.
function kernel.kernel_says(text)
  file.write_file("/dev/kmsg", "<6>spec: " .. text .. "\n")
end

--- Marks the present end of the kernel's log, for kernel_log().
function kernel.log_mark()
  marks = marks + 1
  local mark = ("mark %d of %d"):format(marks, os.time())
  kernel.kernel_says(mark)
  return mark
end

--- The kernel's log, all of it or since a mark, without time stamps.
function kernel.kernel_log(mark)
  local log = process.sh "dmesg --notime"

  if not mark then return log end
  local _, at = log:find("spec: " .. mark .. "\n", 1, true)
  return at and log:sub(at + 1) or ""
end

return kernel
