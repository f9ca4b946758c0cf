--- `tcmu-lua explain`: a CDB as a sentence and as a table.

local hex = require "tcmu.cli.hex"
local show = require "tcmu.cli.show"

return {
  name = "explain",
  about = "Tell what the bytes of a CDB mean.",

  declare = function(command)
    command:argument "cdb":args "+"
      :description "Bytes in hex, in any spacing: 12 00 00 00 24 00."
  end,

  run = function(args)
    local bytes, why = hex.parse(table.concat(args.cdb, " "))
    if not bytes then return nil, why, 2 end
    show.cdb(bytes)
    print()
    show.table(bytes)
    return 0
  end,
}
