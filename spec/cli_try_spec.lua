--- `tcmu-lua try`: the guided tour, the prompt and scripts.

local cli = require "spec.cli_run"

local ESCAPE <const> = "\27%["

local STORE <const> =
  "open = function(dev) return { store = tcmu.store.memory(dev.size) } end,"

-- What a script of commands prints.
local function script(handler, commands, options)
  return cli.run(("try %s %s -- -"):format(handler, options or ""),
                 { stdin = commands .. "\n" })
end

describe("the tour of tcmu-lua try", function()
  teardown(cli.clean)

  it("explains, dumps and interprets without a terminal", function()
    local r = cli.run "try whoami"
    assert.equal(0, r.status)
    assert.equal("", r.err)
    assert.matches("12 00 00 00 60 00\nINQUIRY ", r.out)
    assert.matches("000000  00 00 06 02 .* |....%[...ACME    |", r.out)
    assert.matches("vendor 'ACME', product 'Teaching disk'", r.out)
    assert.matches("131072 blocks of 512 bytes: 64 MiB", r.out)
    assert.matches("Opcode C1h is this handler's own invention%.\nc1 00", r.out)
    assert.matches("13 bytes, after 0.25 seconds of simulated time", r.out)
    assert.matches("|asked nicely%.|", r.out)
  end)

  it("decodes the sense of a command that fails, and shows its bytes",
     function()
    local r = cli.run "try ram --size 1M"
    assert.matches("reads 1 block from LBA 2048%.\nCHECK CONDITION\n"
      .. "  ILLEGAL REQUEST: LOGICAL BLOCK ADDRESS OUT OF RANGE %(21h/00h%)",
      r.out)
    assert.matches("000000  f0 00 05 00 00 08 00 0a 00 00 00 00 21 00", r.out)
  end)

  it("reads back what it writes, in a disk that keeps it", function()
    assert.matches("|Hello from an in|.*It is what was written%.",
                   cli.run("try ramdisk").out)
    assert.matches("this handler keeps nothing", cli.run("try zero").out)
  end)

  it("leaves the disk as it was", function()
    local path = cli.file("disk.img", "")
    local function content()
      local f <close> = assert(io.open(path, "rb"))
      return f:read("a")
    end
    assert(os.execute("truncate -s 1M " .. path))
    assert.matches("It is what was written",
                   cli.run("try file --size 1M path=" .. path).out)
    assert.equal(("\0"):rep(1 << 20), content())

    cli.file("disk.img", ("precious"):rep(1 << 17))
    assert.matches("so this tour writes nothing",
                   cli.run("try file --size 1M path=" .. path).out)
    assert.equal(("precious"):rep(1 << 17), content())
  end)

  it("leaves out what a device does not have", function()
    local path = cli.handler("bare", "device = tcmu.bare")
    local r = cli.run("try " .. path)
    assert.equal(0, r.status)
    assert.not_matches("How large", r.out)
    assert.matches("INVALID COMMAND OPERATION CODE", r.out)
  end)

  it("has a device on every shard", function()
    local r = cli.run "try whoami --shards 2"
    assert.matches("Device 2 is served by shard 2", r.out)
    assert.not_matches("Device 3", r.out)
  end)

  it("has no colours in a pipe", function()
    assert.not_matches(ESCAPE, cli.run("try whoami").out)
  end)

  it("shows the whole traceback of a handler's bug", function()
    local path = cli.handler("buggy", STORE .. [[
      on = { [0xC5] = function()
        local function inner(t) return t.x.y end
        local function outer() return (inner {}) end
        return (outer())
      end }]])
    local r = cli.run("try " .. path)
    assert.equal(0, r.status)
    assert.matches("in command C5h: %S*buggy%.lua:%d+: attempt to index a nil",
                   r.err)
    assert.matches("buggy%.lua:%d+: in %a+ 'inner'", r.err)
    assert.matches("buggy%.lua:%d+: in %a+ 'outer'", r.err)
    assert.matches("HARDWARE ERROR: INTERNAL TARGET FAILURE %(44h/00h%)", r.out)
    assert.matches("the log says more", r.out)
  end)

  it("shows the traceback of an open that fails", function()
    local path = cli.handler("shut", [[
      open = function() local function inner() error "shut" end inner() end]])
    local r = cli.run("try " .. path)
    assert.equal(1, r.status)
    assert.matches("shut%.lua:%d+: in %a+ 'inner'", r.err)
    assert.matches("\ntcmu%-lua: %S*shut%.lua:%d+: shut\n$", r.err)
  end)

  it("shows the traceback of a file that fails, but not of a refusal",
     function()
    local r = cli.run("try " .. cli.file("deep.lua", [[
local function inner() error "on purpose" end
inner()]]))
    assert.equal(1, r.status)
    assert.matches("deep%.lua:1: in %a+ 'inner'", r.err)
    assert.matches("\ntcmu%-lua: %S*deep%.lua:1: on purpose\n$", r.err)
    assert.matches("^tcmu%-lua: [^\n]+option 'path' is missing[^\n]+\n$",
                   cli.run("try file").err)
  end)

  it("goes on after a command that computes without end", function()
    local path = cli.handler("endless", STORE .. [[
      on = { [0xC5] = function() while true do end end,
             [0xC6] = function() return "alive" end }]])
    local r = cli.run("try " .. path)
    assert.matches("in command C5h: stopped", r.err)
    assert.matches("|alive|", r.out)
  end)
end)

describe("a script for tcmu-lua try", function()
  teardown(cli.clean)

  it("runs a file of commands, comments left out", function()
    local path = cli.file("commands", "# a comment\n\nwrite 5 \"a\\x41\\0b\"\n"
                          .. "  read 5 1  \n")
    local r = cli.run("try ram -- " .. path)
    assert.equal(0, r.status)
    assert.matches("> write 5 .*\nWRITE %(10%) writes 1 block from LBA 5",
                   r.out)
    assert.matches("61 41 00 62 00 .* |aA%.b%.", r.out)
    assert.not_matches("comment", r.out)
  end)

  it("sends the command that each word stands for", function()
    local r = script("ram", [[
inquiry
inquiry 0x83
capacity
modes 8
opcodes
ready
unmap 7 2
sync
read 0x10]])
    assert.equal(0, r.status)
    for _, cdb in ipairs {
      "12 00 00 00 60 00", "12 01 83 00 ff 00",
      "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00",
      "5a 00 08 00 00 00 00 00 ff 00",
      "a3 0c 00 00 00 00 00 00 10 00 00 00", "00 00 00 00 00 00",
      "42 00 00 00 00 00 00 00 18 00", "35 00 00 00 00 00 00 00 00 00",
      "28 00 00 00 00 10 00 00 01 00",
    } do
      assert.matches("\n" .. cdb .. "\n", r.out)
    end
  end)

  it("says what the answers mean", function()
    local r = script("ram", [[
inquiry 0
inquiry 0x80
inquiry 0x83
inquiry 0xb0
inquiry 0xb1
inquiry 0xb2
modes
opcodes]])
    for _, text in ipairs {
      "page 83h: Device Identification", "serial number 'TRY00001'",
      "NAA: 6001405%x+\n", "MAXIMUM UNMAP LBA COUNT: %d+", "nothing rotates",
      "LBPU = 1 %(UNMAP%)", "page 0Ah: Control, D_SENSE = 0",
      "WP = 0, DPOFUA = 1", "12h +INQUIRY\n",
      "9Eh/10h READ CAPACITY %(16%)\n",
    } do
      assert.matches("\n  " .. text, r.out)
    end
  end)

  it("uses CDBs of 16 bytes where 10 do not reach", function()
    local r = script("zero", "read 0x100000000\nread 0 0x10000", "--size 4T")
    assert.matches("READ %(16%) reads 1 block from LBA 4294967296", r.out)
    assert.matches("READ %(16%) reads 65536 blocks from LBA 0", r.out)
  end)

  it("loads the handler's file again, which a mistake does not harm", function()
    -- An editor that is the handler itself.
    local path = cli.handler("edited", [[
      open = function() return { kept = "kept" } end,
      on = { [0xC1] = function(_, cmd)
        local path = debug.getinfo(1, "S").source:sub(2)
        local f <close> = assert(io.open(path, "w"))
        f:write('local tcmu = require "tcmu"\n return tcmu.handler { name = '
                .. '"edited", on = { [0xC2] = function(self) return self.kept '
                .. 'end }, ' .. (cmd:u8(1) == 1 and "raed = 1" or "") .. ' }')
      end }]])
    local r = script(path, [[
cdb c101 0000 0000 0000 0000
reload
cdb c200 0000 0000 0000 0000
cdb c100 0000 0000 0000 0000
reload
cdb c200 0000 0000 0000 0000]], "--shards 2")
    assert.equal(0, r.status)
    assert.matches("> reload\nNot reloaded.*unknown key 'raed'.*"
                   .. "> cdb c2[^>]*INVALID COMMAND OPERATION CODE.*"
                   .. "> reload\nReloaded%..*> cdb c2[^>]*|kept", r.out)
  end)

  it("sends any CDB, with a text as Data-Out", function()
    local path = cli.handler("echo", STORE .. [[
      on = { [0xC0] = function(self, cmd) self.kept = cmd.data:get() end,
             [0xC1] = function(self) return self.kept end }]])
    local r = script(path, "cdb c0 0 0 0 0 0 0 0 0 0 \"kept text\"\n"
                     .. "cdb c100 0000 0000 0000 0000")
    assert.matches("9 bytes\n[^\n]*|kept text|", r.out)
  end)

  it("fills Data-Out up to what the CDB says", function()
    local r = script("ram", "cdb 2a 00 00 00 00 00 00 00 02 00 \"two\"\nread 1")
    assert.not_matches("CHECK CONDITION", r.out)
    local both = script("ram", "cdb 89" .. (" 0"):rep(12) .. " 1 0 0")
    assert.matches("COMPARE AND WRITE.*\nGOOD\n", both.out)
  end)

  it("shows a table without sending anything", function()
    local r = script("ram", "table 12 01 80 00 ff 00")
    assert.matches("\n1 +0 +EVPD +1\n", r.out)
    assert.not_matches("GOOD", r.out)
  end)

  it("goes to another shard's device", function()
    local r = script("ram", "write 0 \"one\"\ndevice 2\nread 0\n"
                     .. "device 1\nread 0", "--shards 2")
    local second, first = r.out:match("device 2 of 2(.*)device 1 of 2(.*)")
    assert.not_matches("|one", second)
    assert.matches("|one", first)
  end)

  it("ends at quit", function()
    local r = script("ram", "quit\nready")
    assert.equal(0, r.status)
    assert.not_matches("TEST UNIT READY", r.out)
  end)

  it("stops with 1 at the first line that is wrong, and says which", function()
    for line, why in pairs {
      ["raed 1"] = "no command 'raed', did you mean 'read'%?",
      ["read"] = "the LBA is missing",
      ["read x"] = "'x' is no number for the LBA",
      ["read 1 2 3"] = "'3' is too much",
      ["write 1 \"open"] = "is no text in quotes",
      ["write 1 \"a\" .. \"b\" x"] = "is no text in quotes",
      ["cdb 12 00"] = "has 6 bytes; 4 are missing",
      ["cdb hello"] = "'hello' is not hex",
      ["inquiry 0x100"] = "a page is a number up to 0xFF",
      ["device 2"] = "devices are 1 to 1",
    } do
      local r = script("ram", "ready\n" .. line .. "\ncapacity")
      assert.equal(1, r.status)
      assert.matches("^tcmu%-lua: standard input, line 2: [^\n]*" .. why, r.err)
      assert.not_matches("READ CAPACITY", r.out)
    end
  end)

  it("refuses a file that is not there, and more than one", function()
    local r = cli.run "try ram -- /no/such"
    assert.equal(1, r.status)
    assert.matches("/no/such: No such file", r.err)
    assert.equal(2, cli.run("try ram -- a b").status)
    assert.equal(2, cli.run("try ram --").status)
  end)
end)

describe("the prompt of tcmu-lua try", function()
  local has_terminals <const> =
    os.execute "script -qec true /dev/null >/dev/null 2>&1"

  local function type_in(text, env)
    if not has_terminals then
      pending "needs pseudo-terminals: mount -t devpts devpts /dev/pts"
    end
    return cli.run("try ram", { stdin = text, terminal = true, env = env })
  end

  it("asks on a terminal, in colour, and survives slips of the pen", function()
    local r = type_in("writ 0 x\nwrite 0 \"typed in\"\nread 0\nquit\n",
                      "TERM=xterm")
    assert.equal(0, r.status)
    assert.matches("ram> ", r.out)
    assert.matches("did you mean 'write'", r.out)
    assert.matches("|typed in%.", r.out)
    assert.matches(ESCAPE .. "32mGOOD", r.out)
  end)

  it("has no colours with NO_COLOR or a dumb terminal", function()
    for _, env in ipairs { "TERM=xterm NO_COLOR=1", "TERM=dumb" } do
      local r = type_in("ready\nquit\n", env)
      assert.matches("GOOD", r.out)
      assert.not_matches(ESCAPE, r.out)
    end
  end)

  it("lists its commands, each with what it takes", function()
    local r = type_in("help\nquit\n", "TERM=dumb")
    for _, name in ipairs { "inquiry %[PAGE%]", "read LBA %[BLOCKS%]",
                            "write LBA \"TEXT\"", "cdb HEX...", "table HEX...",
                            "unmap LBA %[BLOCKS%]", "modes %[PAGE%]",
                            "capacity", "quit" } do
      assert.matches("  " .. name .. " ", r.out)
    end
  end)

  it("ends at the end of input", function()
    assert.equal(0, type_in("ready\n\4", "TERM=dumb").status)
  end)
end)
