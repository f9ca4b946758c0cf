--- The command line as a user meets it: ./tcmu-lua, its output and its status.

local cli = require "spec.cli_run"

local DONE <const>, FAILED <const>, MISUSED <const> = 0, 1, 2

-- One sentence for people: a line that says who speaks.
local function refuses(arguments, pattern, status)
  local r = cli.run(arguments)
  assert.equal(status or FAILED, r.status)
  assert.equal("", r.out)
  assert.matches("^tcmu%-lua: [^\n]+\n$", r.err)
  assert.matches(pattern, r.err)
end

describe("tcmu-lua", function()
  teardown(cli.clean)

  it("shows its usage and ends with 2 when nothing is asked", function()
    local r = cli.run ""
    assert.equal(MISUSED, r.status)
    assert.equal("", r.out)
    assert.matches("^Usage: tcmu%-lua .*Error: a command is required\n$", r.err)
  end)

  it("names the nearest verb to one that does not exist", function()
    local r = cli.run "lst"
    assert.equal(MISUSED, r.status)
    assert.matches("unknown command 'lst'\nDid you mean 'list'", r.err)
  end)

  it("lists every verb in its help", function()
    local r = cli.run "--help"
    assert.equal(DONE, r.status)
    for _, verb in ipairs { "serve", "try", "check", "list", "create", "resize",
                            "delete", "explain", "doctor", "mod-builder" } do
      assert.matches("\n   " .. verb:gsub("%-", "%%-") .. " +%u", r.out)
    end
  end)

  for _, verb in ipairs { "serve", "try", "check", "list", "create", "resize",
                          "delete", "explain", "doctor" } do
    it("gives the help of " .. verb .. " in both ways", function()
      local r = cli.run(verb .. " --help")
      assert.equal(DONE, r.status)
      assert.matches("^Usage: tcmu%-lua " .. verb, r.out)
      assert.equal(r.out, cli.run("help " .. verb).out)
    end)
  end

  it("keeps its help within 78 columns", function()
    for _, verb in ipairs { "", "serve", "try", "create" } do
      for line in cli.run("help " .. verb).out:gmatch("[^\n]+") do
        assert.is_true(#line <= 78, line)
      end
    end
  end)

  it("refuses an unknown option with the usage of the verb", function()
    local r = cli.run "check --sise 1M whoami"
    assert.equal(MISUSED, r.status)
    assert.matches("^Usage: tcmu%-lua check .*unknown option '%-%-sise'", r.err)
    assert.matches("Did you mean '%-%-size'", r.err)
  end)

  it("refuses values that make no sense, with 2", function()
    for arguments, why in pairs {
      ["serve --shards 0"] = "'0' is no whole number from 1 to 256",
      ["serve --budget x"] = "'x' is no whole number",
      ["try ram --size 5Q"] = "'5Q' is not a size",
      ["try ram --size 0"] = "a size of 0 makes no device",
      ["try ram --block-size 1000"] = "'1000' is no block size",
      ["create x --handler ram --size 1M --option mode"] =
        "'mode' is no option: it is given as KEY=VALUE",
      ["create x --handler ram --size 1M --option 'a=b;c'"] =
        "comma or semicolon",
      ["create x --size 1M"] = "missing option '%-%-handler'",
    } do
      local r = cli.run(arguments)
      assert.equal(MISUSED, r.status, arguments)
      assert.matches(why, r.err)
    end
  end)

  it("tells the versions of itself, Lua and libuv", function()
    local r = cli.run "--version"
    assert.equal(DONE, r.status)
    assert.matches("^tcmu%-lua [%d.]+\nLua 5%.4\nluv with libuv [%d.]+\n$",
                   r.out)
  end)

  it("works from another directory", function()
    local r = cli.run("list --names", { env = "--chdir=/" })
    assert.not_equal(DONE, r.status)    -- "./tcmu-lua" is not there
    local here <close> = assert(io.popen("pwd"))
    local path = here:read("l") .. "/tcmu-lua"
    local pipe <close> = assert(io.popen("cd / && " .. cli.quoted(path)
                                         .. " list --names"))
    assert.matches("\nwhoami\n", pipe:read("a"))
  end)

  it("says what to install where a Lua module is missing", function()
    local without_luv = "LUA_CPATH='/none/?.so'"
    local r = cli.run("list", { env = without_luv })
    assert.equal(FAILED, r.status)
    assert.equal("tcmu-lua: the Lua module luv is missing: type 'apt-get "
                 .. "install lua-luv'\n", r.err)
    assert.equal(DONE, cli.run("try whoami", { env = without_luv }).status)
    r = cli.run("list", { env = "LUA_PATH='/none/?.lua'" })
    assert.equal(FAILED, r.status)
    assert.matches("argparse is missing: type 'apt%-get install lua%-argparse'",
                   r.err)
  end)

  it("hands the words behind mod-builder to the generator", function()
    local r = cli.run "mod-builder"
    assert.equal(MISUSED, r.status)
    assert.matches("^Usage: tcm%-mod%-builder", r.err)
    assert.matches("%-%-protoident", cli.run("mod-builder --help").out)
  end)
end)

describe("tcmu-lua list", function()
  it("gives the names alone, in order, for programs", function()
    local r = cli.run "list --names"
    assert.equal(DONE, r.status)
    local names = {}
    for name in r.out:gmatch("([^\n]+)\n") do names[#names + 1] = name end
    local sorted = table.move(names, 1, #names, 1, {})
    table.sort(sorted)
    assert.same(sorted, names)
    assert.matches("file\n", r.out)
  end)

  it("says what each handler is and which options it has", function()
    local r = cli.run "list"
    assert.matches("\nwhoami +a disk in memory with opinions", r.out)
    assert.matches("file +a file or block device\n +path=PATH  the file", r.out)
    assert.matches("mode=rw|ro  read%-write or read%-only %(default rw%)",
                   r.out)
  end)
end)

describe("tcmu-lua explain", function()
  it("says a CDB as a sentence and as fields by byte and bit", function()
    local r = cli.run "explain 28 00 00 00 00 08 00 00 10 00"
    assert.equal(DONE, r.status)
    assert.matches("READ %(10%) reads 16 blocks from LBA 8%.", r.out)
    assert.matches("\n1 +3 +FUA +0\n", r.out)
    assert.matches("\n2%-5 +LOGICAL BLOCK ADDRESS +8\n", r.out)
    assert.matches("\n6 +4%-0 +GROUP NUMBER +00h\n", r.out)
  end)

  it("takes the bytes in any spacing", function()
    local want = cli.run("explain 12 01 83 00 ff 00").out
    for _, other in ipairs { "12018300ff00", "0x12,0x1,0x83,0x0,0xff,0x0",
                             "12h 01h 83h 00h FFh 00h", "12 1 83 0 ff 0" } do
      assert.equal(want, cli.run("explain " .. other).out)
    end
  end)

  it("shows the bytes of a command that it does not know", function()
    local r = cli.run "explain c1 02"
    assert.equal(DONE, r.status)
    assert.matches("Opcode C1h is a command that no table", r.out)
    assert.matches("000000  c1 02 ", r.out)
  end)

  it("refuses what is no hex, with 2", function()
    refuses("explain 12 zz", "'zz' is not hex", MISUSED)
    refuses("explain 123", "odd number of hex digits", MISUSED)
  end)
end)

describe("tcmu-lua check", function()
  teardown(cli.clean)

  local function section(text, title)
    return text:match(title .. ":\n(.-)\n%u") or text:match(title .. ":\n(.*)")
           or ""
  end

  it("tells what C, the handler and the host answer", function()
    local r = cli.run "check whoami"
    assert.equal(DONE, r.status)
    assert.matches("opened as a simulated device", r.out)
    assert.matches("28h +READ %(10%)", section(r.out, "In C, from the [^\n]*"))
    local own = section(r.out, "By the handler's on%[opcode%]")
    assert.matches("12h +INQUIRY", own)
    assert.matches("C1h +vendor specific", own)
    local host = section(r.out, "By the host, as[^\n]*")
    assert.matches("9Eh/10h +READ CAPACITY %(16%)", host)
    assert.not_matches("INQUIRY", host)
    assert.not_matches("SYNCHRONIZE", r.out)      -- zeroes need no flush
  end)

  it("tells a handler's read and write from a store", function()
    local r = cli.run "check ramdisk"
    assert.matches("28h +READ %(10%)",
                   section(r.out, "By the handler's read"))
    assert.matches("2Ah +WRITE %(10%)",
                   section(r.out, "By the handler's write"))
    assert.not_matches("In C", r.out)
  end)

  it("does not count what a handler has switched off", function()
    local path = cli.handler("off", [[
      open = function(dev) return { store = tcmu.store.memory(dev.size) } end,
      on = { [scsi.WRITE_SAME_10] = false }]])
    local r = cli.run("check " .. path)
    assert.not_matches("WRITE SAME %(10%)", r.out)
    assert.matches("WRITE SAME %(16%)", r.out)
  end)

  it("lists no command for a handler that answers none itself", function()
    local r = cli.run "check ram"
    assert.matches("INQUIRY", r.out)
    assert.not_matches("By the handler", r.out)
    assert.not_matches("FFh", r.out)
  end)

  it("asks the opened device, which knows more than the table", function()
    local path = cli.handler("later", [[
      open = function(dev)
        dev.read_only = true
        return { store = tcmu.store.memory(dev.size) }
      end,
      on = { [0xFF] = function() return "mine" end }]])
    local r = cli.run("check " .. path)
    assert.matches("FFh +vendor specific",
                   section(r.out, "By the handler's on%[opcode%]"))
  end)

  it("loads a handler that needs options, and says that it stopped there",
     function()
    local r = cli.run "check file"
    assert.equal(DONE, r.status)
    assert.matches("loaded, not opened: it needs options", r.out)
    assert.matches("path=PATH", r.out)
  end)

  it("refuses with the handler's own words", function()
    refuses("check file path=/no/such/file", "/no/such/file")
    refuses("check whoami extra", "'extra': this handler has no options")
    local path = cli.handler("picky", [[
      options = { n = tcmu.option.integer "a number" },
      check = function(options)
        if options.n > 9 then error("n must be one digit", 0) end
      end]])
    refuses("check " .. path .. " n=10", "picky%.lua: n must be one digit")
  end)

  it("refuses a file that is no handler in one sentence with the place",
     function()
    for name, text in pairs {
      ["typo%.lua: handler: unknown key 'raed', did you mean 'read'"] =
        "return require 'tcmu'.handler { name = 'typo', raed = print }",
      ["syntax%.lua:1: unexpected symbol near '='"] = "local x = = 1",
      ["none%.lua does not return a handler"] = "return {}",
      ["exit%.lua:1: attempt to call a nil value %(field 'exit'%)"] =
        "os.exit(3)",
    } do
      refuses("check " .. cli.file(name:match("^%a+") .. ".lua", text), name)
    end
  end)

  it("warns of a file whose name is not the handler's", function()
    local path = cli.handler("called", "")
    os.rename(path, cli.dir .. "/other.lua")
    local r = cli.run("check " .. cli.dir .. "/other.lua")
    assert.matches("Name the file called%.lua before you install it", r.out)
    assert.not_matches("Name the file", cli.run("check whoami").out)
  end)

  it("suggests a handler near to the name that was typed", function()
    refuses("check ramdsk", "no handler 'ramdsk', did you mean 'ramdisk'%?")
    refuses("check /no/such.lua", "no handler file '/no/such%.lua'")
    refuses("check " .. cli.quoted("."), "no handler '%.'")
  end)
end)

describe("tcmu-lua serve", function()
  it("does not start without a handler that it was given", function()
    refuses("serve --handler /no/such.lua",
            "no such file or directory: /no/such%.lua")
    refuses("serve --handler README.md", "README%.md is neither a directory "
            .. "nor .*%.lua.*: rename it")
  end)
end)

describe("tcmu-lua create", function()
  teardown(cli.clean)

  it("refuses a handler and options before it asks the kernel", function()
    refuses("create d --handler ramdsk --size 1M", "did you mean 'ramdisk'")
    refuses("create d --handler whoami --size 1M --option a=b",
            "whoami%.lua: there is no option 'a'")
    refuses("create d --handler file --size 1M --option path=x --option mode=x",
            "'x' is none of rw, ro")
  end)

  it("gives paths to the handler as they are seen from the root", function()
    local path = cli.handler("tell", [[
      options = { at = tcmu.option.path "a path",
                  text = tcmu.option.string "a text" },
      check = function(options) error(options.at .. " " .. options.text, 0) end
    ]])
    refuses("create d --handler " .. path
            .. " --size 1M --option at=./x.img --option text=./y",
            "tell%.lua: /%S*[^.]/x%.img %./y\n")
  end)
end)

describe("tcmu-lua doctor", function()
  it("gives one finding a line, and 1 if one of them is bad", function()
    local r = cli.run "doctor"
    local bad = false
    for line in r.out:gmatch("[^\n]+") do
      local mark = line:match("^(%a%a)  %S")
      assert.is_true(mark == "ok" or mark == "no", line)
      bad = bad or mark == "no"
    end
    assert.matches("handlers: .*whoami", r.out)
    assert.equal(bad and FAILED or DONE, r.status)
  end)
end)
