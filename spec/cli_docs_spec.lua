--- Man pages and completion: they tell what the program has, all of it.

local cli = require "spec.cli_run"
local core = require "tcmu.core"
local scsi = require "tcmu.scsi"
local tcmu = require "tcmu"
require "tcmu.command"

local VERBS <const> = { "serve", "try", "check", "list", "create", "resize",
                        "delete", "explain", "doctor" }

local function read(path)
  local f <close> = assert(io.open(path))
  return f:read("a")
end

local function shell(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read("a")
end

-- The long options of a verb, as its help has them.
local function options_of(verb)
  local found = {}
  for name in cli.run("help " .. verb).out:gmatch("%-%-([%l-]+)") do
    found[name] = true
  end
  found.help = nil
  return found
end

-- What bash offers for a line whose last word is being typed.
local function offered(line)
  local words = {}
  for word in (line .. "|"):gmatch("[^ ]+") do
    words[#words + 1] = cli.quoted((word:gsub("|$", "")))
  end
  return " " .. shell(([[bash -c '. dist/completion/tcmu-lua.bash
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tcmu_lua
    echo "${COMPREPLY[@]}"' bash %s]]):format(table.concat(words, " ")))
    :gsub("\n$", " ")
end

describe("the man page of tcmu-lua", function()
  local page = read "dist/man/tcmu-lua.8"

  for _, verb in ipairs(VERBS) do
    it("has " .. verb .. " with all its options", function()
      local section = page:match("\n%.Ss " .. verb .. "\n(.-)\n%.S[sh] ")
      assert.is_string(section)
      for name in pairs(options_of(verb)) do
        local mark = "Fl -" .. name
        assert.is_truthy(page:find(mark, 1, true), mark)
      end
    end)
  end

  it("has no option that the program does not have", function()
    local known = { version = true, help = true, [""] = true }
    for _, verb in ipairs(VERBS) do
      for name in pairs(options_of(verb)) do known[name] = true end
    end
    for name in page:gmatch("%.?Fl %-([%l-]*)") do
      assert.is_true(known[name], name)
    end
  end)
end)

describe("the man page of handlers", function()
  local page = read "dist/man/tcmu-lua-handler.7"

  it("has every function of tcmu and its tables", function()
    local function has(name)
      assert.is_truthy(page:find("\n.It Fn " .. name .. "[ \n]"), name)
    end
    for name, value in pairs(tcmu) do
      if type(value) == "function" then has("tcmu%." .. name) end
    end
    for name in pairs(tcmu.store) do has("tcmu%.store%." .. name) end
    for _, name in ipairs { "string", "path", "integer", "number", "size",
                            "boolean", "choice" } do
      assert.is_function(tcmu.option[name])
      has("tcmu%.option%." .. name)
    end
  end)

  it("has no method that does not exist", function()
    local owners = {
      b = tcmu.buffer(1), store = tcmu.store.zero(1), cmd = core.cmd_methods,
      value = scsi.INVALID_FIELD_IN_CDB,
    }
    local seen = {}
    for owner, method in page:gmatch("%.It Fn (%l+):([%w_]+)") do
      if owners[owner] then
        assert.is_function(owners[owner][method], owner .. ":" .. method)
        seen[owner] = true
      end
    end
    for owner in pairs(owners) do assert.is_true(seen[owner], owner) end
  end)

  it("has the fields of a command", function()
    local fields = page:match("\n%.Sh COMMANDS(.-)\n%.Pp")
    for name, value in pairs(core.cmd_methods) do
      if math.type(value) == "integer" then
        assert.is_truthy(fields:find("%.It Va [^\n]*%f[%w_]" .. name
                                     .. "%f[^%w_]"), name)
      end
    end
    for names in fields:gmatch("%.It Va ([^\n]+)") do
      for name in names:gmatch("[%w_]+") do
        assert.is_not_nil(core.cmd_methods[name] or core.cmd_getters[name],
                          name)
      end
    end
  end)

  it("says of each function whether it waits", function()
    local entries = 0
    for before, list in page:gmatch("(.-)\n%.Bl %-tag[^\n]*(.-)\n%.El") do
      local said = before:find("[Nn]one [^.]*waits")
                   or before:find("Nothing here waits")
      if not said then
        list = list:gsub("\n%.It ", "\0")
        for entry in list:gmatch("%zFn ([^%z]+)") do
          entries = entries + 1
          assert.matches("[Ww]ait", entry)
        end
      end
    end
    assert.is_true(entries > 20)
  end)
end)

describe("both man pages", function()
  it("are sound mdoc", function()
    if not os.execute "command -v mandoc >/dev/null" then
      pending "needs mandoc: apt-get install mandoc"
      return
    end
    assert.equal("", shell("mandoc -T lint -W warning dist/man/tcmu-lua.8 "
                           .. "dist/man/tcmu-lua-handler.7 2>&1"))
  end)
end)

describe("the completion", function()
  it("offers the verbs", function()
    assert.equal(" try ", offered "./tcmu-lua tr")
    for _, verb in ipairs(VERBS) do
      assert.matches(" " .. verb .. " ", offered "./tcmu-lua ")
    end
  end)

  for _, verb in ipairs(VERBS) do
    it("offers every option of " .. verb, function()
      local got = offered("./tcmu-lua " .. verb .. " --")
      for name in pairs(options_of(verb)) do
        assert.matches(" %-%-" .. name:gsub("%-", "%%-") .. " ", got)
      end
      for name in got:gmatch("%-%-([%l-]+)") do
        assert.is_true(name == "help" or options_of(verb)[name], name)
      end
    end)
  end

  it("offers the installed handlers, and files", function()
    assert.equal(" whoami ", offered "./tcmu-lua try who")
    assert.equal(" ramdisk ", offered "./tcmu-lua create x --handler ramd")
    assert.equal(" examples/01-hello.lua ",
                 offered "./tcmu-lua check examples/01")
  end)
end)
