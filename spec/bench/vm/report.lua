--- Medians, ratios and what they should be; as a table and as JSON.
--
-- A ratio is the median of those within each round, since neighbours in time
-- had the same machine.

local report = {}

-- Ours, what it is held against, and how.  The floors against themselves come
-- first: their spread is what a target at the floor allows for.  A disk that is
-- not there leaves its pairs out.
local PAIRS <const> = {
  { "floor again", "floor" },
  { "floor+poll again", "floor+poll" },
  { "ram", "floor", spread = 1 },
  { "file", "floor file", spread = 1 },
  { "ram+poll", "floor+poll", spread = 2 },
  { "file+poll", "floor file+poll", spread = 2 },
  { "ram", "runner", least = "least", alike = true },
  { "file", "runner", least = "least", alike = true },
  { "ram+poll", "runner", least = "least_polling", alike = true },
  { "file+poll", "runner", least = "least_polling", alike = true },
  { "ram", "runner 64k", least = "least" },
  { "file", "runner 64k", least = "least" },
  { "ram+poll", "runner 64k", least = "least_polling" },
  { "file+poll", "runner 64k", least = "least_polling" },
  { "ram", "ramdisk" },
  { "file", "fileio" },
  { "ram+poll", "ramdisk" },
  { "file+poll", "fileio" },
  { "hw_max_sectors=128", "ram" },
  { "hw_max_sectors=512", "ram" },
  { "data_pages_per_blk=16", "ram" },
  { "data_pages_per_blk=256", "ram" },
  { "max_data_area_mb=2", "ram" },
  { "poll-limit 200", "ram" },
  { "poll-limit 2000", "ram" },
  { "same cpu", "other cpu" },
  { "2 on 2 shards", "2 on 1 shard" },
  { "file inline", "file" },
  { "file no cache", "file" },
}

-- Level with the floor is this much of it less its spread, but never below.
local LEVEL <const>, LOWEST <const> = 0.95, 0.9
-- Equals that are further apart were not measured on a quiet machine.
local QUIET <const> = 0.1

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  local middle = (#sorted + 1) // 2

  table.sort(sorted)
  if #sorted % 2 == 1 then return sorted[middle] end
  return (sorted[middle] + sorted[middle + 1]) / 2
end

local function ratio(of, to)
  local ratios = {}
  for round, rate in ipairs(of) do ratios[round] = rate / to[round] end
  return median(ratios)
end

-- What a ratio should be, and what would be better still.
local function target(pair, job, spreads)
  if pair.alike and job.alike then return job.alike, job[pair.least] end
  if pair.least then return job[pair.least], job.aim end
  if not (pair.spread and spreads[pair.spread]) then return nil end
  return math.max(LEVEL - spreads[pair.spread], LOWEST)
end

local function ratios_of(job, rates)
  local list, spreads = {}, {}

  for i, pair in ipairs(PAIRS) do
    local of, to = rates[pair[1]], rates[pair[2]]
    if of and to then
      local value = ratio(of, to)
      spreads[i] = math.abs(1 - value)
      local least, aim = target(pair, job, spreads)
      list[#list + 1] = {
        of = pair[1], to = pair[2], ratio = value, target = least,
        reached = least and value >= least, aim = aim,
        spread = spreads[pair.spread],
      }
    end
  end
  return list
end

--- All that is known, in one table ready for JSON.
-- @param results  [job][disk] = list of rates, one a round
function report.evaluate(options, jobs, disks, results)
  local answer = { options = options, jobs = {}, disks = {} }

  for i, disk in ipairs(disks) do
    answer.disks[i] = { name = disk.name, write_cache = disk.cached }
  end
  for i, job in ipairs(jobs) do
    local rates = results[job.name]
    local medians = {}
    for name, list in pairs(rates) do medians[name] = median(list) end
    answer.jobs[i] = { name = job.name, samples = rates, medians = medians,
                       ratios = ratios_of(job, rates) }
  end
  return answer
end

local JSON <const> = { ["nil"] = tostring, boolean = tostring }

function JSON.string(s) return ("%q"):format(s) end
function JSON.number(n) return ("%.6g"):format(n) end

function JSON.table(t)
  local parts = {}
  if #t > 0 then
    for i, value in ipairs(t) do parts[i] = report.json(value) end
    return "[" .. table.concat(parts, ", ") .. "]"
  end
  for name, value in pairs(t) do
    parts[#parts + 1] = ("%q: %s"):format(name, report.json(value))
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ",\n") .. "}"
end

--- A value as JSON; strings are names without anything to escape.
function report.json(value) return JSON[type(value)](value) end

local function row(title, cells)
  for i, cell in ipairs(cells) do cells[i] = ("%8s"):format(cell) end
  return ("%-30s%s\n"):format(title, table.concat(cells))
end

local function ratio_row(answer, pair)
  local title = pair[1] .. " / " .. pair[2]
  local cells, found = {}, false

  for i, job in ipairs(answer.jobs) do
    cells[i] = "-"
    for _, r in ipairs(job.ratios) do
      if r.of == pair[1] and r.to == pair[2] then
        local mark = r.reached == nil and " " or r.reached and "+" or "!"
        cells[i], found = ("%.2f%s"):format(r.ratio, mark), true
      end
    end
  end
  return found and row(title, cells) or ""
end

local function verdict(r)
  if not r.reached then return "missed" end
  if r.aim and r.ratio < r.aim then
    return ("met, short of the aim %.2f"):format(r.aim)
  end
  return "met"
end

-- Each target by itself, the misses counted.
local function verdicts(answer)
  local lines, all, missed, apart = {}, 0, 0, 0

  for _, job in ipairs(answer.jobs) do
    for _, r in ipairs(job.ratios) do
      if r.target then
        all, missed = all + 1, missed + (r.reached and 0 or 1)
        apart = math.max(apart, r.spread or 0)
        lines[#lines + 1] = ("%-17s %-28s%5.2f >= %.2f %s%s\n"):format(
          job.name, r.of .. " / " .. r.to, r.ratio, r.target, verdict(r),
          r.spread and (" (floors: %.0f %% apart)"):format(
            100 * r.spread) or "")
      end
    end
  end
  if all == 0 then return "" end
  return ("\nTargets: %d of %d met, %d missed%s\n"):format(all - missed, all,
    missed, apart > QUIET and "; the floors are too far apart for a verdict:" ..
    "\nrepeat this on a quiet machine, in more rounds" or "") ..
    table.concat(lines)
end

--- The same for people.
function report.table(answer)
  local o = answer.options
  local lines = { ("Requests per second: medians of %d rounds of %d s, " ..
    "tcm_loop, libaio, direct;\n4k at random.  Files on %s; who polls does " ..
    "so for up to %d us.\n\n"):format(o.rounds, o.seconds, o.dir, o.window) }
  local first, second = {}, {}

  for i, job in ipairs(answer.jobs) do
    first[i], second[i] = job.name:gsub("^rand", ""):match "^(%S+) (.*)$"
  end
  lines[#lines + 1] = row("", first) .. row("", second)
  for _, disk in ipairs(answer.disks) do
    local cells = {}
    for i, job in ipairs(answer.jobs) do
      cells[i] = ("%.0f"):format(job.medians[disk.name])
    end
    lines[#lines + 1] = row(("%-24sWCE=%d"):format(disk.name,
      disk.write_cache and 1 or 0), cells)
  end
  lines[#lines + 1] = "\nRatios (+ reaches its target, ! does not):\n"
  for _, pair in ipairs(PAIRS) do
    lines[#lines + 1] = ratio_row(answer, pair)
  end
  lines[#lines + 1] = verdicts(answer)
  return table.concat(lines)
end

return report
