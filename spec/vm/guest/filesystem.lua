--- File systems on a disk under test, and a tree of files to trust them with.

local file = require "spec.vm.guest.file"
local process = require "spec.vm.guest.process"
local undo = require "spec.vm.guest.undo"

local filesystem = {}

-- How to make and to check each; neither asks anything.
local KINDS <const> = {
  ext4 = { make = "mkfs.ext4 -q -F", check = "e2fsck -fn" },
  xfs = { make = "mkfs.xfs -q -f", check = "xfs_repair -n" },
}

-- 20 MB in 1100 files of the guest itself, and its links.
local TREE <const> = "/usr/share/lua /usr/lib/python3 /usr/sbin"

local SECONDS <const> = 300

local count = 0

--- Makes a file system ("ext4" or "xfs") on a block device.
function filesystem.make_filesystem(path, kind)
  process.sh_within(SECONDS, "%s %s", KINDS[kind].make, path)
end

--- Checks it, not mounted.  Raises with what the checker found.
function filesystem.check_filesystem(path, kind)
  process.sh_within(SECONDS, "%s %s", KINDS[kind].check, path)
end

--- Mounts a block device at a new place.  Returns the place and a function
-- that unmounts it.
function filesystem.mount(path, options)
  count = count + 1
  local at = "/run/mount-" .. count

  file.mkdir(at)
  process.sh("mount -o %s %s %s", options or "defaults", path, at)
  return at, undo.defer(function()
    process.sh_within(SECONDS, "umount %s", at)
  end)
end

--- The checksums of all files below a folder, as one text.
function filesystem.checksums(dir)
  return process.sh_within(SECONDS,
    "cd %s && find . -type f -print0 | sort -z | xargs -0 md5sum", dir)
end

--- Puts a disk through it: file system, a tree of files, unmount, check, mount
-- again.  Raises unless every file comes back as it was.
function filesystem.survives_filesystem(path, kind)
  filesystem.make_filesystem(path, kind)
  local at, unmount = filesystem.mount(path)
  process.sh_within(SECONDS, "mkdir %s/tree && cp -a %s %s/tree", at, TREE, at)
  local before = filesystem.checksums(at .. "/tree")
  unmount()

  filesystem.check_filesystem(path, kind)
  at, unmount = filesystem.mount(path, "ro")
  local after = filesystem.checksums(at .. "/tree")
  unmount()
  if after ~= before then
    error(("files changed on %s (%s):\n%s"):format(path, kind, after), 2)
  end
end

return filesystem
