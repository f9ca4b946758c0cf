--- The jobs, and one fio that runs one of them on disk after disk.

local guest = require "spec.vm.guest"

local fio = {}

-- Depth 1 shows latency, 32 throughput, 1 MiB the copying.  `least` is how many
-- times tcmu-runner's rate ours should be, without and with polling; `aim` what
-- would be better still.  `alike` is the least where its requests are as large as
-- ours, so that both do the same two copies: then `least` is the aim.
--
-- `from` is where a sequence begins.  Were it at 0, the pages of a disk in memory
-- and those of the ring's data, which both lie at multiples of 1 MiB, would go
-- hand in hand, and QEMU has one place for all addresses that are so alike: by
-- chance a copy then took thrice the time, for seconds.
local JOBS <const> = {
  { name = "randread 4k d1", rw = "randread", kib = 4, depth = 1,
    least = 1.3, least_polling = 2.5 },
  { name = "randwrite 4k d1", rw = "randwrite", kib = 4, depth = 1,
    least = 1.3, least_polling = 2.5 },
  { name = "randread 4k d32", rw = "randread", kib = 4, depth = 32,
    least = 1, least_polling = 1, aim = 1.15 },
  { name = "randwrite 4k d32", rw = "randwrite", kib = 4, depth = 32,
    least = 1, least_polling = 1, aim = 1.15 },
  { name = "read 1m d4", rw = "read", kib = 1024, depth = 4, from = "64k",
    least = 1.2, least_polling = 1.2, alike = 1 },
  { name = "write 1m d4", rw = "write", kib = 1024, depth = 4, from = "64k",
    least = 1.2, least_polling = 1.2, alike = 1 },
}

-- Where fio's terse format, version 3, has them: read, then write.
local FIELDS <const> = { { kib = 6, ms = 9 }, { kib = 47, ms = 50 } }

--- Those whose names match a pattern.
function fio.jobs(pattern)
  local chosen = {}
  for _, job in ipairs(JOBS) do
    if job.name:find(pattern) then chosen[#chosen + 1] = job end
  end
  return chosen
end

local COMMON <const> = "fio --minimal --terse-version=3 --thread --direct=1 " ..
  "--ioengine=libaio --gtod_reduce=1 --randrepeat=0 --norandommap "

local function parse(line, job)
  local fields, rate = {}, 0

  for field in (line .. ";"):gmatch "([^;]*);" do
    fields[#fields + 1] = field
  end
  if fields[5] ~= "0" then error("fio failed: " .. line, 0) end
  for _, at in ipairs(FIELDS) do
    local ms = tonumber(fields[at.ms])
    if ms > 0 then rate = rate + fields[at.kib] / job.kib / ms * 1000 end
  end
  return fields[3], rate
end

--- Runs a job on each of the disks in their order.
-- @return { [name of the disk] = requests per second }
function fio.run(job, disks, seconds)
  local command = { (COMMON .. "--time_based --runtime=%d --rw=%s --bs=%dk " ..
    "--iodepth=%d --offset=%s"):format(seconds, job.rw, job.kib, job.depth,
    job.from or "0") }
  local rates = {}

  for _, disk in ipairs(disks) do
    command[#command + 1] = ("--name=%s --filename=%s --stonewall %s"):format(
      guest.quote(disk.name), disk.path,
      disk.cpu and "--cpus_allowed=" .. disk.cpu or "")
  end
  local output = guest.sh_within(60 + #disks * (seconds + 20),
    table.concat(command, " "))
  for line in output:gmatch "[^\n]+" do
    if line:find "^3;fio" then
      local name, rate = parse(line, job)
      rates[name] = rate
    end
  end
  return rates
end

--- So many reads of 4 KiB from a disk, one at a time.
function fio.read_some(disk, count)
  guest.sh(COMMON .. "--rw=randread --bs=4k --iodepth=1 --number_ios=%d " ..
    "--name=some --filename=%s", count, disk.path)
end

return fio
