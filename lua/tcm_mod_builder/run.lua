#!/usr/bin/env lua5.4
--- The generator on its own: lua5.4 lua/tcm_mod_builder/run.lua --help
-- Finds its modules beside itself, whatever the current directory is.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/../?.lua;" .. here .. "/../?/init.lua;" .. package.path

os.exit(require("tcm_mod_builder").main(arg))
