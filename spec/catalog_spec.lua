-- Which handler serves a dev_config.
local catalog = require "tcmu.catalog"
local tree = require "spec.tree"

describe("tcmu.catalog", function()
  local root

  before_each(function()
    root = tree.make { ["a/ram.lua"] = "", ["a/file.lua"] = "",
                       ["a/README"] = "", ["b/ram.lua"] = "" }
  end)
  after_each(function() tree.remove(root) end)

  it("names a handler after its file, the first of two counting", function()
    local paths, names = catalog.find {
      root .. "/a", root .. "/b", root .. "/b/missing", "my/own.lua" }
    assert.same({ "file", "own", "ram" }, names)
    assert.equal(root .. "/a/ram.lua", paths.ram)
    assert.equal("my/own.lua", paths.own)
  end)

  it("matches a subtype exactly", function()
    local paths = { ram = "ram.lua" }
    assert.equal("ram.lua", catalog.resolve(paths, "ram/x=1"))
    assert.is_nil(catalog.resolve(paths, "ra/x=1"))
    assert.is_nil(catalog.resolve(paths, "ramdisk/"))
    assert.is_nil(catalog.resolve(paths, ""))
  end)

  it("runs a file that is not installed", function()
    local path, options = catalog.resolve({}, "lua/path=/x/my.lua;size=3;b=4")
    assert.equal("/x/my.lua", path)
    assert.equal("size=3;b=4", options)
    path, options = catalog.resolve({}, "lua/path=/x/my.lua")
    assert.equal("/x/my.lua", path)
    assert.equal("", options)
    assert.is_nil(catalog.resolve({}, "lua/"))
  end)
end)
