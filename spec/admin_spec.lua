-- What `create` refuses before the kernel hears of it.
local admin = require "tcmu.admin"

describe("tcmu.admin", function()
  local function create(more)
    local of = {
      name = "d", handler = "ram", size = 1 << 20,
      check = function() return true end,
    }
    for key, value in pairs(more) do of[key] = value end
    local made, why = admin.create(of)
    assert.is_nil(made)
    return why
  end

  it("asks the handler whether it likes its options", function()
    assert.equal("there is no /x", create {
      options = "path=/x",
      check = function(options)
        assert.equal("path=/x", options)
        return nil, "there is no /x"
      end,
    })
  end)

  it("refuses a comma, where the kernel would cut the options off", function()
    assert.matches("comma", create { options = "a=1,b=2" })
  end)

  it("refuses a config that the kernel would cut off at its end", function()
    assert.matches("4 characters too long",
                   create { options = ("x"):rep(255) })
  end)

  it("refuses names that are no directory, or not one alone", function()
    for _, name in ipairs { "", ".", "..", "a/b", "a b", "-x", "a\n" } do
      assert.matches("is no device name", create { name = name })
    end
  end)

  it("refuses sizes that no disk has", function()
    assert.matches("round it to 512", create { size = 1000 })
    assert.matches("hw_block_size", create { block_size = 500 })
    assert.matches("dev_size", create { size = 0 })
  end)
end)
