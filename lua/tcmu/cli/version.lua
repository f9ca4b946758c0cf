--- `tcmu-lua --version`: what this program is made of.

local tcmu = require "tcmu"

local version = {}

--- The versions of the program and of the libraries that it found.
function version.text()
  local found, uv = pcall(require, "luv")
  return ("tcmu-lua %s\n%s\n%s"):format(tcmu.version, _VERSION,
    found and "luv with libuv " .. uv.version_string()
    or "no luv, which 'serve' needs: type 'apt-get install lua-luv'")
end

return version
