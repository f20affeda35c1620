-- list_read: items with their numbers: the newest, or those after a number; and to be woken when there are more, if asked to.
--
-- KEYS[1]  list key
-- KEYS[2]  record key, as in list_append
-- KEYS[3]  times key, as in list_append
-- ARGV[1]  the number after which to read, or '' for the newest items
-- ARGV[2]  the most items to answer
-- ARGV[3..n]  only to be woken: an id, a channel, for how long, milliseconds
-- Returns  {number of the newest item, 0 without a record; how many have gone between that number and the first of these, 0 after number 0;
--          number of the first of these; these items, oldest first}
-- Retry    safe: a repetition reads, and asks for the same again
local list, sequence, times, after, limit, id, channel, interest = KEYS[1], KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local call = redis.call
local record = call('GET', sequence)
local last, bytes, age, waiting = string.match(record or '0', '^(%d+) ?([%d-]*) ?([%d-]*)(.*)$')
if not last then return redis.error_reply('WRONGTYPE the record of the list is none') end
last = tonumber(last)
local length = call('LLEN', list)
local clock = call('TIME')
local ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A list that has lost its record has items without numbers: to be read by number once it has one, with the next push.
if last == 0 and after == '' then last = length end
local gone = last - math.min(length, last)
if tonumber(age) then
  -- How many pushes are too old, by halves: nothing is removed by a reader.
  local low, high = 0, call('LLEN', times)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local born, number = string.match(call('LINDEX', times, middle), '^(%d+) (%d+)$')
    if born + age > ms then
      high = middle
    else
      low = middle + 1
      gone = math.min(math.max(gone, tonumber(number)), last)
    end
  end
end

local first
if after == '' then
  first = math.max(gone, last - limit) + 1
else
  first = math.max(gone, tonumber(after)) + 1
end
local missed = tonumber(after) or 0
missed = missed > 0 and math.max(gone - missed, 0) or 0
local items, size = {}, 0
local at = first - 1 - (last - length)
local stop = math.min(at + limit, length)
while at < stop do
  for _, item in ipairs(call('LRANGE', list, at, math.min(at + 128, stop) - 1)) do
    items[#items + 1] = item
    size = size + #item
  end
  at = at + 128
  -- The newest are asked for by their number; of others there is enough for now.
  if after ~= '' and size > 8388608 then break end
end

if id and #items == 0 and missed == 0 then
  local others = ''
  for entry, till, who in string.gmatch(waiting, '(\n(%d+) (%S+) [^\n]+)') do
    if who ~= id and tonumber(till) > ms then others = others .. entry end
  end
  local function dash(text) return text == '' and '-' or text end
  local marked = string.format('%.0f %s %s%s\n%.0f %s %s', last, dash(bytes), dash(age), others, ms + interest, id, channel)
  -- On a full server it waits all the same, and looks by itself.
  if last == 0 then
    redis.pcall('SET', sequence, marked, 'PX', 60000)
  else
    redis.pcall('SET', sequence, marked, 'KEEPTTL')
  end
end
return {last, missed, first, items}
