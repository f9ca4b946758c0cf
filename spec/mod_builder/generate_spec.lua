local builder = require "tcm_mod_builder"
local kernels = require "spec.mod_builder.kernels"

--- Generates tcm_x for a header; returns the files by suffix, and the rest.
local function generate(header, options)
  options = options or {}
  local module, why = builder.generate {
    module = options.module or "tcm_x", protocol = options.protocol or "SAS",
    kernel = options.kernel or kernels.headers(header),
    fabric = options.fabric, in_tree = options.in_tree,
  }
  if not module then return nil, why end
  local files = {}
  for _, file in ipairs(module.files) do
    files[file.name:gsub("^" .. (options.module or "tcm_x"), "")] = file.text
  end
  return files, module
end

local function has(text, part) assert.matches(part, text, 1, true) end
local function lacks(text, part) assert.is_nil(text:find(part, 1, true)) end

describe("the module generator", function()
  after_each(kernels.clean)

  it("sets every member that registration insists on", function()
    local files, module = generate(kernels.V5_10)
    assert.equal(22, #module.mandatory)
    for _, name in ipairs(module.mandatory) do
      assert.matches("\n\t%." .. name .. " =%s", files["_configfs.c"])
    end
    assert.same({}, module.unknown)
  end)

  it("sets only what the kernel has", function()
    local files = generate(kernels.V5_10)
    lacks(files["_configfs.c"], "enable_tpg")
    lacks(files["_configfs.c"], "default_submit_type")
    files = generate(kernels.with [[
      int (*fabric_enable_tpg)(struct se_portal_group *se_tpg, bool enable);
      u8 default_submit_type;
    ]])
    has(files["_configfs.c"], "\t.fabric_enable_tpg = tcm_x_enable_tpg,\n")
    has(files["_configfs.c"], "\t.default_submit_type = TARGET_QUEUE_SUBMIT,\n")
  end)

  it("stops a session by the name that the kernel has for it", function()
    has(generate(kernels.V5_10)["_fabric.c"],
      "\ttarget_sess_cmd_list_set_waiting(nexus->se_sess);\n")
    has(generate(kernels.V5_10 .. "void target_stop_session(void);")["_fabric.c"],
      "\ttarget_stop_session(nexus->se_sess);\n")
  end)

  it("writes a stub with the true signature for a member it does not know",
    function()
      local files = generate(kernels.with [[
        void (*nothing)(void);
        int (*fabric_frobnicate)(struct se_cmd *, const u8 key[16],
          int (*done)(void *, int), struct se_cmd *);
        bool (*may)(struct se_lun *lun);
        struct se_lun *(*find)(u64 lun);
        struct pair (*both)(enum side);
      ]])
      for _, part in ipairs {
        "void tcm_x_nothing(void)\n{\n}\n",
        "int tcm_x_frobnicate(struct se_cmd *se_cmd, const u8 key[16],\n"
          .. "\t\t     int (*done)(void *, int), struct se_cmd *se_cmd4)\n{\n"
          .. "\treturn 0;\n}\n",
        "bool tcm_x_may(struct se_lun *lun)\n{\n\treturn false;\n}\n",
        "struct se_lun *tcm_x_find(u64 lun)\n{\n\treturn NULL;\n}\n",
        "struct pair tcm_x_both(enum side arg1)\n{\n"
          .. "\treturn (struct pair){ };\n}\n",
        "Not known to the generator",
      } do
        has(files["_fabric.c"], part)
      end
      has(files["_fabric.h"], "bool tcm_x_may(struct se_lun *lun);\n")
      has(files["_configfs.c"], "\t.fabric_frobnicate = tcm_x_frobnicate,\n")
    end)

  it("names the data that it does not know, and leaves it alone", function()
    local files, module = generate(kernels.with "u32 colour; int shade:2;")
    assert.same({ "colour", "shade" }, module.unknown)
    has(files["_configfs.c"],
      "/* Not known to the generator, and not set here: colour, shade. */")
  end)

  it("puts what depends on a condition under the same condition", function()
    local files = generate(kernels.with [[
#ifdef CONFIG_FROB
      void (*frob)(struct se_cmd *);
#endif
    ]])
    local under = "#if defined(CONFIG_FROB)\n%s#endif\n"
    has(files["_configfs.c"], under:format "\t.frob = tcm_x_frob,\n")
    has(files["_fabric.h"],
      under:format "void tcm_x_frob(struct se_cmd *se_cmd);\n")
    assert.matches("#if defined%(CONFIG_FROB%)\n/%*.-\nvoid tcm_x_frob.-}\n#endif\n",
      files["_fabric.c"])
  end)

  it("stubs a member whose declaration has changed", function()
    local files = generate(kernels.changed("u32 (*sess_get_index)(struct "
      .. "se_session *)", "void (*sess_get_index)(struct se_session *, u32 *out)"))
    has(files["_fabric.c"], "This kernel declares it otherwise")
    has(files["_fabric.c"],
      "void tcm_x_sess_get_index(struct se_session *se_sess, u32 *out)\n{\n}\n")
  end)

  it("refuses a kernel for which no stub would do", function()
    local files, why = generate(kernels.changed(
      "struct se_wwn *,\n\t\tconst char *", "struct se_wwn *"))
    assert.is_nil(files)
    assert.matches("its fabric_make_tpg is declared in a way", why)
    files, why = generate(kernels.changed(", *fabric_name", ", *name"))
    assert.is_nil(files)
    assert.matches("it has no fabric_name; kernels from 5.10 on do", why)
  end)

  it("believes the sources about what is mandatory", function()
    local function tree(insisted)
      return kernels.tree {
        ["include/target/target_core_fabric.h"] = kernels.V5_10,
        ["drivers/target/target_core_configfs.c"] =
          "int target_fabric_tf_ops_check(struct x *tfo) { " .. insisted .. " }",
      }
    end
    local root = tree "if (!tfo->fabric_name || !tfo->fabric_post_link) return 1;"
    local files, module = generate(nil, { kernel = root, in_tree = true })
    assert.same({ "fabric_name", "fabric_post_link" }, module.mandatory)
    has(files["_configfs.c"], "\t.fabric_post_link = tcm_x_post_link,\n")

    local none, why = generate(nil, { kernel = tree "if (!tfo->tail) return 1;" })
    assert.is_nil(none)
    assert.matches("it has no tail", why)
    none, why = generate(nil, { kernel = tree "if (!tfo->node_acl_size) return 1;" })
    assert.is_nil(none)
    assert.matches("registration insists on node_acl_size", why)
  end)

  it("gives initiators an ISID in iSCSI only", function()
    for _, protocol in ipairs { "FC", "SAS", "iSCSI", "SRP", "SBP" } do
      local files = generate(kernels.V5_10, { protocol = protocol })
      local set = files["_configfs.c"]:find("\t.sess_get_initiator_sid =", 1, true)
      assert.equal(protocol == "iSCSI", set ~= nil)
    end
  end)

  it("registers the protocol that was asked for", function()
    for protocol, constant in pairs {
      FC = "FCP", SAS = "SAS", iSCSI = "ISCSI", SRP = "SRP", SBP = "SBP",
    } do
      has(generate(kernels.V5_10, { protocol = protocol })["_configfs.c"],
        "core_tpg_register(wwn, &tpg->se_tpg, SCSI_PROTOCOL_" .. constant .. ");")
    end
    local files, why = generate(kernels.V5_10, { protocol = "UAS" })
    assert.is_nil(files)
    assert.equal("Unsupported proto_ident: UAS; there are FC, SAS, iSCSI, SRP, SBP",
      why)
  end)

  it("calls the directory after the module, or as it is told", function()
    local files, module = generate(kernels.V5_10)
    assert.equal("x", module.fabric)
    has(files["_base.h"], '#define TCM_X_FABRIC_NAME "x"\n')
    files = generate(kernels.V5_10, { fabric = "yonder" })
    has(files["_base.h"], '#define TCM_X_FABRIC_NAME "yonder"\n')
  end)

  it("writes what a module in the tree needs, or one outside of it", function()
    local files = generate(kernels.V5_10)
    has(files.Kbuild, "obj-m := tcm_x.o\n")
    has(files.Makefile, "KDIR ?= ")
    assert.is_nil(files.Kconfig)
    files = generate(kernels.V5_10, { in_tree = true })
    has(files.Makefile, "obj-$(CONFIG_TCM_X) += tcm_x.o\n")
    has(files.Kconfig, "config TCM_X\n\ttristate ")
    assert.is_nil(files.Kbuild)
  end)

  it("gives the same bytes for the same input", function()
    local _, first = generate(kernels.V5_10)
    local _, second = generate(kernels.V5_10)
    assert.same(first.files, second.files)
  end)

  it("says in every file that the code is GPL-2.0", function()
    for _, in_tree in ipairs { false, true } do
      for name, text in pairs(generate(kernels.V5_10, { in_tree = in_tree })) do
        assert.matches("SPDX%-License%-Identifier: GPL%-2%.0[ \n]",
          text:match "^[^\n]*\n", nil, nil, name)
      end
    end
  end)

  it("keeps lines short, even with the longest names", function()
    for _, protocol in ipairs { "FC", "SAS", "iSCSI", "SRP", "SBP" } do
      for _, module in ipairs { "tcm_x", ("x"):rep(31) } do
        local files = generate(kernels.V5_10,
          { module = module, protocol = protocol })
        for name, text in pairs(files) do
          for line in text:gmatch "[^\n]+" do
            local width = 0
            for c in line:gmatch "." do
              width = c == "\t" and (width // 8 + 1) * 8 or width + 1
            end
            assert.is_true(width <= 100 or name == "Kbuild", line)
            assert.is_nil(line:find "[ \t]$")
          end
        end
      end
    end
  end)

  it("names the header when it cannot read it", function()
    local files, why = generate(kernels.with "int (*f)(int;")
    assert.is_nil(files)
    assert.matches("target_core_fabric.h:%d+: cannot read this declaration", why)
  end)
end)
