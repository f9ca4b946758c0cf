--- A directory tree for a spec: real files in the place of sysfs and configfs.
local uv = require "luv"

local tree = {}

local function parents(path)
  local at = ""
  for part in path:gmatch("([^/]+)/") do
    at = at .. "/" .. part
    uv.fs_mkdir(at, tonumber("755", 8))
  end
end

--- Makes the files; { path = text }, { path = { link = target } }, and a path
--- that ends with "/" for a directory.
-- @return where the tree is
function tree.make(files)
  local root = assert(uv.fs_mkdtemp("/tmp/tcmu-spec-XXXXXX"))
  tree.add(root, files)
  return root
end

function tree.add(root, files)
  for path, content in pairs(files) do
    local full = root .. "/" .. path
    parents(full)
    if type(content) == "table" then
      assert(uv.fs_symlink(content.link, full))
    elseif path:sub(-1) ~= "/" then
      local f <close> = assert(io.open(full, "w"))
      f:write(content)
    end
  end
end

function tree.read(path)
  local f <close> = assert(io.open(path))
  return f:read("a")
end

function tree.remove(root)
  assert(root:find("^/tmp/tcmu%-spec%-"))
  os.execute("rm -rf " .. root)
end

--- What a user backstore's directory holds before anybody has set much.
function tree.device(values)
  local files = {
    ["enable"] = "1\n",
    ["control"] = "",
    ["info"] = "Status: DEACTIVATED  Max Queue Depth: 0\n",
    ["attrib/dev_size"] = "67108864\n",
    ["attrib/hw_block_size"] = "512\n",
    ["attrib/hw_max_sectors"] = "2048\n",
    ["attrib/emulate_write_cache"] = "1\n",
    ["attrib/cmd_time_out"] = "30\n",
    ["attrib/tmr_notification"] = "0\n",
    ["attrib/nl_reply_supported"] = "1\n",
    ["action/block_dev"] = "unblocked\n",
    ["action/reset_ring"] = "",
    ["statistics/scsi_dev/indx"] = "7\n",
    ["wwn/vpd_unit_serial"] = "T10 VPD Unit Serial Number: \n",
    ["wwn/vendor_id"] = "LIO-ORG\n",
    ["wwn/product_id"] = "\n",
    ["wwn/revision"] = "\n",
    ["wwn/company_id"] = "0x001405\n",
  }
  for path, text in pairs(values or {}) do files[path] = text end
  return files
end

--- The files of tree.device() under core/HBA/NAME.
function tree.backstore(at, values)
  local files = {}
  for path, text in pairs(tree.device(values)) do
    files["core/" .. at .. "/" .. path] = text
  end
  return files
end

--- The files of a target port group of core/HBA/NAME.
function tree.group(at, name, values)
  local files = {
    alua_access_state = "0\n", alua_access_status = "None\n",
    alua_access_type = "Implicit and Explicit\n", members = "",
    preferred = "0\n", tg_pt_gp_id = "0\n",
  }
  for _, state in ipairs { "active_nonoptimized", "active_optimized",
                           "lba_dependent", "offline", "standby",
                           "transitioning", "unavailable" } do
    files["alua_support_" .. state] = "1\n"
  end
  for file, text in pairs(values) do files[file] = text end
  local paths = {}
  for file, text in pairs(files) do
    paths[("core/%s/alua/%s/%s"):format(at, name, file)] = text
  end
  return paths
end

return tree
