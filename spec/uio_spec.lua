-- TCMU devices among the UIO devices of a machine, by a class/uio of our own.
local tree = require "spec.tree"
local uio = require "tcmu.uio"

describe("tcmu.uio", function()
  local root

  after_each(function()
    if root then tree.remove(root) end
    root = nil
  end)

  it("takes a UIO name apart", function()
    assert.same({
      hba = "user_3", name = "disk1", config = "file/path=/x/y",
      subtype = "file", options_text = "path=/x/y",
    }, uio.parse("tcm-user/3/disk1/file/path=/x/y"))
  end)

  it("keeps the second slash of an absolute path", function()
    local found = uio.parse("tcm-user/0/d/file//tmp/x")
    assert.equal("file//tmp/x", found.config)
    assert.equal("/tmp/x", found.options_text)
  end)

  it("knows a device without a config", function()
    local found = uio.parse("tcm-user/0/d")
    assert.equal("d", found.name)
    assert.equal("", found.subtype)
  end)

  it("leaves out the newline that echo has put behind a config", function()
    local found = uio.parse("tcm-user/0/d/file/path=/x\n")
    assert.equal("file/path=/x", found.config)
    assert.equal("path=/x", found.options_text)
    assert.equal("ram", uio.parse("tcm-user/0/d/ram\n").subtype)
  end)

  it("takes a subtype whole, never a part of it", function()
    assert.equal("ramdisk", uio.parse("tcm-user/0/d/ramdisk/").subtype)
    assert.equal("ram", uio.parse("tcm-user/0/d/ram").subtype)
  end)

  it("passes over UIO devices of other drivers", function()
    root = tree.make {
      ["uio0/name"] = "some-fpga\n",
      ["uio1/name"] = "tcm-user/0/a/ram/\n",
      ["uio10/name"] = "tcm-user/2/c/ram/\n",
      ["uio2/name"] = "tcm-user/1/b/file/x\n",
      ["notuio/name"] = "tcm-user/1/b/file/x\n",
    }
    local names, minors = {}, {}
    for i, found in ipairs(uio.scan(root)) do
      names[i], minors[i] = found.name, found.minor
    end
    assert.same({ "a", "b", "c" }, names)
    assert.same({ 1, 2, 10 }, minors)
  end)

  it("reads the mapping's size from sysfs", function()
    root = tree.make { ["uio4/maps/map0/size"] = "0x40800000\n" }
    assert.equal(0x40800000, uio.map_size(4, root))
    assert.is_nil(uio.map_size(5, root))
  end)
end)
