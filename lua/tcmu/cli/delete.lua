--- `tcmu-lua delete`: the end of a device and of its disk.

return {
  name = "delete",
  about = "Delete a device and its tcm_loop disk.",
  needs_luv = true,

  declare = function(command)
    command:argument "name":description "The device's name."
    command:flag "--force":description "Also if it is in use."
  end,

  run = function(args)
    local ok, why = require("tcmu.admin").delete(args.name,
                                                 args.force or false)
    if not ok then return nil, why end
    return 0
  end,
}
