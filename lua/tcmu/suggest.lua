--- The nearest known word to one that is not known.
--
-- Every place that refuses an unknown name ends its message with
-- "did you mean ...", so that a slip of the pen costs one look.  Pure Lua; only
-- ever runs on the way to an error.

local suggest = {}

-- Levenshtein distance, with a swap of two neighbours counted as one step.
local function distance(a, b)
  local before, last, this = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    this[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(last[j] + 1, this[j - 1] + 1,
                            last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1)
         and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      this[j] = best
    end
    before, last, this = last, this, before
  end
  return last[#b]
end

--- The word nearest to `word`, or nil if none is near.  Each further argument
-- is an array of words or a table whose keys are words.
function suggest.nearest(word, ...)
  local best, least
  local limit <const> = math.max(1, #word // 3)
  local function try(candidate)
    if type(candidate) ~= "string" then return end
    local d = distance(word:lower(), candidate:lower())
    if d <= limit and (not least or d < least
                       or d == least and candidate < best) then
      best, least = candidate, d
    end
  end
  for _, words in ipairs { ... } do
    for key, value in pairs(words) do
      try(type(key) == "string" and key or value)
    end
  end
  return best
end

--- ", did you mean 'x'?" or the empty string.
function suggest.hint(word, ...)
  local best = suggest.nearest(tostring(word), ...)
  return best and (", did you mean '%s'?"):format(best) or ""
end

return suggest
