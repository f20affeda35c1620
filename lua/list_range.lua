-- list_range: items by their place among those that are not too old.
--
-- KEYS[1]  list key
-- KEYS[2]  record key, as in list_append
-- KEYS[3]  times key, as in list_append
-- ARGV[1]  the first place, 0 the oldest, -1 the newest
-- ARGV[2]  the last place, included
-- ARGV[3]  the greatest age, milliseconds
-- Returns  the items, oldest first
-- Retry    safe: it writes nothing
local list, first, last, age = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local call = redis.call
local length = call('LLEN', list)
local newest = (string.match(call('GET', KEYS[2]) or '', '^%d+') or length) % 4e15
local clock = call('TIME')
local before = clock[1] * 1000 + math.floor(clock[2] / 1000) - age
-- How many pushes are too old, by halves.
local gone, low, high = 0, 0, call('LLEN', KEYS[3])
while low < high do
  local middle = math.floor((low + high) / 2)
  local born, number = string.match(call('LINDEX', KEYS[3], middle), '^(%d+) (%d+)$')
  if tonumber(born) > before then
    high = middle
  else
    low = middle + 1
    gone = math.max(gone, number - (newest - length))
  end
end
local left = length - gone
if first < 0 then first = math.max(left + first, 0) end
if last < 0 then last = left + last end
if left <= 0 or last < first then return {} end
return call('LRANGE', list, string.format('%.0f', first + gone), string.format('%.0f', math.min(last, left) + gone))
