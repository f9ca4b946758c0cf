--- The list of commands in dist/commands.md is the one that the tables give.
local matrix = require "tcmu.matrix"
local tcmu = require "tcmu"

describe("the list of commands", function()
  it("is up to date", function()
    local file <close> = assert(io.open("dist/commands.md"))
    local text = file:read "a"
    assert.equal(matrix.text(tcmu.disk), text:match "(| Code .*)$")
  end)

  it("tells what a command needs and which fields it refuses", function()
    local text = matrix.text(tcmu.disk)
    assert.matches("| 42h | UNMAP | SBC%-3 | C or Lua | [^|]* | anchor "
                   .. "|  | unmap |", text)
    assert.matches("WRITE %(32%) | SBC%-3 | C or Lua |", text)
    assert.matches("WRITE AND VERIFY %(32%) | SBC%-3 | Lua |", text)
    assert.matches("| 28h | READ %(10%) | SBC%-3 | C or Lua |", text)
    assert.matches("| A0h | REPORT LUNS | SPC%-4 | the kernel |", text)
  end)
end)
