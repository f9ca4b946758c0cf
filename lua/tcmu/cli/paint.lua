--- Colour on a terminal, and nowhere else.
--
-- paint.bold(text) and so on give the text as it is where standard output is
-- no terminal, where TERM says that it cannot, and where NO_COLOR is set.

local core = require "tcmu.core"

local CODES <const> = { bold = "1", dim = "2", red = "31", green = "32",
                        yellow = "33", cyan = "36" }

local coloured <const> = core.isatty(1) and os.getenv "TERM" ~= "dumb"
                         and (os.getenv "NO_COLOR" or "") == ""

local paint = {}

for name, code in pairs(CODES) do
  paint[name] = coloured
    and function(text) return ("\27[%sm%s\27[0m"):format(code, text) end
    or function(text) return text end
end

return paint
