--- Where the time of a command goes: the kernel's own trace of reads of 4 KiB,
--- one at a time, from who answers each before the next comes.
--
--   initiator --> copy in --> wake-up --> program --> back --> initiator

local guest = require "spec.vm.guest"

local fio = require "spec.bench.vm.fio"

local trace = {}

local TRACING <const> = "/sys/kernel/tracing/"
local COMMANDS <const> = 2000
local EVENTS <const> = {
  { "target/target_sequencer_start" }, { "target/target_cmd_complete" },
  { "sched/sched_waking", "pid == %s" }, { "sched/sched_switch",
                                           "next_pid == %s" },
  { "raw_syscalls/sys_enter", "common_pid == %s" },
  { "raw_syscalls/sys_exit", "common_pid == %s" },
}
-- Of x86-64.
local CALLS <const> = {
  [0] = "read", [1] = "write", [7] = "poll", [202] = "futex",
  [232] = "epoll_wait", [271] = "ppoll", [281] = "epoll_pwait",
  [295] = "preadv", [327] = "preadv2",
}
local WRITE <const> = 1
local SLEEPS <const> = { [7] = true, [202] = true, [232] = true, [271] = true,
                         [281] = true }

local STAGES <const> = {
  { "comes", "wakes", "the kernel puts it on the ring" },
  { "wakes", "runs", "a thread is woken" },
  { "runs", "tells", "the program, until its write()" },
  { "tells", "done", "the kernel takes the answer" },
  { "done", "next", "the initiator, until the next" },
  { "comes", "next", "altogether" },
}

local function set(name, value) guest.write_file(TRACING .. name, value) end

local function filter(template, tids)
  local parts = {}
  for i, tid in ipairs(tids) do parts[i] = template:format(tid) end
  return table.concat(parts, " || ")
end

-- The trace of a load on a disk, as text.
local function record(disk, tids)
  set("trace", "")
  set("buffer_size_kb", "16384")
  for _, event in ipairs(EVENTS) do
    local dir = "events/" .. event[1]
    if event[2] then set(dir .. "/filter", filter(event[2], tids)) end
    set(dir .. "/enable", "1")
  end
  set("tracing_on", "1")
  fio.read_some(disk, COMMANDS)
  set("tracing_on", "0")
  for _, event in ipairs(EVENTS) do
    set("events/" .. event[1] .. "/enable", "0")
  end
  return guest.read_file(TRACING .. "trace")
end

-- --- what it tells ----------------------------------------------------------

-- What each event adds to what is known; `seen.command` is under way.
local on = {}

function on.target_sequencer_start(seen, time, cpu)
  if seen.command then
    seen.command.next = time
    seen.commands[#seen.commands + 1] = seen.command
  end
  seen.command = { comes = time, cpu = cpu }
  seen.count = seen.count + 1
end

function on.sched_waking(seen, time)
  seen.command.wakes = seen.command.wakes or time
  seen.wakeups = seen.wakeups + 1
end

function on.sched_switch(seen, time, cpu)
  local c = seen.command
  if c.wakes and not c.runs then c.runs, c.same = time, cpu == c.cpu end
end

-- The last write() before the end is that of the answer.
function on.sys_enter(seen, time, _, call, tid)
  local c = seen.command
  seen.calls[call] = (seen.calls[call] or 0) + 1
  seen.began[tid] = time
  if call == WRITE and not c.done then c.tells = time end
end

function on.sys_exit(seen, time, _, call, tid)
  if seen.began[tid] then
    seen.took[call] = (seen.took[call] or 0) + time - seen.began[tid]
  end
end

function on.target_cmd_complete(seen, time)
  seen.command.done = seen.command.done or time
end

local function read(text)
  local seen = { commands = {}, calls = {}, took = {}, began = {},
                 wakeups = 0, count = 0 }

  for line in text:gmatch "[^\n]+" do
    -- "  comm-PID  [001] d..2.  12.345678: event: ..."
    local tid, cpu, time, event, rest =
      line:match "%-(%d+)%s+%[(%d+)%]%s+%S+%s+([%d.]+): ([%w_]+): (.*)"
    if event and on[event] and
       (seen.command or event == "target_sequencer_start") then
      on[event](seen, tonumber(time) * 1e6, cpu,
        tonumber(rest:match "^NR (%d+)"), tid)
    end
  end
  return seen
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- Of the commands that were served on the processor that sent them, or of the
-- others.
local function stage(seen, same, from, to)
  local took = {}
  for _, c in ipairs(seen.commands) do
    if c.same == same and c[from] and c[to] then
      took[#took + 1] = c[to] - c[from]
    end
  end
  return median(took), #took
end

local function calls(seen)
  local numbers, lines = {}, {}
  for number in pairs(seen.calls) do numbers[#numbers + 1] = number end
  table.sort(numbers, function(a, b) return seen.calls[a] > seen.calls[b] end)
  for _, number in ipairs(numbers) do
    local each = seen.calls[number] / seen.count
    if each > 0.01 then
      lines[#lines + 1] = ("  %5.2f %-12s %s\n"):format(each,
        CALLS[number] or "call " .. number,
        SLEEPS[number] and "" or ("%.1f us each"):format(
        (seen.took[number] or 0) / seen.calls[number]))
    end
  end
  return table.concat(lines)
end

local function figure(us)
  return us and ("%7.0f us"):format(us) or "      -   "
end

local function tell(disk, seen)
  local lines = { ("%s: %d commands; %.2f wake-ups and these system calls " ..
    "for each:\n"):format(disk.name, seen.count, seen.wakeups / seen.count),
    calls(seen) }

  for _, s in ipairs(STAGES) do
    local here, times = stage(seen, true, s[1], s[2])
    local there, others = stage(seen, false, s[1], s[2])
    if s == STAGES[1] then
      lines[#lines + 1] = ("  %7d    %7d     so often on one, on two " ..
        "processors\n"):format(times, others)
    end
    lines[#lines + 1] = ("  %s %s  %s\n"):format(figure(here), figure(there),
      s[3])
  end
  return table.concat(lines)
end

--- Follows the commands of each disk; the text says what came of it.
function trace.report(disks)
  local lines = { "Random reads of 4 KiB, one at a time, while they are " ..
    "traced, which slows them; medians.\n" }

  guest.sh("mountpoint -q %s || mount -t tracefs tracefs %s", TRACING, TRACING)
  for _, disk in ipairs(disks) do
    local text = record(disk, guest.names(("/proc/%d/task"):format(disk.pid)))
    guest.write_file("/tmp/trace-" .. disk.name, text)
    guest.sh("gzip -c /tmp/trace-%s >/results/trace-%s.gz", disk.name,
      disk.name)
    lines[#lines + 1] = tell(disk, read(text))
  end
  return table.concat(lines, "\n")
end

return trace
