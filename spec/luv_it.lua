--- it(), for what needs luv.
local busted = require "busted"

local has_luv <const> = pcall(require, "luv")

return function(what, body)
  if has_luv then return busted.it(what, body) end
  busted.pending(what .. ": luv is not installed")
end
