-- list_push: append to a list and drop the oldest beyond its cap.
--
-- KEYS[1]  list key
-- KEYS[2]  record key: the number of the newest item ever pushed, marked when somebody waits; behind it, at times, more: see list_append
-- KEYS[3]  followers key, as in include/list_wake.lua
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3..]  items, oldest first
-- Returns  {length before anything was dropped, sequence number of the newest item}; the number alone when as many were dropped as came; nil
--          when the list has caps by bytes or age: nothing was done, and list_append must do it
-- Retry    unsafe: a repetition pushes again
local list, sequence, cap, ttl, call = KEYS[1], KEYS[2], ARGV[1], ARGV[2], redis.call
local count, length, number = #ARGV - 2
if count == 1 then
  length = call('RPUSH', list, ARGV[3])
  number = redis.pcall('INCRBY', sequence, '1')
else
  length = call('RPUSH', list, unpack(ARGV, 3))
  number = redis.pcall('INCRBY', sequence, count)
end
if type(number) == 'table' then
  -- The record says more than a number, or is none. What was appended is taken off again, which costs less than to look first.
  call('LTRIM', list, 0, -1 - count)
  if string.match(call('GET', sequence) or '', '^%d+ [%d-]+ [%d-]+$') then return false end
  return number
end

-- The mark that somebody waits is added to the number, which stays one that INCRBY takes and a double holds exactly. Numbers are microseconds
-- of the server's clock, and below the mark until the year 2096.
local waited = number > 4000000000000000
if waited then number = number - 4000000000000000 end
local fresh = length == count or number == count
if fresh then
  -- A new list starts at the time, so that a reader of the one before it notices.
  local clock, known = call('TIME'), number > count
  number = math.max(number, clock[1] * 1000000 + clock[2] + count - 1)
  if known then call('SET', sequence, number, 'KEEPTTL') else call('SET', sequence, number) end
elseif waited then
  call('INCRBY', sequence, '-4000000000000000')
end
local dropped = length - cap
-- One costs less so.
if dropped == 1 then call('LPOP', list) elseif dropped > 1 then call('LTRIM', list, dropped, -1) end
if ttl ~= '' then
  call('PEXPIRE', list, ttl)
  -- The record outlives the items by a week, so that numbers do not go back while a reader may remember them. It is told so at every 16th
  -- item, since 16 pushes that each come within the list's time come within 16 times that.
  if fresh or number % 16 < count then call('PEXPIRE', sequence, 16 * ttl + 604800000) end
end
if waited then
  local followers = KEYS[3]
  -- include list_wake
end
-- The usual case; a table costs more than half a command.
if dropped == count then return number end
return {length, number}
