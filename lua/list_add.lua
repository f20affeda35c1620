-- list_add: append to a plain list, of which nothing else is kept, and drop the oldest beyond its cap.
--
-- KEYS[1]  list key
-- ARGV[1]  the most items to keep
-- ARGV[2]  time to live in milliseconds, or '' to leave it alone
-- ARGV[3..]  items, oldest first
-- Returns  the length before anything was dropped
-- Retry    unsafe: a repetition pushes again
local list, call = KEYS[1], redis.call
local length
if ARGV[4] then length = call('RPUSH', list, unpack(ARGV, 3)) else length = call('RPUSH', list, ARGV[3]) end
local dropped = length - ARGV[1]
-- One costs less so.
if dropped == 1 then call('LPOP', list) elseif dropped > 1 then call('LTRIM', list, dropped, -1) end
if ARGV[2] ~= '' then call('PEXPIRE', list, ARGV[2]) end
return length
