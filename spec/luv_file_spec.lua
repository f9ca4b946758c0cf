--- What luv does to files for a command that is cancelled: the command ends,
--- and lets go of its range, after that.
local commands = require "spec.commands"
local core = require "tcmu.core"
local edited = require "spec.edited"
local luv = require "spec.luv_it"

local BLOCK <const> = 512
local ABORTED <const> = 0x40

-- Serves a file by luv's own functions.  A write that begins with "s" opens a
-- fifo first and goes on in the callback, which takes until the other end is
-- opened; "e" is the same but for an error in the callback.
local HANDLER <const> = [[
  open = function()
    return { fd = uv.fs_open(FOLDER .. "/disk", "r+", 0) }
  end,
  read = function(self, cmd, offset, length)
    local _, text = tcmu.await(function(done)
      uv.fs_read(self.fd, length, offset, done)
    end)
    return text
  end,
  write = function(self, cmd, offset)
    local data = cmd.data:get()
    local function write(done) uv.fs_write(self.fd, data, offset, done) end
    tcmu.await(function(done)
      local how = data:sub(1, 1)
      if how ~= "s" and how ~= "e" then return write(done) end
      uv.fs_open(FOLDER .. "/fifo", "r", 0, function(_, fd)
        uv.fs_close(fd)
        if how == "e" then error "in the callback" end
        write(done)
      end)
    end)
  end,
  on = {
    [0xC1] = function(self)
      tcmu.spawn(function()
        tcmu.await(function(done) uv.fs_open(FOLDER .. "/fifo", "r", 0, done) end)
      end)
    end,
    [0xC3] = function()
      uv.fs_open(FOLDER .. "/fifo", "r", 0, function() end)
    end,
    [0xC4] = function() tcmu.await(function() end) end,
    [0xC2] = function()
      tcmu.all(
        function()
          tcmu.await(function(done)
            uv.fs_open(FOLDER .. "/fifo", "r", 0, done)
          end)
        end,
        function()
          tcmu.await(function(done) uv.new_timer():start(0, 0, done) end)
          error(scsi.status.BUSY)
        end)
    end,
  }]]

describe("a request of luv for a file", function()
  local dev, fifo

  -- Until the end, so that nobody comes too late.
  local function open_fifo()
    fifo = fifo or assert(io.open(edited.path "fifo", "r+"))
  end

  local function prelude()
    return ("local uv = require 'luv' local FOLDER = %q")
             :format(edited.path("."):sub(1, -3))
  end

  before_each(function()
    edited.make()
    assert(os.execute("mkfifo " .. edited.path "fifo"))
    edited.file("disk", ("\0"):rep(16 * BLOCK))
    edited.put(HANDLER, prelude())
    dev = edited.open { size = 16 * BLOCK }
  end)
  after_each(function()
    open_fifo()                     -- for what a failure has left
    local _ <close> = fifo
    fifo = nil
    dev:close()
    edited.clean()
  end)

  -- What has been submitted gets as far as it can without the fifo.
  local function settle()
    for _ = 1, 3 do
      assert.is.good(dev:cmd(commands.read(9)))
    end
  end

  local function write(byte) return dev:submit(commands.write(3, 1, byte)) end

  local function block() return dev:cmd(commands.read(3)).data end

  luv("is over before the command that is aborted, and before newer writes",
      function()
    local slow = write "s"
    settle()
    dev:abort(slow)
    local new = write "n"
    settle()
    assert.is_nil(slow.result)
    assert.is_nil(new.result)
    open_fifo()
    assert.has.status(dev:wait(slow), ABORTED)
    assert.is.good(dev:wait(new))
    assert.equal(("n"):rep(BLOCK), block())
  end)

  luv("is over before the command that is aborted, whatever its callback raises",
      function()
    local slow = write "e"
    settle()
    dev:abort(slow)
    settle()
    assert.is_nil(slow.result)
    open_fifo()
    assert.has.status(dev:wait(slow), ABORTED)
    assert.equal(("\0"):rep(BLOCK), block())
    dev:cmd(commands.write(3, 1, "n"))
    assert.equal(("n"):rep(BLOCK), block())
  end)

  luv("is over before the error of a neighbour counts", function()
    local all = dev:submit(commands.vendor(0xC2), { data_in = 0 })
    settle()
    assert.is_nil(all.result)
    open_fifo()
    assert.has.status(dev:wait(all), 0x08)
  end)

  luv("that a command has left behind delays no other", function()
    assert.is.good(dev:cmd(commands.vendor(0xC3), { data_in = 0 }))
    local other = dev:submit(commands.vendor(0xC4), { data_in = 0 })
    settle()
    dev:abort(other)
    settle()
    assert.truthy(other.result)
    assert.has.status(other.result, ABORTED)
  end)

  luv("is over before the host closes, however long it takes", function()
    assert.is.good(dev:cmd(commands.vendor(0xC3), { data_in = 0 }))
    dev:close()
    -- One end, that waits for the worker: both could be gone before it comes.
    local late <close> = io.popen("sleep 1; : >" .. edited.path "fifo")
    edited.host()
    assert.is_nil(late:read())
  end)

  luv("does not hold up the end of an upgrade", function()
    edited.put(HANDLER .. [[,
      upgrade = function()
        tcmu.all(
          function()
            tcmu.await(function(done)
              uv.fs_open(FOLDER .. "/fifo", "r", 0, done)
            end)
          end,
          function()
            tcmu.await(function(done) uv.new_timer():start(0, 0, done) end)
            error("no", 0)
          end)
      end]], prelude())
    assert.matches("no", edited.refusal(dev))
    settle()
  end)

  luv("does not hold up the end of a device that was never open", function()
    edited.file("opening.lua", ([[
      local tcmu, uv = require "tcmu", require "luv"
      return tcmu.handler {
        name = "opening",
        read = function() end,
        open = function()
          tcmu.await(function(done) uv.fs_open(%q, "r", 0, done) end)
        end,
      }]]):format(edited.path "fifo"))
    local kernel = core.raw.sim()
    dev.shard:add(2, kernel, {
      handler = edited.path "opening.lua", name = "d", hba = "sim",
      size = 1 << 20, block_size = 512, max_sectors = 128, options_text = "",
    })
    dev.shard:turn(false)
    dev.shard:change(2, "remove")
    local verbs = {}
    for _ = 1, 10 do
      dev.shard:turn(false)
      for _, report in ipairs(dev.shard:receive()) do
        verbs[#verbs + 1] = report.verb
      end
    end
    assert.same({ "add", "remove" }, verbs)
    kernel:close()
  end)

  luv("is over before a device ends whose task waits for it", function()
    dev:cmd(edited.ask(), { data_in = 0 })
    settle()
    dev.shard:change(dev.id, "remove")
    for _ = 1, 100 do
      dev.shard:turn(false)
      assert.same({}, dev.shard:receive())
    end
    open_fifo()
    local ended
    for _ = 1, 1000 do
      dev.shard:turn(true)
      ended = dev.shard:receive()[1]
      if ended then break end
    end
    assert.equal("remove", ended.verb)
    dev.host.devices[dev.id] = nil
    dev.kernel:close()
  end)

  describe("as the man page opens one", function()
    -- Counts what it closes.
    local COUNTED <const> = [[
      closed = closed or 0
      local plain = uv
      local uv = setmetatable({ fs_close = function(fd)
        closed = closed + 1
        return plain.fs_close(fd)
      end }, { __index = plain })
      local path = FOLDER .. "/fifo"
      local function show()
        %s
      end]]

    -- The other end, which is ours, not counted.
    local function left()
      local n = -1
      local all <close> = io.popen "ls -l /proc/$PPID/fd"
      for line in all:lines() do
        if line:find(edited.path "fifo", 1, true) then n = n + 1 end
      end
      return n
    end

    local function closed()
      return dev:cmd(commands.vendor(0xC2), { data_in = 1 }).data
    end

    before_each(function()
      local page <close> = assert(io.open "dist/man/tcmu-lua-handler.7")
      local example
      for text in page:read("a"):gmatch("%.Bd[^\n]*\n(.-)%.Ed\n") do
        if text:find("fs_open", 1, true) then example = text end
      end
      dev:close()
      edited.put([[
        read = function() end,
        upgrade = function()
          tcmu.all(show, function()
            tcmu.await(function(done) uv.new_timer():start(0, 0, done) end)
            error("no", 0)
          end)
        end,
        on = { [0xC1] = show,
               [0xC2] = function() return tostring(closed) end }]],
        prelude() .. COUNTED:format(example))
      dev = edited.open()
    end)

    luv("is closed when its command ends", function()
      open_fifo()
      assert.is.good(dev:cmd(edited.ask(), { data_in = 0 }))
      assert.equal("1", closed())
      assert.equal(0, left())
    end)

    luv("is closed when its command is aborted before it is open", function()
      local slow = dev:submit(edited.ask(), { data_in = 0 })
      settle()
      dev:abort(slow)
      open_fifo()
      assert.has.status(dev:wait(slow), ABORTED)
      assert.equal("1", closed())
      assert.equal(0, left())
    end)

    luv("is closed when nobody waits any more for it to be open", function()
      assert.matches("no", edited.refusal(dev))
      assert.equal("0", closed())
      open_fifo()
      for _ = 1, 500 do
        if closed() == "1" then break end
        os.execute "sleep 0.01"
      end
      assert.equal(0, left())
      assert.equal("1", closed())
    end)
  end)
end)
