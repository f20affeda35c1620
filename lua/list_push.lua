-- list_push: append to a list and drop the oldest beyond its cap.
--
-- KEYS[1]  list key
-- KEYS[2]  record key: the number of the newest item ever pushed; behind it, at times, more: see list_append
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3..]  items, oldest first
-- Returns  {length afterwards, items dropped, sequence number of the newest item}; nil when the list has caps by bytes or age: nothing was
--          done, and list_append must do it
-- Retry    unsafe: a repetition pushes again
local list, sequence, cap, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local call = redis.call
local count = #ARGV - 2

-- The one call that takes the number, and finds out whether there is more to do: it fails, and changes nothing, when the record says more.
local number, last, waiting
if count == 1 then number = redis.pcall('INCRBY', sequence, '1') else number = redis.pcall('INCRBY', sequence, count) end
if type(number) == 'table' then
  local record = call('GET', sequence) or ''
  last, waiting = string.match(record, '^(%d+) %- %-(.*)$')
  if not last then
    if string.match(record, '^%d+ [%d-]+ [%d-]+') then return false end
    return number
  end
  number = last + count
end
local length
if count == 1 then length = redis.pcall('RPUSH', list, ARGV[3]) else length = redis.pcall('RPUSH', list, unpack(ARGV, 3)) end
if type(length) == 'table' then
  if number == count and not waiting then
    call('DEL', sequence)
  elseif not waiting then
    call('INCRBY', sequence, -count)
  end
  return length
end

local fresh = length == count or number == count
if fresh then
  -- A new list starts at the time, so that a reader of the one before it notices.
  local clock = call('TIME')
  number = math.max(number, clock[1] * 1000000 + clock[2] + count - 1)
end
if last == '0' or fresh and number == count then
  call('SET', sequence, number)
elseif fresh or waiting then
  call('SET', sequence, number, 'KEEPTTL')
end
local dropped = length - cap
if dropped > 0 then
  -- One costs less so.
  if dropped == 1 then call('LPOP', list) else call('LTRIM', list, dropped, -1) end
  length = length - dropped
else
  dropped = 0
end
if ttl ~= '' then
  call('PEXPIRE', list, ttl)
  -- The record outlives the items by a week, so that numbers do not go back while a reader may remember them. It is told so at every 16th
  -- item, since 16 pushes that each come within the list's time come within 16 times that.
  if fresh or number % 16 < count then call('PEXPIRE', sequence, 16 * ttl + 604800000) end
end
if waiting then
  for id, channel in string.gmatch(waiting, '\n%d+ (%S+) ([^\n]+)') do redis.pcall('PUBLISH', channel, id .. ' pushed') end
end
return {length, dropped, number}
