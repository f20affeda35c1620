-- list_push: append to a list and drop the oldest beyond its cap.
--
-- KEYS[1]  list key
-- KEYS[2]  sequence key: the number of the newest item ever pushed
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3..]  items, oldest first
-- Returns  {length afterwards, items dropped, sequence number of the newest item}
-- Retry    unsafe: a repetition pushes again
local list, sequence, cap, ttl = KEYS[1], KEYS[2], tonumber(ARGV[1]), ARGV[2]
local call = redis.call
local count = #ARGV - 2

local last = call('GET', sequence)  -- before anything is written: a key of another type ends it here
local length = call('RPUSH', list, unpack(ARGV, 3))
local number
if length > count and last then
  number = call('INCRBY', sequence, count)
else
  -- A new list starts at the time, so that a reader of the one before it notices.
  local clock = call('TIME')
  local first = math.max(tonumber(last or 0) + 1, clock[1] * 1000000 + clock[2])
  number = first + count - 1
  call('SET', sequence, number, 'KEEPTTL')
end
local dropped = 0
if length > cap then
  dropped = length - cap
  call('LTRIM', list, -cap, -1)
  length = cap
end
if ttl ~= '' then
  call('PEXPIRE', list, ttl)
  -- The numbers outlive the items by a week, so that they do not go back while a reader may remember them.
  call('PEXPIRE', sequence, ttl + 604800000)
end
return {length, dropped, number}
