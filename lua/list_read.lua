-- list_read: items with their numbers: the newest, or those after a number; and to be woken when there are more, if asked to.
--
-- KEYS[1]  list key
-- KEYS[2]  record key, as in list_append
-- KEYS[3]  times key, as in list_append
-- KEYS[4]  followers key, as in include/list_wake.lua
-- ARGV[1]  the number after which to read, or '' for the newest items
-- ARGV[2]  the most items to answer
-- ARGV[3..n]  only to be woken: the message, at most 255 bytes; a channel, sharded if there is a '{' in it; for how long, milliseconds
-- Returns  {number of the newest item, 0 without a record; how many have gone between that number and the first of these, 0 after number 0;
--          number of the first of these; these items, oldest first}
-- Retry    safe: a repetition reads, and asks for the same again
local list, sequence, times, followers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local after, limit, message, channel, interest = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local call = redis.call
local record = call('GET', sequence)
local last, more, age = string.match(record or '0', '^(%d+)( ?[%d-]* ?([%d-]*))$')
if not last then return redis.error_reply('WRONGTYPE the record of the list is none') end
last = tonumber(last)
local waited = last >= 4e15
last = last % 4e15
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

if message and #items == 0 and missed == 0 then
  -- Whoever stands there without the mark on the record has been woken.
  local mine, others = message .. channel, ''
  local waiting, at = waited and call('GET', followers) or '', 1
  while at < #waiting do
    local size, high, low = string.byte(waiting, at, at + 2)
    local following = at + 16 + size + high * 256 + low
    if tonumber(string.sub(waiting, at + 3, at + 15)) > ms and string.sub(waiting, at + 16, following - 1) ~= mine then
      others = others .. string.sub(waiting, at, following - 1)
    end
    at = following
  end
  local place = string.char(#message, math.floor(#channel / 256), #channel % 256) .. string.format('%013.0f', ms + interest)
  -- On a full server it waits all the same, and looks by itself.
  redis.pcall('SET', followers, others .. place .. mine, 'PX', interest)
  if last == 0 then
    redis.pcall('SET', sequence, '4000000000000000', 'PX', 60000)
  elseif not waited then
    redis.pcall('SET', sequence, string.format('%.0f', last + 4e15) .. more, 'KEEPTTL')
  end
end
return {last, missed, first, items}
