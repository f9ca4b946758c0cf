--- Options of a handler: their declaration, and the text that sets them.
local option = require "tcmu.option"

local DECLARED <const> = {
  path = option.path "the file",
  mode = option.choice { "how", "rw", "ro", default = "rw" },
  count = option.integer { "how many", default = 3 },
  size = option.size { "how large", optional = true },
  sparse = option.boolean { "with holes", default = true },
  ratio = option.number { "how much", optional = true },
  label = option.string { "a name", default = "" },
  sync = option.choice { "when", "now", "later", optional = true },
}

local function parse(text) return option.parse(DECLARED, text) end

local function refusal(text, declared)
  local values, why = option.parse(declared or DECLARED, text)
  assert.is_nil(values)
  return why
end

describe("the text of a dev_config", function()
  it("may be just the value of the option that was declared first", function()
    assert.equal("/srv/disk.img", parse("/srv/disk.img").path)
  end)

  it("names options, between semicolons, in any order", function()
    local v = parse "mode=ro;path=/a;count=7"
    assert.same({ "/a", "ro", 7 }, { v.path, v.mode, v.count })
  end)

  it("may begin with the value of the first and go on with names", function()
    local v = parse "/a;sparse=no"
    assert.same({ "/a", false }, { v.path, v.sparse })
  end)

  it("leaves the rest at their defaults", function()
    local v = parse "/a"
    assert.same({ "rw", 3, true, "" }, { v.mode, v.count, v.sparse, v.label })
    assert.is_nil(v.size)
    assert.is_nil(v.ratio)
  end)

  it("may have '=' and spaces in a value, and empty parts", function()
    assert.equal("/a b=c", parse("path=/a b=c").path)
    assert.equal("/a", parse(";;path=/a;").path)
  end)

  it("may be empty where nothing has to be given", function()
    assert.same({}, (option.parse(nil, "")))
    assert.same({}, (option.parse({}, nil)))
  end)
end)

describe("a value", function()
  it("of type size has units", function()
    for text, bytes in pairs { ["0"] = 0, ["512"] = 512, ["64K"] = 65536,
                               ["64kib"] = 65536, ["1.5M"] = 1572864,
                               ["10GiB"] = 10 << 30, ["2t"] = 2 << 40 } do
      assert.equal(bytes, parse("path=/a;size=" .. text).size)
      assert.equal("integer", math.type(parse("path=/a;size=" .. text).size))
    end
  end)

  it("of type boolean is yes or no in the usual words", function()
    for text, value in pairs { yes = true, no = false, on = true, off = false,
                               ["1"] = true, ["0"] = false, TRUE = true,
                               ["false"] = false } do
      assert.equal(value, parse("path=/a;sparse=" .. text).sparse)
    end
  end)

  it("of type integer or number is one", function()
    assert.equal(-5, parse("path=/a;count=-5").count)
    assert.equal(16, parse("path=/a;count=0x10").count)
    assert.equal(0.5, parse("path=/a;ratio=0.5").ratio)
  end)
end)

describe("a wrong text is refused with one sentence:", function()
  it("a missing option", function()
    assert.equal("option 'path' is missing: the file", refusal "")
    assert.equal("option 'path' is missing: the file", refusal "mode=ro")
  end)

  it("an unknown option, with the nearest known one", function()
    assert.matches("there is no option 'mod'.*'mode'", refusal "path=/a;mod=ro")
  end)

  it("an option for a handler without any", function()
    assert.equal("'x': this handler has no options", refusal("x", {}))
    assert.matches("no option 'x'", refusal("x=1", {}))
  end)

  it("an option that is given twice", function()
    assert.equal("option 'path' is given twice", refusal "/a;path=/b")
    assert.equal("option 'sparse' is given twice",
                 refusal "/a;sparse=no;sparse=no")
  end)

  it("a value that is none of the choices", function()
    assert.matches("^option 'mode': 'r0' is none of rw, ro", refusal "/a;mode=r0")
  end)

  it("a value of another type", function()
    assert.equal("option 'count': '1.5' is not an integer",
                 refusal "/a;count=1.5")
    assert.equal("option 'count': '' is not an integer", refusal "/a;count=")
    assert.equal("option 'ratio': 'x' is not a number", refusal "/a;ratio=x")
    assert.matches("'maybe' is neither yes nor no", refusal "/a;sparse=maybe")
    for _, size in ipairs { "", "big", "-1", "1.0001", "9E", "99999999999T" } do
      assert.matches("is not a size such as", refusal("/a;size=" .. size))
    end
  end)

  it("a path that is empty", function()
    assert.equal("option 'path': a path is needed", refusal "path=")
  end)
end)

describe("a declaration", function()
  it("needs a text that says what it is", function()
    assert.has_error(function() option.string {} end)
    assert.has_error(function() option.string(42) end)
    assert.has_error(function() option.choice { "one", "a" } end)
  end)

  it("is known as one", function()
    assert.is_true(option.is(DECLARED.path))
    assert.is_false(option.is "path")
    assert.is_false(option.is {})
  end)

  it("keeps its order", function()
    assert.same({ "path", "mode", "count", "size", "sparse", "ratio", "label",
                  "sync" }, option.names(DECLARED))
  end)

  it("describes itself for help", function()
    local lines = option.describe(DECLARED)
    assert.equal("path=PATH  the file", lines[1])
    assert.equal("mode=rw|ro  how (default rw)", lines[2])
    assert.equal("size=SIZE  how large (optional)", lines[4])
    assert.equal("sync=now|later  when (optional)", lines[8])
  end)

  it("with a default that is not of its type is refused", function()
    for _, make in ipairs {
      function() return option.integer { "n", default = "3" } end,
      function() return option.boolean { "b", default = "no" } end,
      function() return option.choice { "c", "a", "b", default = "x" } end,
      function() return option.size { "s", default = "10G" } end,
      function() return option.string { "s", default = 1 } end,
    } do
      assert.has_error(make)
    end
  end)
end)
