local builder = require "tcm_mod_builder"
local names = require "tcm_mod_builder.names"
local kernels = require "spec.mod_builder.kernels"

local function check(module, fabric)
  return names.check(module, fabric or names.fabric_for(module))
end

describe("the names of generated modules", function()
  it("may be C identifiers of up to 31 characters", function()
    for _, name in ipairs { "x", "tcm_nab5000", "Fabric_9", ("x"):rep(31) } do
      assert.is_true(check(name))
    end
    for _, name in ipairs { "", "9x", "_x", "a-b", "a b", "a/b", "../a", "a\n",
                            "tcm_nab;", "\u{e4}", ("x"):rep(32) } do
      assert.is_nil((check(name)))
    end
  end)

  it("may not be words of C, or modules of the kernel", function()
    for name, why in pairs {
      int = "has a meaning in C", linux = "has a meaning in C",
      tcm_loop = "the kernel has a module tcm_loop", vhost_scsi = "the kernel has",
      target_core_user = "the kernel has",
    } do
      local ok, message = check(name)
      assert.is_nil(ok)
      assert.matches(why, message, 1, true)
    end
  end)

  it("give the fabric its name, less a leading tcm_", function()
    assert.equal("nab5000", names.fabric_for "tcm_nab5000")
    assert.equal("x_tcm_y", names.fabric_for "x_tcm_y")
    assert.equal("tcm", names.fabric_for "tcm")
  end)

  it("may not make a fabric that the kernel has, or that is none", function()
    for _, name in ipairs { "tcm_core", "iscsi", "tcm_loopback", "tcm_" } do
      local ok, message = check(name)
      assert.is_nil(ok)
      assert.matches("target/", message)
    end
    assert.is_true(check("tcm_core", "mine"))
    for _, fabric in ipairs { "a/b", ".", "..", "a b", "", 'a"', ("x"):rep(32) } do
      assert.is_nil((check("tcm_x", fabric)))
    end
  end)

  it("may not clash with what the headers define", function()
    finally(kernels.clean)
    local root = kernels.headers(kernels.V5_10
      .. "void foo_make_tpg(void);\n#define BAR_VERSION 1\n")
    for module, clash in pairs { foo = "foo_make_tpg", bar = "BAR_VERSION" } do
      local ok, why = builder.generate { module = module, protocol = "SAS",
                                         kernel = root }
      assert.is_nil(ok)
      assert.equal(("a module %s would define %s, which the kernel's headers have "
        .. "already; choose another name"):format(module, clash), why)
    end
    assert.is_table(builder.generate { module = "foot", protocol = "SAS",
                                       kernel = root })
  end)
end)
