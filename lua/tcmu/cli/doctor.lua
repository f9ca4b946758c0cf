--- `tcmu-lua doctor`: why it does not work, and what to type.

local paint = require "tcmu.cli.paint"

return {
  name = "doctor",
  about = "Find out what is in the way of serving, and say what to type.",
  needs_luv = true,

  run = function(_, env)
    local findings, sound = require("tcmu.doctor").examine {
      env.paths.handlers,
    }
    for _, finding in ipairs(findings) do
      print(("%s  %s"):format(finding.ok and paint.green "ok" or paint.red "no",
                              finding.text))
    end
    return sound and 0 or 1
  end,
}
