--- `tcmu-lua resize`: another size for a device that is in use.

local values = require "tcmu.cli.values"

return {
  name = "resize",
  about = "Give a device another size.",
  needs_luv = true,

  declare = function(command)
    command:argument "name":description "The device's name."
    command:argument "size":convert(values.size)
      :description "Its new size, such as 20G."
    command:flag "--force"
      :description "Also make it smaller, which cuts data off."
  end,

  run = function(args)
    local ok, why = require("tcmu.admin").resize(args.name, args.size,
                                                 args.force or false)
    if not ok then return nil, why end
    return 0
  end,
}
