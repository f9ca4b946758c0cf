--- The generator as a program: options, output, and what it leaves on the disk.

local kernels = require "spec.mod_builder.kernels"

local RUN <const> = "lua5.4 lua/tcm_mod_builder/run.lua "

--- Runs the generator: exit status, standard output, standard error.
local function run(arguments, input)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("printf '%s' | %s %s 2>%s"):format(input or "",
    RUN, arguments, errors)))
  local output = pipe:read("a")
  local _, _, status = pipe:close()
  local complaint = kernels.read(errors)
  os.remove(errors)
  return status, output, complaint
end

local MAKEFILE <const> = "obj-$(CONFIG_SBP_TARGET)\t+= sbp/\n"
local KCONFIG <const> = "menuconfig TARGET_CORE\n\ttristate \"Core\"\n\n"
  .. "if TARGET_CORE\n\nsource \"drivers/target/sbp/Kconfig\"\n\nendif\n"

local function tree()
  return kernels.tree {
    ["include/target/target_core_fabric.h"] = kernels.V5_10,
    ["drivers/target/Makefile"] = MAKEFILE,
    ["drivers/target/Kconfig"] = KCONFIG,
    ["drivers/target/sbp/Kconfig"] = "config SBP_TARGET\n\ttristate \"SBP\"\n",
  }
end

describe("tcm-mod-builder", function()
  local headers, place

  before_each(function()
    headers = kernels.headers(kernels.V5_10)
    place = kernels.tree { [".keep"] = "" }
    os.remove(place .. "/.keep")
  end)
  after_each(kernels.clean)

  local function outside(arguments)
    return run(("%s --kernel '%s' -o '%s'"):format(arguments, headers, place))
  end

  it("tells what it does, in the lines of the first generator", function()
    local status, output, complaint = outside "-p iSCSI -m tcm_nab5000"
    assert.equal("", complaint)
    assert.equal(0, status)
    local dir = place .. "/tcm_nab5000"
    assert.equal(([[
tcm_dir: H/
Set fabric_mod_name: tcm_nab5000
Set fabric_mod_dir: D
Using proto_ident: iSCSI
Creating fabric_mod_dir: D
Writing file: D/tcm_nab5000_base.h
Using tcm_mod_scan_fabric_ops: H/include/target/target_core_fabric.h
Writing file: D/tcm_nab5000_fabric.c
Writing file: D/tcm_nab5000_fabric.h
Writing file: D/tcm_nab5000_configfs.c
Writing file: D/Kbuild
Writing file: D/Makefile
Once loaded, it is configured at target/nab5000 in configfs
]]):gsub("%f[%u][HD]%f[/\n]", { H = headers, D = dir }), output)
    assert.equal("Kbuild\nMakefile\ntcm_nab5000_base.h\ntcm_nab5000_configfs.c\n"
      .. "tcm_nab5000_fabric.c\ntcm_nab5000_fabric.h\n", kernels.names(dir))
    assert.equal("tcm_nab5000\n", kernels.names(place))
  end)

  it("takes the long options, and protocols in any case", function()
    local status, output = outside
      "--protoident fc --modulename tcm_x --fabric-name yonder"
    assert.equal(0, status)
    assert.matches("Using proto_ident: FC\n", output)
    assert.matches("configured at target/yonder in", output)
  end)

  it("says in its help which directory the module will have", function()
    local status, output = run "--help"
    assert.equal(0, status)
    assert.matches("target/nab5000 for tcm_nab5000", output:gsub("%s+", " "), 1, true)
  end)

  it("ends with 2 when it was asked in the wrong way", function()
    for arguments, why in pairs {
      ["-m tcm_x"] = "mandatory option is missing",
      ["-p FC"] = "mandatory option is missing",
      ["-m tcm_x -p UAS"] = "Unsupported proto_ident: UAS",
      ["-m tcm_x -p FC --bogus"] = "unknown option",
      ["-m tcm_x -p FC --yes"] = "--yes and --no answer the questions of --in-tree",
      ["-m tcm_x -p FC --in-tree . --yes --no"] = "can not be used together",
      ["-m tcm_x -p FC --in-tree . -o ."] = "--in-tree says where",
    } do
      local status, output, complaint = run(arguments)
      assert.equal(2, status)
      assert.equal("", output)
      assert.matches(why, complaint, 1, true)
      assert.matches("^Usage: ", complaint)
    end
  end)

  it("refuses a directory that is there, and leaves it alone", function()
    assert(os.execute(("mkdir '%s/tcm_x'"):format(place)))
    local status, _, complaint = outside "-m tcm_x -p FC"
    assert.equal(1, status)
    assert.equal(("tcm-mod-builder: %s/tcm_x exists already; remove it, or take "
      .. "another name\n"):format(place), complaint)
    assert.equal("", kernels.names(place .. "/tcm_x"))
  end)

  it("leaves nothing when the names or the headers will not do", function()
    for _, arguments in ipairs { "-m 'a b' -p FC", "-m tcm_core -p FC" } do
      assert.equal(1, (outside(arguments)))
    end
    headers = kernels.headers "struct target_core_fabric_ops { int a; };"
    assert.equal(1, (outside "-m tcm_x -p FC"))
    headers = place
    assert.equal(1, (outside "-m tcm_x -p FC"))
    assert.equal("", kernels.names(place))
  end)

  it("says so when there is no place for the directory", function()
    place = place .. "/nowhere"
    local status, _, complaint = outside "-m tcm_x -p FC"
    assert.equal(1, status)
    assert.matches("cannot make a directory in .*/nowhere", complaint)
  end)

  it("minds what another run has begun", function()
    assert(os.execute(("mkdir '%s/.tcm_x.new'"):format(place)))
    local status, _, complaint = outside "-m tcm_x -p FC"
    assert.equal(1, status)
    assert.matches("another run is busy or was interrupted", complaint)
    assert.equal(".tcm_x.new\n", kernels.names(place))
  end)

  it("copes with any character in a path", function()
    assert(os.execute(("mkdir \"%s/it's; \\$HOME\""):format(place)))
    local status = run(("-m tcm_x -p FC --kernel '%s' -o \"%s/it's; \\$HOME\"")
      :format(headers, place))
    assert.equal(0, status)
    assert.equal("tcm_x\n", kernels.names(place .. "/it'\\''s; $HOME"))
  end)

  describe("in a kernel tree", function()
    local root

    before_each(function() root = tree() end)

    local function inside(arguments, input)
      return run(("-p FC -m tcm_x --in-tree '%s' %s"):format(root, arguments),
        input)
    end
    local function makefile() return kernels.read(root .. "/drivers/target/Makefile") end
    local function kconfig() return kernels.read(root .. "/drivers/target/Kconfig") end

    it("asks the two questions of the first generator", function()
      local status, output = inside("", "yes\\ny\\n")
      assert.equal(0, status)
      assert.matches(
        "Would you like to add tcm_x to drivers/target/Makefile..? [yes,no]: "
        .. "Would you like to add tcm_x to drivers/target/Kconfig..? [yes,no]: ",
        output, 1, true)
      assert.equal(MAKEFILE .. "obj-$(CONFIG_TCM_X)\t+= tcm_x/\n", makefile())
      assert.matches('sbp/Kconfig"\nsource "drivers/target/tcm_x/Kconfig"\n\nendif\n',
        kconfig(), 1, true)
      assert.equal("Kconfig\nMakefile\ntcm_x_base.h\ntcm_x_configfs.c\n"
        .. "tcm_x_fabric.c\ntcm_x_fabric.h\n",
        kernels.names(root .. "/drivers/target/tcm_x"))
    end)

    it("takes anything but yes for no, silence too", function()
      for _, input in ipairs { "no\\nYES please\\n", "" } do
        assert.equal(0, (inside("", input)))
        assert.equal(MAKEFILE, makefile())
        assert.equal(KCONFIG, kconfig())
        assert(os.execute(("rm -r '%s/drivers/target/tcm_x'"):format(root)))
      end
    end)

    it("takes the answers from its options", function()
      assert.equal(0, (inside("--no", "yes\\nyes\\n")))
      assert.equal(MAKEFILE, makefile())
      assert(os.execute(("rm -r '%s/drivers/target/tcm_x'"):format(root)))
      local status, output = inside("--yes")
      assert.equal(0, status)
      assert.matches("Makefile..? [yes,no]: yes\nWould", output, 1, true)
      assert.matches("tcm_x", makefile())
      assert.matches("tcm_x", kconfig())
    end)

    it("adds nothing twice", function()
      local line = "obj-$(CONFIG_TCM_X)\t+= tcm_x/\n"
      local file = io.open(root .. "/drivers/target/Makefile", "w")
      file:write(line, MAKEFILE)
      file:close()
      assert.equal(0, (inside "--yes"))
      assert.equal(line .. MAKEFILE, makefile())
    end)

    it("refuses a name that the tree's Kconfig files have", function()
      local file = io.open(root .. "/drivers/target/sbp/Kconfig", "a")
      file:write("\nconfig TCM_X\n\tbool\n")
      file:close()
      local status, _, complaint = inside "--yes"
      assert.equal(1, status)
      assert.matches("the tree has a CONFIG_TCM_X already", complaint)
      assert.equal(MAKEFILE, makefile())
    end)
  end)
end)
