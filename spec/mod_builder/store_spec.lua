local store = require "tcm_mod_builder.store"
local kernels = require "spec.mod_builder.kernels"

local function quiet() end

describe("the store of generated modules", function()
  local place

  before_each(function()
    place = kernels.tree { keep = "" }
    os.remove(place .. "/keep")
  end)
  after_each(kernels.clean)

  it("writes bytes as they are", function()
    local bytes = "a\r\n\0\xff"
    assert.is_true(store.create(place, "m", { { name = "f", text = bytes } }, quiet))
    assert.equal(bytes, kernels.read(place .. "/m/f"))
  end)

  it("leaves nothing when one of the files cannot be written", function()
    local ok, why = store.create(place, "m", {
      { name = "first", text = "1" }, { name = "no/where", text = "2" },
    }, quiet)
    assert.is_nil(ok)
    assert.matches("no/where", why)
    assert.equal("", kernels.names(place))
  end)

  it("leaves nothing when the disk is full", function()
    local ok = store.create(place, "m", { { name = "first", text = "1" } },
      function()
        assert(os.execute(("ln -s /dev/full '%s/.m.new/first'"):format(place)))
      end)
    assert.is_nil(ok)
    assert.equal("", kernels.names(place))
  end)

  it("tells what is there from what is not", function()
    assert.is_true(store.exists(place))
    assert.is_true(store.exists "/dev/null")
    assert.is_false(store.exists(place .. "/x"))
  end)

  it("appends to a Kconfig that does not end a block", function()
    local root = kernels.tree { ["drivers/target/Kconfig"] = "config A\n\tbool" }
    assert.is_true(store.add_to_kconfig(root, "m"))
    assert.equal('config A\n\tbool\nsource "drivers/target/m/Kconfig"\n',
      kernels.read(root .. "/drivers/target/Kconfig"))
  end)

  it("says so when a file of the tree is missing", function()
    local ok, why = store.add_to_makefile(place, "m")
    assert.is_nil(ok)
    assert.matches("drivers/target/Makefile", why)
  end)
end)
