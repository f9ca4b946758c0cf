local kernel = require "tcm_mod_builder.kernel"
local kernels = require "spec.mod_builder.kernels"

local HEADER <const> = "include/target/target_core_fabric.h"

describe("the kernel reader of the module generator", function()
  after_each(kernels.clean)

  it("reads a directory that has the headers", function()
    local root = kernels.headers(kernels.V5_10)
    local read = assert(kernel.read(root .. "/"))
    assert.equal(root .. "/" .. HEADER, read.header)
    assert.equal("module", read.members[1].name)
    assert.equal("fabric_name", read.members[3].name)
    assert.is_nil(read.insisted)
    assert.is_true(read.declared.target_sess_cmd_list_set_waiting)
    assert.is_true(read.declared.TARGET_CORE_FABRIC_H)
    assert.is_nil(read.declared.target_stop_session)
  end)

  it("follows the Makefile of Debian's header packages", function()
    local root = kernels.headers(kernels.V5_10)
    local build = kernels.tree { Makefile = "include " .. root .. "/Makefile\n" }
    assert.equal(root .. "/" .. HEADER, kernel.read(build).header)
  end)

  it("follows the source link of a separate build directory", function()
    local root = kernels.headers(kernels.V5_10)
    local build = kernels.tree { [".config"] = "" }
    assert(os.execute(("ln -s '%s' '%s/source'"):format(root, build)))
    assert.equal(build .. "/source/" .. HEADER, kernel.read(build).header)
  end)

  it("takes the directory of a kernel's modules for its build directory",
    function()
      local root = kernels.headers(kernels.V5_10)
      local modules = kernels.tree {
        ["build/Makefile"] = "include " .. root .. "/Makefile\n" }
      assert.equal(root .. "/" .. HEADER, kernel.read(modules).header)
    end)

  it("says what to install where there are no headers", function()
    local read, why = kernel.read(kernels.tree { Makefile = "all:\n" })
    assert.is_nil(read)
    assert.matches("install the kernel's header package", why)
  end)

  it("refuses a header without the structure", function()
    local read, why = kernel.read(kernels.headers "struct target_core_fabric_ops;")
    assert.is_nil(read)
    assert.matches("does not define struct target_core_fabric_ops", why)
  end)

  it("finds in the sources what registration insists on", function()
    local read = kernel.read(kernels.tree {
      [HEADER] = kernels.V5_10,
      ["drivers/target/target_core_configfs.c"] = [[
        static int target_fabric_tf_ops_check(const struct x *tfo);
        static int before(const struct x *tfo) { return !tfo->unrelated; }
        static int target_fabric_tf_ops_check(const struct x *tfo)
        {
          if (tfo->fabric_alias) { if (strlen(tfo->fabric_alias) > 31) return 1; }
          if (!tfo->fabric_name) { pr_err("!tfo->quoted"); return -EINVAL; }
          /* if (!tfo->commented) */
          if (!tfo->tpg_get_wwn ||
              ! tfo->frobnicate)
            return -EINVAL;
          return 0;
        }
        int after(const struct x *tfo) { return !tfo->unrelated; }
      ]],
    })
    assert.same({ "fabric_name", "tpg_get_wwn", "frobnicate" }, read.insisted)
  end)
end)
